"""The studies of a storage: the list of them, and a study's best trial as an experiment file."""
