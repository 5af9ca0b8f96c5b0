"""An app in other processes: its main script, its pickled form, and its task function under another launcher."""
