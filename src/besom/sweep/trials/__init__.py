"""The trials of a sweep: scheduled, given to workers, and recorded in the study and in MLflow."""
