"""Any Hydra app: how Besom sweeps it, and what its jobs report."""
