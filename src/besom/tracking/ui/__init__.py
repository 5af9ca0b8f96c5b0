"""`besom ui`: MLflow's web app with Besom's views."""
