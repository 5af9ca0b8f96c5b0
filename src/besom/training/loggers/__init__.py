"""The logger of every trial, by which modules and callbacks reach the trial's own run."""
