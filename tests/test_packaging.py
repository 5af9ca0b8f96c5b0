"""What a user installs: the wheel, away from the checkout, and the lock it is installed with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user would, knowing nothing of this checkout; return what it prints."""
    ours = ("PYTHONPATH", "BESOM_", "HYDRA_", "MLFLOW_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a virtual environment that has the wheel, and borrows all else from the present one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel,
        cwd=folder,
    )  # fmt: skip
    site_packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # A .pth file appends: what is installed there comes first, and the .pth of our editable install is not read.
    Path(site_packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.mark.install
def test_wheel_holds_the_packages_with_every_config_and_sweep_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = [path for folder in ("conf", "sweeps") for path in (ROOT / folder).rglob("*.yaml")]
    assert {f"besom/{path.relative_to(ROOT)}" for path in shipped} <= names
    sources = [path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT / "src")) for path in sources} <= names
    assert {"besom/py.typed", "hydra_plugins/besom_sweeper/besom_sweeper.py"} <= names
    assert "hydra_plugins/__init__.py" not in names, "other plugins share that namespace"
    assert {name.split("/")[0] for name in names} == {"besom", "hydra_plugins", f"besom-{PROJECT['version']}.dist-info"}


@pytest.mark.install
def test_installed_besom_trains_and_sweeps_from_any_folder(bin_dir: Path, tmp_path: Path) -> None:
    where = run(
        bin_dir / "python", "-c", "import besom, hydra_plugins.besom_sweeper as p; print(besom, p)", cwd=tmp_path
    )
    assert where.count(str(bin_dir.parent)) == 2
    assert str(ROOT) not in where

    one = ("trainer=cpu", "trainer.max_epochs=1", "tracking=none")  # the sweep records
    assert run(bin_dir / "besom", "train", *one, cwd=tmp_path).endswith("\nrun none (tracking=none)\n")

    few = ("hydra.sweeper.n_trials=2", "trainer=cpu", "trainer.max_epochs=1")
    swept = run(bin_dir / "besom", "sweep", "digits", *few, cwd=tmp_path)
    assert swept.splitlines()[-2] == "study digits"
    assert re.fullmatch(r"best run [0-9a-f]{32}", swept.splitlines()[-1])
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()


@pytest.mark.install
def test_users_config_dir_comes_before_the_shipped_configs(bin_dir: Path, tmp_path: Path) -> None:
    mine = {
        "data/digits.yaml": "defaults: [/schema@_here_: data]\n"
        "source: {_target_: besom.data.sources.digits}\nbatch_size: 17\n",
        "model/mlp_classifier.yaml": "defaults: [/schema@_here_: mlp]\n"
        "_target_: besom.models.MLPClassifier\nwidth: 7\n",
        "sweeps/digits.yaml": "defaults: [train, override hydra/sweeper: besom, _self_]\nseed: 4711\n",
    }
    for name, text in mine.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)

    train = run(bin_dir / "besom", "train", "--config-dir", "mine", "--cfg", "job", cwd=tmp_path)
    assert "batch_size: 17" in train
    assert "width: 7" in train
    sweep = run(bin_dir / "besom", "sweep", "digits", "--config-dir", "mine", "--cfg", "job", cwd=tmp_path)
    assert "seed: 4711" in sweep
    assert "width: 7" in sweep
    assert "width: 128" in run(bin_dir / "besom", "train", "--cfg", "job", cwd=tmp_path)


def test_lock_pins_every_direct_dependency_within_its_range() -> None:
    pins = lock()
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["dev"], *extras["browser"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), line


def test_lock_pins_everything_that_comes_with_a_dependency() -> None:
    pins, seen = lock(), set[str]()
    if any(metadata.version(name) != str(pins[name]) for name in ("mlflow", "optuna", "playwright")):
        pytest.skip("what is installed is not what the lock pins")
    extras = PROJECT["optional-dependencies"]
    waiting = [Requirement(line) for line in [*PROJECT["dependencies"], *extras["dev"], *extras["browser"]]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        assert name in pins, f"{requirement} is not in constraints.txt: make lock"
        try:
            needs = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue  # the CPU builds of PyTorch do without what the lock has for CUDA
        asked = requirement.extras or {""}
        waiting += [need for need in needs if not need.marker or any(need.marker.evaluate({"extra": e}) for e in asked)]


def test_lock_names_no_host_no_path_and_no_local_build() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def lock() -> dict[str, Version]:
    """The versions of constraints.txt by canonical name."""
    requirements = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    ]
    return {canonicalize_name(item.name): Version(next(iter(item.specifier)).version) for item in requirements}
