"""Worker processes: device slots, messages, the pool, the worker's loop, the fork server, ranks."""
