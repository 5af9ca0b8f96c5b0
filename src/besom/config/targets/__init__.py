"""`_target_` nodes: what they name must exist, and be allowed where a config comes from elsewhere."""
