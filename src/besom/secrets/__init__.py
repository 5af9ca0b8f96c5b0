"""Secrets, which are masked before anything is recorded."""
