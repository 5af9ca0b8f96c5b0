"""The Optuna study: its storage, samplers and lock, and how a sweep resumes it."""
