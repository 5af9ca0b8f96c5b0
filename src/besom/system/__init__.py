"""The machine: processes, signals, locks, SQLite files, hardware, the terminal, URLs and git."""
