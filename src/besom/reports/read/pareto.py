"""The Pareto front: the trials that no other trial dominates."""

from __future__ import annotations

from collections.abc import Sequence

from besom.config.objectives import Objective


def _dominates(values: Sequence[float], others: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Return whether `values` are no worse than `others` in any objective, and better in at least one."""
    compared = list(zip(objectives, values, others, strict=True))
    return any(one.better(value, other) for one, value, other in compared) and not any(
        one.better(other, value) for one, value, other in compared
    )


class Front:
    """A Pareto front, updated trial by trial."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._members: list[tuple[int, tuple[float, ...]]] = []

    @property
    def trials(self) -> tuple[int, ...]:
        """The numbers of its trials, in the order in which they were added."""
        return tuple(trial for trial, _ in self._members)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, trial: int, values: tuple[float, ...]) -> bool:
        """Add a trial unless another one dominates it; return whether it was added."""
        if any(_dominates(member, values, self._objectives) for _, member in self._members):
            return False
        self._members = [
            (number, member) for number, member in self._members if not _dominates(values, member, self._objectives)
        ]
        self._members.append((trial, values))
        return True
