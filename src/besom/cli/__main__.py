"""`python -m besom.cli`, which works as the command `besom` does."""

from __future__ import annotations

import sys

from besom.cli import main

if __name__ == "__main__":
    sys.exit(main())
