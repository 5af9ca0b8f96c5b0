"""Predictions of a recorded model: reading the inputs, and writing the predictions."""
