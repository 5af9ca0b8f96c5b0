"""A report as text: on the terminal, and in MLflow's description of a run."""
