"""The progress of a sweep: observers for the terminal and for the log file."""
