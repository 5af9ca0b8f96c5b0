"""Who may import whom: down the list of rooms only, and no torch in the parent process."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# Top to bottom: every room imports from the rows below its own only.
ROOMS = (
    "serving",  # what MLflow calls
    "hydra_plugins",
    "cli",
    "studies",
    "reproduce",
    "besom",  # the package's own face
    "predict",
    "hydra_app",
    "sweep",
    "reports",
    "tracking",
    "workers",
    "bundle",
    "training",
    "models",
    "data",
    "svg",
    "config",
    "system",
    "secrets",
    "version",
    "errors",
)
GROUND = {*ROOMS[ROOMS.index("svg") :]}
PARENT = {*ROOMS[: ROOMS.index("workers")]} - {"besom"}


@cache
def modules() -> Mapping[str, Path]:
    names = {".".join(path.relative_to(SRC).with_suffix("").parts): path for path in SRC.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, anywhere in its source: submodules of ours where it names them, else packages."""
    return frozenset(_imports(ast.parse(modules()[module].read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "absolute imports only"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


def room(module: str) -> str:
    """The package or the module right under `besom`; `besom` itself for the package's face."""
    package, _, rest = module.partition(".")
    return rest.split(".")[0] if package == "besom" and rest else package


def level(name: str) -> int:
    assert name in ROOMS, f"'{name}' is a new room: give it a place in ROOMS"
    return ROOMS.index(name)


def edges() -> list[tuple[str, str]]:
    """(module, imported module) for all of ours that lie in different rooms."""
    return [
        (module, target)
        for module in modules()
        for target in imports(module)
        if target in modules() and room(target) != room(module)
    ]


def reached_from(module: str) -> set[str]:
    """All modules that may be imported because of one, packages' own files included."""
    seen, waiting = {"besom"}, [module]  # its face imports in functions only, for users
    while waiting:
        name = waiting.pop()
        if name in seen or name not in modules():
            continue
        seen.add(name)
        waiting += imports(name)
        waiting.append(name.rpartition(".")[0])
    return seen


def test_every_room_has_one_place_and_exists() -> None:
    assert sorted(ROOMS) == sorted({room(module) for module in modules()})


def test_imports_go_down_only() -> None:
    upward = {(module, target) for module, target in edges() if level(room(target)) < level(room(module))}
    assert upward == set()


def test_no_module_is_part_of_a_circle() -> None:
    beneath = {module: imports(module) & modules().keys() - {module} for module in modules()}
    graphlib.TopologicalSorter(beneath).prepare()  # raises CycleError, which names the circle


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    folders = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    full = {str(folder.relative_to(SRC)): count for folder, count in folders.items() if count > 12}
    assert full == {}


def test_functions_have_at_most_fifty_lines_and_classes_two_hundred_and_twenty() -> None:
    limits = {ast.FunctionDef: 50, ast.AsyncFunctionDef: 50, ast.ClassDef: 220}
    long = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, tuple(limits))
                and (lines := (node.end_lineno or 0) - node.lineno + 1) > limits[type(node)]
            ):
                long[f"{module}.{node.name}"] = lines
    assert long == {}


def test_tracking_stands_beside_on_the_ground_alone() -> None:
    beneath = {room(target) for module, target in edges() if room(module) == "tracking"}
    assert beneath <= GROUND


def test_worker_reaches_neither_tracking_nor_the_sweep_nor_their_libraries() -> None:
    processes = ("workers.worker", "workers.fork_server_process", "workers.ddp", "hydra_app.task")
    reached = set().union(*(reached_from(f"besom.{process}") for process in processes))
    assert {"besom.training.fit", "besom.hydra_app.report"} <= reached
    above = PARENT - {"hydra_app"}  # what an app's job says, and the job itself, are there
    assert {"tracking", "sweep", "reports", "cli"} <= above
    assert not {room(module) for module in reached} & above
    libraries = {name.split(".")[0] for module in reached for name in imports(module)}
    assert "torch" in libraries
    assert not libraries & {"mlflow", "optuna", "sqlalchemy"}


@pytest.mark.parametrize("below", ["workers", "training", "models", "data"])
def test_rooms_of_a_trial_import_no_store(below: str) -> None:
    named = {name.split(".")[0] for module in modules() if room(module) == below for name in imports(module)}
    assert named
    assert not named & {"mlflow", "optuna", "sqlalchemy"}


def test_command_line_answers_without_heavy_imports() -> None:
    assert imported_with("besom.cli") & {"torch", "mlflow", "optuna", "pytorch_lightning"} == set()


def test_parent_of_a_sweep_imports_no_torch() -> None:
    parent = sorted(module for module in modules() if room(module) in PARENT - {"predict", "serving"})
    imported = imported_with(*parent, "besom.workers.pool", "besom.workers.devices")
    assert "optuna" in imported
    assert imported & {"torch", "pytorch_lightning", "torchvision", "mlflow", "matplotlib", "alembic"} == set()


def test_a_dry_run_looks_into_a_table_without_torch() -> None:
    assert "torch" not in imported_with("besom.data.tables.inspection")


def imported_with(*names: str) -> set[str]:
    """The top-level packages that a fresh Python has imported after these modules."""
    code = f"import sys, {', '.join(names)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())
