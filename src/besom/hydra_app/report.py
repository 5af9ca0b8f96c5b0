"""What another app's job says while it runs: `besom.report`, which also stops the job when the sweep says so.

The conversation with the sweep belongs to the process, since a worker runs one job at a time; where there is none,
nothing is said and nothing stops.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import SupportsFloat, SupportsIndex

from besom.errors import TrialPruned
from besom.training.progress import Channel

UNNAMED = "value"
"""The objective of an app whose config does not name it."""


class _Job:
    """The job that runs in this process, and where it is."""

    def __init__(self, channel: Channel, metric: str) -> None:
        self._channel = channel
        self._metric = metric
        self._step: int | None = None

    def report(self, value: SupportsFloat | Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
        self._say(value if isinstance(value, Mapping) else {self._metric: value}, step)

    def follow(self, name: str, value: SupportsFloat, step: SupportsIndex) -> None:
        unnamed = {UNNAMED: value} if self._metric == UNNAMED else {}
        self._say({name: value, **unnamed}, step)

    def _say(self, metrics: Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
        number = _integer(step)
        if self._step is not None and number < self._step:
            raise ValueError(f"besom.report: step {number} comes after step {self._step}; count upwards in a job")
        self._step = number
        self._channel.report(number, {str(name): _number(name, one) for name, one in metrics.items()})
        self.stop_if_told(in_epoch=False)

    def stop_if_told(self, *, in_epoch: bool) -> None:
        if self._channel.should_stop(in_epoch=in_epoch):
            raise TrialPruned


_job: _Job | None = None


def report(value: SupportsFloat | Mapping[str, SupportsFloat], *, step: SupportsIndex) -> None:
    """Tell the sweep a value after a step, or several metrics by their names; does nothing outside a sweep.

    A value without a name is the objective's. `step` counts what the app counts, epochs say, from 0 or 1.
    Raises TrialPruned when the sweep says that the job should end: let it pass. Raises ValueError for a step that is
    negative, no whole number, or lies before the last one, and for a value that is no number.
    """
    if _job is not None:
        _job.report(value, step)


def follow(name: str, value: SupportsFloat, *, step: SupportsIndex) -> None:
    """As `report`, for the metric that is to be followed: where the objective has no name, this is it."""
    if _job is not None:
        _job.follow(name, value, step)


def stop_if_urgent() -> None:
    """Raise TrialPruned if the sweep wants the job to end before its next step; does nothing outside a sweep."""
    if _job is not None:
        _job.stop_if_told(in_epoch=True)


def is_heard() -> bool:
    """Whether a sweep listens to this process."""
    return _job is not None


@contextmanager
def reporting(channel: Channel, *, metric: str) -> Iterator[None]:
    """Let `report` speak in this conversation for the time of a `with` block; `metric` names a bare value."""
    global _job
    _job = _Job(channel, metric)
    try:
        yield
    finally:
        _job = None


def _integer(step: SupportsIndex) -> int:
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(step)
        if number < 0:
            raise TypeError
    except TypeError:
        raise ValueError(f"besom.report: step is {step!r}; give a whole number from 0, such as the epoch") from None
    return number


def _number(name: object, value: SupportsFloat) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last one, for a tensor of several elements
        raise ValueError(f"besom.report: {name} is {value!r}; give a number") from None
