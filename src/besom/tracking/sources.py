"""The source files that a worker imported, beside the state of the code that its sweep found: what trained a run.

`sources.txt` lists them with their SHA-256. Those that the commit does not hold are kept as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from besom.secrets.masks import without_secrets
from besom.system.git import GitFailed, git
from besom.system.source_file import SourceFile
from besom.tracking.code import CODE, COMMIT, LARGEST_DIFF, RECORDED, CodeState

LISTED, KEPT = "sources.txt", "sources"
SOURCES_ARE, CODE_DIFFERS = "besom.sources", "besom.code_differs"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of `sources.txt`: `place` is where the file lies in its repository, empty outside of one."""

    digest: str
    name: str
    place: str = ""

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> tuple[Listed, ...]:
        """Read the list from the files of a run's code."""
        lines = files.get(LISTED, b"").decode("utf-8", "replace").splitlines()
        fields = (line.split("\t") for line in lines)
        return tuple(cls(digest=digest, name=name, place=place) for digest, name, place in fields)

    @property
    def kept(self) -> str:
        """Its name among the files of a run's code, if it was kept."""
        return f"{KEPT}/{self.name.lstrip('/')}"


class SourceKeeper:
    """Makes of the state of the code that a sweep found the one that a trial was trained by."""

    def __init__(self, found: CodeState) -> None:
        self._found = found
        self._contents: dict[str, bytes] = {}
        self._states: dict[tuple[tuple[str, str], ...] | None, CodeState] = {}

    def state(self, sources: Sequence[SourceFile] | None) -> CodeState:
        """Return the state of the code with what a worker imported; None if it told nothing."""
        if CODE not in self._found.tags:
            return self._found  # nothing is to be kept
        self._contents.update({one.digest: one.content for one in sources or () if one.content is not None})
        key = None if sources is None else tuple((one.name, one.digest) for one in sources)
        if key not in self._states:
            self._states[key] = self._made(sources)
        return self._states[key]

    def _made(self, sources: Sequence[SourceFile] | None) -> CodeState:
        found = self._found
        if sources is None:
            return CodeState(tags={**found.tags, SOURCES_ARE: "not recorded"}, files=found.files)
        if not sources:
            return CodeState(tags={**found.tags, SOURCES_ARE: RECORDED}, files=found.files)
        places, committed = self._in_repository(sources)
        listed = [Listed(digest=one.digest, name=one.name, place=places.get(one.path, "")) for one in sources]
        kept, how = self._kept([one for one in listed if one.digest not in committed])
        text = "".join(f"{one.digest}\t{one.name}\t{one.place}\n" for one in listed)
        digest = hashlib.sha256(json.dumps([found.tags[CODE], text]).encode()).hexdigest()[:12]
        return CodeState(
            tags={**found.tags, CODE: digest, SOURCES_ARE: how}, files={**found.files, LISTED: text, **kept}
        )

    def _kept(self, wanted: Sequence[Listed]) -> tuple[dict[str, str], str]:
        """The contents that may be kept, secrets masked, and how they are."""
        contents = {one.kept: self._contents[one.digest] for one in wanted if one.digest in self._contents}
        if (size := sum(map(len, contents.values()))) > LARGEST_DIFF:
            return {}, f"{RECORDED} by their digests: they are too large, {size:,} bytes"
        texts = {name: content.decode("utf-8", "surrogateescape") for name, content in contents.items()}
        shown = {name: without_secrets(text) for name, text in texts.items()}
        return shown, RECORDED if shown == texts else f"{RECORDED} with secrets masked"

    def _in_repository(self, sources: Sequence[SourceFile]) -> tuple[dict[str, str], set[str]]:
        """Where files lie in the repository, by their paths, and the digests of those that its commit holds so."""
        try:
            root = Path(git("rev-parse", "--show-toplevel").rstrip("\n")).resolve()
            inside = {one.path: one for one in sources if Path(one.path).is_relative_to(root)}
            places = {path: Path(path).relative_to(root).as_posix() for path in inside}
            tree = (
                git("-C", str(root), "ls-tree", "-r", "-z", "--full-tree", self._found.tags[COMMIT]) if places else ""
            )
        except (GitFailed, KeyError):
            return {}, set()
        blobs = {
            place: about.split()[2] for about, _, place in (line.partition("\t") for line in tree.split("\0")) if place
        }
        same = {
            one.digest
            for path, one in inside.items()
            if (content := self._contents.get(one.digest)) is not None and blobs.get(places[path]) == _blob(content)
        }
        return places, same


def _blob(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
