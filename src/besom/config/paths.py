"""Where configs and sweep files lie, and which folders Hydra looks into while `besom` runs."""

from __future__ import annotations

import hashlib
import re
import site
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from besom.errors import ConfigError, one_of

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SearchPath:
    """The folders that Hydra searches after the primary config's own, and what the configs found there name.

    `leads_to` has the defaults of each config that was read, by its name on the search path; `named_in` has the file
    that names a config in its defaults, as an override of another file's or not.
    """

    folders: tuple[Path, ...] = ()
    leads_to: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named_in: dict[str, str] = field(default_factory=dict)


_CURRENT: ContextVar[SearchPath | None] = ContextVar("search_path", default=None)

_LONGEST = 180  # bytes; a file system takes 255, with what is added


def conf_dir() -> Path:
    """The shipped conf/: inside the installed package, or at the top of a checkout."""
    return _shipped("conf")


def sweeps_dir() -> Path:
    """The shipped sweeps/."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() and list(installed.glob("*.yaml")) else _PACKAGE.parents[1] / name


def installed_folders() -> list[Path]:
    """Where modules lie that are nobody's own: Python's, those of installed packages, and Besom's."""
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    folders = [*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()]
    return [*(Path(folder).resolve() for folder in folders), _PACKAGE, _PACKAGE.parent / "hydra_plugins"]


def sweep_names(user: Sequence[Path]) -> list[str]:
    """The sweeps that there are: in the user's own folders, in sweeps/ here, and the shipped ones."""
    return sorted({path.stem for folder in _sweep_folders(user) for path in folder.glob("*.yaml")})


def find_sweep(name: str, user: Sequence[Path]) -> Path:
    """Return the file of a sweep by its name, the user's own folders first, or by its path.

    Raises ConfigError, with the names that there are.
    """
    for folder in _sweep_folders(user):
        if (folder / f"{name}.yaml").is_file():
            return (folder / f"{name}.yaml").absolute()
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.name != name:
        found = path if path.is_file() else path.with_name(f"{path.name}.yaml")
        if not found.is_file():
            raise ConfigError(
                f"sweep file {name} does not exist; name a file, or one of {', '.join(sweep_names(user))}"
            )
        if found.suffix != ".yaml":
            raise ConfigError(f"sweep file {name}: Hydra reads only files that end with .yaml; rename it")
        return found.absolute()
    raise ConfigError(f"sweep '{name}' does not exist; {one_of(name, sweep_names(user))}; a path works too")


def sweep_search_path(file: Path, user: Sequence[Path]) -> list[Path]:
    """Where Hydra looks while it runs a sweep file: its folder last, so that no sweep hides a config.

    Raises ConfigError when a config hides the sweep.
    """
    folders = [*user, conf_dir()]
    for folder in folders:
        if (folder / file.name).is_file() and not (folder / file.name).samefile(file):
            raise ConfigError(f"{file}: a config has the same name, {folder / file.name}; rename the sweep")
    return [*folders, file.parent]


def _sweep_folders(user: Sequence[Path]) -> list[Path]:
    return [*(folder / "sweeps" for folder in user), Path("sweeps"), sweeps_dir()]


def _check_no_interpolation(folder: Path) -> None:
    # Hydra writes the folders into its config, where OmegaConf reads ${…}: it takes any but one that is not closed.
    if "${" not in str(folder):
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create({"folder": str(folder)})
    except OmegaConfBaseException as error:
        raise ConfigError(f"{folder}: Hydra takes ${{ in a folder's name for an interpolation; rename it") from error


def file_name(name: str) -> str:
    """Return a name, such as a study's, as that of a file or a folder: short enough, and no other name's.

    A name of letters, digits, _ and - is its own; what else is cut or replaced is told apart by a digest.
    """
    shown = re.sub(r"[^\w-]", "_", name).encode()[:_LONGEST].decode(errors="ignore")
    return name if shown == name else f"{shown}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def current_search_path() -> SearchPath | None:
    """The search path of the `besom` command that runs, if one does: Hydra may run for another app."""
    return _CURRENT.get()


@contextmanager
def search_path(folders: Sequence[Path]) -> Iterator[SearchPath]:
    """Let Hydra search these folders too, for the time of a `with` block.

    Raises ConfigError for one that Hydra cannot work in, the current folder among them.
    """
    for folder in (Path.cwd(), *folders):
        _check_no_interpolation(folder)
    found = SearchPath(tuple(folders))
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)
