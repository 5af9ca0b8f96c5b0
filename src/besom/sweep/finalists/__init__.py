"""Finalists: the best trials, trained again with several seeds."""
