"""The Optuna study of a sweep: its storage, samplers, pruner and lock, and its recovery after a crash."""
