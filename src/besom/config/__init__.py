"""A trial's config: schema, files, checks, `_target_` nodes, trust in recorded configs, and errors as one line."""
