"""The recorder: writes runs to MLflow in the background while trials train."""
