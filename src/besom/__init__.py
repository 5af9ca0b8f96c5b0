"""Besom: hyperparameter sweeps that never idle."""

__version__ = "0.1.0"
