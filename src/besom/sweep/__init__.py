"""A sweep: its search space, its study, and the loop that asks for trials, dispatches them and records results."""
