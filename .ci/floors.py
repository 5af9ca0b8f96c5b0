"""Print the lowest versions that pyproject.toml allows, as pip's constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

EXTRAS = [extra for name, extra in PROJECT["optional-dependencies"].items() if name != "dev"]  # dev: only our tools

for requirement in (*PROJECT["dependencies"], *(one for extra in EXTRAS for one in extra)):
    found = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,.*)?", requirement)
    if found is None:
        raise SystemExit(f"{requirement}: names no lowest version; write it as {requirement.split('=')[0]}>=VERSION")
    print(f"{found[1]}=={found[2]}")  # the very version: >=2.2 takes 2.2.0 as well
