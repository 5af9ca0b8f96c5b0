"""A class that another package imports."""

from __future__ import annotations


class Bystander:
    """Something that is defined here."""
