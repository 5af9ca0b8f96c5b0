"""The writers of MLflow runs: in bulk into a local SQLite store, or through MLflow's client."""
