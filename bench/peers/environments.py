"""Environments for the peers whose dependencies differ from Besom's, on top of the current environment.

    PYTHONPATH=. python bench/peers/environments.py hydra --envs DIR        makes it, and prints its python's path

The packages of requirements-NAME.txt come first in such an environment. All others, such as torch, are found in the
current environment through a .pth file, so that nothing large is installed twice. Besom itself is not visible.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
NAMES = sorted(file.stem.removeprefix("requirements-") for file in HERE.glob("requirements-*.txt"))


def make(name: str, envs: Path) -> Path:
    """Make the environment of a name in the folder `envs`, unless it is there; return its python.

    Raises ValueError for a folder in the repository, CalledProcessError when something cannot be installed.
    """
    folder = envs.resolve() / name
    if folder.is_relative_to(REPOSITORY):
        raise ValueError(f"{envs} lies in the repository; environments belong elsewhere")
    requirements = HERE / f"requirements-{name}.txt"
    below = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    python, stamp = folder / "bin" / "python", folder / "made-from"
    made_from = hashlib.sha256("\n".join([*below, requirements.read_text(encoding="utf-8")]).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        return python
    _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
    site_packages = _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site_packages, "below.pth").write_text("\n".join(below) + "\n", encoding="utf-8")
    _run(str(python), "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--requirement", str(requirements))
    stamp.write_text(made_from, encoding="utf-8")
    return python


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--envs", type=Path, required=True, help="the folder of all environments, not in a repository")
    arguments = parser.parse_args()
    print(make(arguments.name, arguments.envs))


if __name__ == "__main__":
    main()
