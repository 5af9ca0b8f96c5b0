"""Whether all trials of a study are trained by the same source files, and which are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from besom.sweep.study.study import StudyBook
from besom.system.source_file import SourceFile
from besom.tracking.sources import CODE_DIFFERS

_MET = "besom.sources"
_DIGITS, _NAMED = 12, 3


class StudyCode:
    """By the name of a file, its digests in the order in which the study met them; they are kept with the study."""

    def __init__(self, book: StudyBook, warn: Callable[[str], None]) -> None:
        self._book = book
        self._warn = warn
        met = book.study.user_attrs.get(_MET, {})
        self._met: dict[str, list[str]] = {name: list(digests) for name, digests in met.items()}
        self._told: set[str] = set()

    def tags(self, trial: int, sources: Sequence[SourceFile]) -> dict[str, str]:
        """Return the tag of a trial's run that other code trains than the study's first trials, and warn of that once.

        There is none for the others.
        """
        differs = self._differs(sources)
        if differs and differs not in self._told:
            self._told.add(differs)
            self._warn(
                f"trial {trial} is trained by other code than the study's first trials: {differs} (2 is the second "
                "state that was met); such trials have the tag besom.code_differs (a study of its own: "
                "hydra.sweeper.study_name=NAME)"
            )
        return {CODE_DIFFERS: differs} if differs else {}

    def _differs(self, sources: Sequence[SourceFile]) -> str:
        """Return which of a trial's files are not as the study first met them, such as `net.py 2`; empty for none."""
        before = sum(map(len, self._met.values()))
        numbers = {one.name: self._number(one.name, one.digest[:_DIGITS]) for one in sources}
        if sum(map(len, self._met.values())) > before:
            self._book.set_user_attr(_MET, self._met)
        changed = [f"{name} {number}" for name, number in numbers.items() if number > 1]
        rest = len(changed) - _NAMED
        return ", ".join(changed[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

    def _number(self, name: str, digest: str) -> int:
        met = self._met.setdefault(name, [])
        if digest not in met:
            met.append(digest)
        return met.index(digest) + 1
