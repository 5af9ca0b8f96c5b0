"""The training of one trial, from its config to its result."""
