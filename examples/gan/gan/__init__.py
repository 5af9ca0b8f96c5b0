"""Handwritten digits, as a generator draws them."""
