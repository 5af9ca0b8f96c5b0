"""MLflow: the recorder, provenance, figures, and reading runs back. Only the parent process imports it."""
