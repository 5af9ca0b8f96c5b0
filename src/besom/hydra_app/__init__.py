"""Sweeps of any Hydra app: its jobs, their workers or launchers, and the values that they report."""
