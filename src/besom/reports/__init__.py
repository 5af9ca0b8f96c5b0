"""From a study to a leaderboard: who won, what mattered, what failed and why."""
