"""Predictions of a recorded model: what it is asked about, and where its answers go."""
