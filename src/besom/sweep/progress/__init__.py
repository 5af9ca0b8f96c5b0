"""The progress of a sweep: on the terminal, as a live view, and in its log."""
