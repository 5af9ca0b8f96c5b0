"""Detection of trials whose source files differ from those of the study's first trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from besom.errors import first_few
from besom.sweep.study.book import Book
from besom.system.source_file import SourceFile
from besom.tracking.tags import StudyAttribute, Tag

_DIGITS, _NAMED = 12, 3


class StudyCode:
    """The digests of a study's source files, by file name in the order of their first use; stored with the study."""

    def __init__(self, book: Book, warn: Callable[[str], None]) -> None:
        self._book = book
        self._warn = warn
        stored = book.study.user_attrs.get(StudyAttribute.SOURCES, {})
        self._digests: dict[str, list[str]] = {name: list(digests) for name, digests in stored.items()}
        self._warned: set[str] = set()

    def tags(self, trial: str, sources: Sequence[SourceFile]) -> dict[str, str]:
        """Return the tag of a trial whose code differs from that of the study's first trials, else no tag.

        `trial` is its name in a warning; each difference is warned of once.
        """
        differs = self._differs(sources)
        if differs and differs not in self._warned:
            self._warned.add(differs)
            self._warn(
                f"{trial} is trained by other code than the study's first trials: {differs} (2 is the second "
                f"state that was met); such trials have the tag {Tag.CODE_DIFFERS} (a study of its own: "
                "hydra.sweeper.study_name=NAME)"
            )
        return {Tag.CODE_DIFFERS: differs} if differs else {}

    def _differs(self, sources: Sequence[SourceFile]) -> str:
        """Return the files of a trial that differ from their first state, such as `net.py 2`; empty for none."""
        before = sum(map(len, self._digests.values()))
        numbers = {file.name: self._number(file.name, file.digest[:_DIGITS]) for file in sources}
        if sum(map(len, self._digests.values())) > before:
            self._book.set_user_attr(StudyAttribute.SOURCES, self._digests)
        changed = [f"{name} {number}" for name, number in numbers.items() if number > 1]
        return first_few(changed, _NAMED)

    def _number(self, name: str, digest: str) -> int:
        digests = self._digests.setdefault(name, [])
        if digest not in digests:
            digests.append(digest)
        return digests.index(digest) + 1
