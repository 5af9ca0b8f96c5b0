"""Reading the data of a report from the study and its runs."""
