"""Reports of studies: leaderboard, parameter importances, failures by cause."""
