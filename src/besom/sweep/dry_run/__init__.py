"""`besom sweep --dry-run`: the search space, the first trials, and the errors found before anything trains."""
