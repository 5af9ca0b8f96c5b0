"""The machine: processes, files, locks, hardware, the terminal and git."""
