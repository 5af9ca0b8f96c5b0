"""Reruns of recorded runs, here or in their own code and packages: comparison, verdict, and what changed."""
