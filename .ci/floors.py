"""Print the lowest versions that pyproject.toml allows, as pip's constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

for requirement in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["mnist"]):
    found = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,.*)?", requirement)
    if found is None:
        raise SystemExit(f"{requirement}: names no lowest version; write it as {requirement.split('=')[0]}>=VERSION")
    print(f"{found[1]}=={found[2]}.*" if found[2].count(".") < 2 else f"{found[1]}=={found[2]}")
