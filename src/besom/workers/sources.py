"""The source files of a user's own that this process has imported: the code that its trials are trained by.

Python tells of each code that it is about to run. Its file is read in that moment: what is told of it is what was
imported, whatever becomes of the file later.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from besom.config.paths import installed_folders
from besom.system.source_file import SourceFile

LARGEST = 2**20
"""How many bytes of a file are told, beyond its digest; a larger one was written by no hand."""

_SOURCE, _BUILT = ".py", ".so"


class Sources:
    """What was imported from folders of the user's own, from `watch` on."""

    def __init__(self) -> None:
        self._found: dict[str, SourceFile] = {}
        self._told: set[str] = set()
        self._installed: tuple[Path, ...] = ()

    def watch(self) -> None:
        """Listen for imports, for as long as the process lasts."""
        self._installed = tuple(installed_folders())
        sys.addaudithook(self._hear)

    def note(self, path: str, content: bytes) -> None:
        """Count a file as imported, with what it held then."""
        name = _name(Path(os.path.realpath(path)))
        digest = hashlib.sha256(content).hexdigest()
        told = content if name.endswith(_SOURCE) and len(content) <= LARGEST else None
        self._found[name] = SourceFile(name=name, path=os.path.realpath(path), digest=digest, content=told)

    def told(self) -> tuple[SourceFile, ...]:
        """Return all that was imported so far; a content is told once."""
        found = sorted(self._found.values(), key=lambda one: one.name)
        told = tuple(one if one.digest not in self._told else one.without_content() for one in found)
        self._told.update(one.digest for one in found)
        return told

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "exec":
            path = getattr(arguments[0], "co_filename", None)
        elif event == "import":
            path = arguments[1]  # of a library that was built; else None
        else:
            return
        if isinstance(path, str) and path.endswith((_SOURCE, _BUILT)):
            with suppress(Exception):  # an import does not fail for want of a record
                self._look(path)

    def _look(self, path: str) -> None:
        file = Path(os.path.realpath(path))
        if not any(file.is_relative_to(folder) for folder in self._installed):
            self.note(path, file.read_bytes())


def _name(file: Path) -> str:
    """The file as it is imported, the same in every copy of the project: from its entry in Python's path on."""
    roots = [Path(os.path.realpath(entry or ".")) for entry in sys.path]
    around = [root for root in roots if file.is_relative_to(root)]
    return file.relative_to(max(around, key=lambda root: len(root.parts))).as_posix() if around else str(file)


SOURCES = Sources()
"""Those of this process."""
