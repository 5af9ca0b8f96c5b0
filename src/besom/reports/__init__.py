"""From a study to what a person reads: leaderboard and next steps."""
