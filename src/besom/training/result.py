"""The result of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from besom.secrets.masks import without_secrets


class State(StrEnum):
    """The final state of a trial, by Optuna's names."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Blame(StrEnum):
    """The cause of a failure, as far as it determines what happens next."""

    CODE = "code"  # any other exception: a retry may succeed
    USER = "user"  # a config error: its message is complete, and a retry cannot succeed
    DATA = "data"  # the same, in the data
    MEMORY = "memory"  # the device ran out of memory
    DISK = "disk"  # the disk is full: not the trial's fault, and the next trials would fail as well


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason of a trial's failure: one line, and the traceback behind it."""

    reason: str
    traceback: str | None = None
    blame: Blame = Blame.CODE

    def without_secrets(self) -> Failure:
        """Return the failure with the secrets masked that this process knows."""
        traceback = None if self.traceback is None else without_secrets(self.traceback)
        return replace(self, reason=without_secrets(self.reason), traceback=traceback)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The result of a trial: complete with a value per objective, pruned, or failed with a failure.

    The values are those of the report at `best_epoch` and `best_step`, where there are epochs. `summary` holds the
    metrics that are measured once, such as those of the test part; `constraints` are zero or less if they hold. `job`
    is the pickled JobReturn of another Hydra app's job; with `ignored_stop`, that caught TrialPruned and ran on to its
    end.

    The trial took `duration_s`, from `began_s` to `ended_s`, in seconds since the epoch, which may be earlier than its
    result is received; `worker` is the process id of its worker, `host` the machine. Each is None where unknown.
    """

    state: State = State.COMPLETE
    values: tuple[float, ...] = ()
    best_epoch: int | None = None
    best_step: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    job: bytes | None = None
    ignored_stop: bool = False
    failure: Failure | None = None
    duration_s: float | None = None
    began_s: float | None = None
    ended_s: float | None = None
    worker: int | None = None
    host: str | None = None

    @property
    def feasible(self) -> bool:
        """True if every constraint holds."""
        return all(value <= 0 for value in self.constraints.values())

    @property
    def reason(self) -> str | None:
        """The reason of the failure; None for a trial that did not fail."""
        return self.failure.reason if self.failure else None

    def pruned(self) -> TrialResult:
        """Return the result of a trial that was pruned, however its worker ended."""
        return self._without_values(State.PRUNED, None)

    def failed(self, failure: Failure) -> TrialResult:
        """Return the result of a trial that failed, however its worker ended."""
        return self._without_values(State.FAIL, failure)

    def _without_values(self, state: State, failure: Failure | None) -> TrialResult:
        return replace(
            self, state=state, values=(), best_epoch=None, best_step=None, summary={}, job=None, failure=failure
        )
