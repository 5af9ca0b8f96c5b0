"""Search space, study, and the loop that asks, dispatches and tells."""
