"""The locations of configs and sweep files, and the folders that Hydra searches for a `besom` command."""

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
    """The folders that Hydra searches after the primary config's own, and the references between the configs in them.

    `leads_to` has the defaults of each config that was read, by its name on the search path; `named_in` has the file
    that lists a config in its defaults, as an override or not.
    """

    folders: tuple[Path, ...] = ()
    leads_to: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named_in: dict[str, str] = field(default_factory=dict)


_CURRENT: ContextVar[SearchPath | None] = ContextVar("search_path", default=None)

_LONGEST = 180  # bytes; a file system allows 255, including suffixes


def conf_dir() -> Path:
    """Return the shipped conf/: inside the installed package, or at the top of a checkout."""
    return _shipped("conf")


def sweeps_dir() -> Path:
    """Return the shipped sweeps/."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() and list(installed.glob("*.yaml")) else _PACKAGE.parents[1] / name


def installed_folders() -> list[Path]:
    """Return the folders of modules that are not the user's: Python's, those of installed packages, and Besom's."""
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    folders = [*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()]
    return [*(Path(folder).resolve() for folder in folders), _PACKAGE, _PACKAGE.parent / "hydra_plugins"]


def sweep_names(user: Sequence[Path]) -> list[str]:
    """Return the names of all sweeps: in the user's own folders, in the current sweeps/, and the shipped ones."""
    return sorted({path.stem for folder in _sweep_folders(user) for path in folder.glob("*.yaml")})


def find_sweep(name: str, user: Sequence[Path]) -> Path:
    """Return the file of a sweep by its name, with priority for the user's own folders, or by its path.

    Raises ConfigError with the existing names.
    """
    for folder in _sweep_folders(user):
        if (folder / f"{name}.yaml").is_file():
            return (folder / f"{name}.yaml").absolute()
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.name != name:
        file = path if path.is_file() else path.with_name(f"{path.name}.yaml")
        if not file.is_file():
            raise ConfigError(
                f"sweep file {name} does not exist; name a file, or one of {', '.join(sweep_names(user))}"
            )
        if file.suffix != ".yaml":
            raise ConfigError(f"sweep file {name}: Hydra reads only files that end with .yaml; rename it")
        return file.absolute()
    raise ConfigError(f"sweep '{name}' does not exist; {one_of(name, sweep_names(user))}; a path works too")


def sweep_search_path(file: Path, user: Sequence[Path]) -> list[Path]:
    """Return the search path of a sweep file: its folder is last, so that no sweep hides a config.

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
    # Hydra writes the folders into its config, where OmegaConf reads ${…}: only an unclosed one is an error.
    if "${" not in str(folder):
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create({"folder": str(folder)})
    except OmegaConfBaseException as error:
        raise ConfigError(f"{folder}: Hydra takes ${{ in a folder's name for an interpolation; rename it") from error


def file_name(name: str) -> str:
    """Return a unique file name for a name, such as a study's.

    A name of letters, digits, _ and - is its own file name; other names are shortened and replaced, with a digest that
    distinguishes them.
    """
    shown = re.sub(r"[^\w-]", "_", name).encode()[:_LONGEST].decode(errors="ignore")
    return name if shown == name else f"{shown}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def current_search_path() -> SearchPath | None:
    """Return the search path of the running `besom` command, or None: Hydra may run for another app."""
    return _CURRENT.get()


@contextmanager
def search_path(folders: Sequence[Path]) -> Iterator[SearchPath]:
    """Let Hydra search these folders too, within a `with` block.

    Raises ConfigError for a folder that Hydra cannot work in, including the current one.
    """
    for folder in (Path.cwd(), *folders):
        _check_no_interpolation(folder)
    found = SearchPath(tuple(folders))
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)
