"""The extras of a trial: callbacks and loggers, and what they add to its run."""
