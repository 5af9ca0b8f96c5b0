"""MLflow: the recorder, provenance, figures, and what is read back. Only the parent process imports it."""
