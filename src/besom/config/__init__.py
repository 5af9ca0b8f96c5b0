"""A trial's config: its schema, checks and files, what of it may be built, and errors in it as one line."""
