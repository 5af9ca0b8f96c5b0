"""The source files that a worker imported: with the state of the repository, the code that trained a run.

`sources.txt` lists them with their SHA-256. The contents of those that differ from the commit are kept as well.
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
from besom.tracking.code import LARGEST_DIFF, RECORDED, CodeState
from besom.tracking.tags import Tag

LISTED, _KEPT = "sources.txt", "sources"


@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """A line of `sources.txt`; `place` is the path in the repository, empty for a file outside of it."""

    digest: str
    name: str
    place: str = ""

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> tuple[SourceEntry, ...]:
        """Return the entries listed in the files of a run's code."""
        lines = files.get(LISTED, b"").decode("utf-8", "replace").splitlines()
        fields = (line.split("\t") for line in lines)
        return tuple(cls(digest=digest, name=name, place=place) for digest, name, place in fields)

    @property
    def kept(self) -> str:
        """The name of its contents among the files of a run's code, if those were kept."""
        return f"{_KEPT}/{self.name.lstrip('/')}"


class SourceKeeper:
    """Adds the source files that a worker imported to the state of the repository when the sweep started."""

    def __init__(self, base: CodeState) -> None:
        self._base = base
        self._contents: dict[str, bytes] = {}
        self._states: dict[tuple[tuple[str, str], ...] | None, CodeState] = {}

    def state(self, sources: Sequence[SourceFile] | None) -> CodeState:
        """Return the state of the code with the files that a worker imported; `sources` is None if it reported none."""
        if Tag.CODE not in self._base.tags:
            return self._base  # no code is recorded
        self._contents.update({source.digest: source.content for source in sources or () if source.content is not None})
        key = None if sources is None else tuple((source.name, source.digest) for source in sources)
        if key not in self._states:
            self._states[key] = self._with(sources)
        return self._states[key]

    def _with(self, sources: Sequence[SourceFile] | None) -> CodeState:
        base = self._base
        if sources is None:
            return CodeState(tags={**base.tags, Tag.SOURCES: "not recorded"}, files=base.files)
        if not sources:
            return CodeState(tags={**base.tags, Tag.SOURCES: RECORDED}, files=base.files)
        places, committed = self._in_repository(sources)
        entries = [SourceEntry(digest=file.digest, name=file.name, place=places.get(file.path, "")) for file in sources]
        kept, how = self._kept([entry for entry in entries if entry.digest not in committed])
        text = "".join(f"{entry.digest}\t{entry.name}\t{entry.place}\n" for entry in entries)
        digest = hashlib.sha256(json.dumps([base.tags[Tag.CODE], text]).encode()).hexdigest()[:12]
        return CodeState(
            tags={**base.tags, Tag.CODE: digest, Tag.SOURCES: how}, files={**base.files, LISTED: text, **kept}
        )

    def _kept(self, wanted: Sequence[SourceEntry]) -> tuple[dict[str, str], str]:
        """Return the contents that may be kept, secrets masked, and the value of Tag.SOURCES."""
        contents = {entry.kept: self._contents[entry.digest] for entry in wanted if entry.digest in self._contents}
        if (size := sum(map(len, contents.values()))) > LARGEST_DIFF:
            return {}, f"{RECORDED} by their digests: they are too large, {size:,} bytes"
        texts = {name: content.decode("utf-8", "surrogateescape") for name, content in contents.items()}
        shown = {name: without_secrets(text) for name, text in texts.items()}
        return shown, RECORDED if shown == texts else f"{RECORDED} with secrets masked"

    def _in_repository(self, sources: Sequence[SourceFile]) -> tuple[dict[str, str], set[str]]:
        """Return the files' paths in the repository by their own, and the digests of those that equal the commit's."""
        try:
            root = Path(git("rev-parse", "--show-toplevel").rstrip("\n")).resolve()
            inside = {file.path: file for file in sources if Path(file.path).is_relative_to(root)}
            places = {path: Path(path).relative_to(root).as_posix() for path in inside}
            listing = ("ls-tree", "-r", "-z", "--full-tree", self._base.tags[Tag.COMMIT])
            tree = git("-C", str(root), *listing) if places else ""
        except (GitFailed, KeyError):
            return {}, set()
        blobs = {
            place: about.split()[2] for about, _, place in (line.partition("\t") for line in tree.split("\0")) if place
        }
        same = {
            file.digest
            for path, file in inside.items()
            if (content := self._contents.get(file.digest)) is not None and blobs.get(places[path]) == _blob(content)
        }
        return places, same


def _blob(content: bytes) -> str:
    """Return the id of git's blob with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
