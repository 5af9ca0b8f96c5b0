from __future__ import annotations

import ast
import re
from pathlib import Path

import besom
from besom.tracking.tags import StudyAttribute, Tag, TrialAttribute

PACKAGE = Path(besom.__file__).parent
PUBLIC = {*besom.__all__, *(path.stem for path in PACKAGE.iterdir())}


def spelled(path: Path) -> set[str]:
    """The names such as `besom.state` in a module's strings, docstrings aside, and no module or function of Besom."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    named = re.findall(r"\bbesom\.([a-z_]+)", " ".join(text for text in texts if isinstance(text, str)))
    return {name for name in named if name not in PUBLIC}


def test_tags_and_attributes_are_spelled_in_one_module() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): spelled(path) for path in PACKAGE.rglob("*.py")}
    assert found.pop("tracking/tags.py") > {"state", "trial", "spec"}
    assert {path: names for path, names in found.items() if names - {"yaml"}} == {}  # besom.yaml is a file


def test_no_two_names_are_the_same() -> None:
    for names in (Tag, StudyAttribute, TrialAttribute):
        values = [value for name, value in vars(names).items() if name.isupper()]
        assert len({*values}) == len(values)
