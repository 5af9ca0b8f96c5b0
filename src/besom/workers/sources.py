"""The user's source files that this process has imported: the code that its trials are trained by.

Python raises an audit event for each code object that it is about to run. The file is read at that moment, so that the
record shows what was imported, even if the file changes later.
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
"""The largest file, in bytes, that is sent with its content and not only its digest; larger ones are generated code."""

_SOURCE, _BUILT = ".py", ".so"


class Sources:
    """The modules that were imported from the user's folders since `watch`."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFile] = {}
        self._sent: set[str] = set()
        self._installed: tuple[Path, ...] = ()

    @property
    def is_watching(self) -> bool:
        """True once `watch` was called."""
        return bool(self._installed)

    def watch(self) -> None:
        """Record imports, for the rest of the process."""
        self._installed = tuple(installed_folders())
        sys.addaudithook(self._audit)

    def note_imported(self) -> None:
        """Record the user's files that were imported already, as they are now."""
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.endswith((_SOURCE, _BUILT)) and module.__name__ != "__main__":
                with suppress(OSError):
                    self._record(path)

    def note(self, path: str, content: bytes) -> None:
        """Record a file as imported, with its content at that time."""
        name = _name(Path(os.path.realpath(path)))
        digest = hashlib.sha256(content).hexdigest()
        shown = content if name.endswith(_SOURCE) and len(content) <= LARGEST else None
        self._files[name] = SourceFile(name=name, path=os.path.realpath(path), digest=digest, content=shown)

    def take(self) -> tuple[SourceFile, ...]:
        """Return all files that were imported so far; a content is included only once."""
        files = sorted(self._files.values(), key=lambda file: file.name)
        taken = tuple(file.without_content() if file.digest in self._sent else file for file in files)
        self._sent.update(file.digest for file in files)
        return taken

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "exec":
            path = getattr(arguments[0], "co_filename", None)
        elif event == "import":
            path = arguments[1]  # of an extension module; else None
        else:
            return
        if isinstance(path, str) and path.endswith((_SOURCE, _BUILT)):
            with suppress(Exception):  # an import must not fail because it cannot be recorded
                self._record(path)

    def _record(self, path: str) -> None:
        file = Path(os.path.realpath(path))
        if not any(file.is_relative_to(folder) for folder in self._installed):
            self.note(path, file.read_bytes())


def _name(file: Path) -> str:
    """Return the file's name relative to its entry in sys.path: the same in every copy of the project."""
    roots = [Path(os.path.realpath(entry or ".")) for entry in sys.path]
    around = [root for root in roots if file.is_relative_to(root)]
    return file.relative_to(max(around, key=lambda root: len(root.parts))).as_posix() if around else str(file)


SOURCES = Sources()
"""The source files of this process."""
