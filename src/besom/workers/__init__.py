"""Processes that train: device slots, messages, the pool, and the worker's own loop."""
