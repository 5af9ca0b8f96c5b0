"""What a report says, read from the study and its runs."""
