"""Whether all trials of a study are trained by the same source files, and which are not."""

from __future__ import annotations

from collections.abc import Sequence

from besom.conversation import SourceFile
from besom.sweep.study import StudyBook

_MET = "besom.sources"
_DIGITS, _NAMED = 12, 3


class StudyCode:
    """By the name of a file, its digests in the order in which the study met them; they are kept with the study."""

    def __init__(self, book: StudyBook) -> None:
        self._book = book
        met = book.study.user_attrs.get(_MET, {})
        self._met: dict[str, list[str]] = {name: list(digests) for name, digests in met.items()}
        self._told: set[str] = set()

    def differs(self, sources: Sequence[SourceFile]) -> str:
        """Return which of a trial's files are not as the study first met them, such as `net.py 2`; empty for none."""
        before = sum(map(len, self._met.values()))
        numbers = {one.name: self._number(one.name, one.digest[:_DIGITS]) for one in sources}
        if sum(map(len, self._met.values())) > before:
            self._book.set_user_attr(_MET, self._met)
        changed = [f"{name} {number}" for name, number in numbers.items() if number > 1]
        rest = len(changed) - _NAMED
        return ", ".join(changed[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

    def warning(self, trial: int, differs: str) -> str | None:
        """What to tell of a trial that other code trains; None where that was told."""
        if not differs or differs in self._told:
            return None
        self._told.add(differs)
        return (
            f"trial {trial} is trained by other code than the study's first trials: {differs} (2 is the second state "
            "that was met); such trials have the tag besom.code_differs (a study of its own: "
            "hydra.sweeper.study_name=NAME)"
        )

    def _number(self, name: str, digest: str) -> int:
        met = self._met.setdefault(name, [])
        if digest not in met:
            met.append(digest)
        return met.index(digest) + 1
