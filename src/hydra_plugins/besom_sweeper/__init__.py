"""Besom as a Hydra sweeper plugin."""
