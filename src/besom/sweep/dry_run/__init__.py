"""`besom sweep --dry-run`: the search space, the first trials, and what is wrong before anything trains."""
