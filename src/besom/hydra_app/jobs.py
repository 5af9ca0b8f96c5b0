"""The jobs of another Hydra app: they are sent as overrides, and return Hydra's JobReturns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from hydra.core.utils import JobReturn, JobStatus

from besom.config.units import Unit
from besom.errors import TrialFailed, TrialPruned
from besom.hydra_app.job import unpack_job
from besom.secrets.masks import hidden_override
from besom.sweep.compose import Composer
from besom.sweep.fidelity import PrunerCount
from besom.sweep.space.search_space import Params
from besom.sweep.study.book import Asked
from besom.sweep.trials.jobs import Jobs
from besom.tracking.recorder.recorder import RunCard
from besom.tracking.run_links import RunLinks
from besom.tracking.tags import Tag
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, State, TrialResult


class Batch(Sequence[JobReturn]):
    """A batch of JobReturns, unpickled on access: a thousand at once would take a gigabyte."""

    def __init__(self, trials: Sequence[int], returned: Callable[[int], JobReturn]) -> None:
        self._trials = tuple(trials)
        self._returned = returned

    def __len__(self) -> int:
        return len(self._trials)

    @overload
    def __getitem__(self, index: int) -> JobReturn: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[JobReturn]: ...
    def __getitem__(self, index: int | slice) -> JobReturn | Sequence[JobReturn]:
        if isinstance(index, slice):
            return Batch(self._trials[index], self._returned)
        return self._returned(self._trials[index])


class HydraJobs(Jobs):
    """Prepares jobs, whose configs the workers compose, and stores their returns.

    `extra` are further overrides of every job; `links` link the runs that a job starts itself to those of the study.
    """

    may_be_infinite = True  # as in hydra-optuna-sweeper: the value of parameters that cannot work

    def __init__(
        self,
        composer: Composer,
        *,
        study_name: str,
        tags: Mapping[str, str],
        extra: Sequence[str] = (),
        links: RunLinks | None = None,
    ) -> None:
        self._composer = composer
        self._extra = tuple(extra)
        self._study_name = study_name
        self._tags = tags
        self._overrides: dict[int, list[str]] = {}
        self._returns: dict[int, bytes] = {}
        self._reasons: dict[int, Exception] = {}
        self._slots = 0
        self._links = links

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides of a job, in the order of the config and the command line."""
        return [*self._composer.overrides(params), *self._extra]

    def pruner_count(self, fidelity: Unit) -> PrunerCount:
        """Return what counts the steps of an app, which defines them, from 0."""
        return PrunerCount(Unit.STEP, first=0)

    def prepare(self, asked: Asked, slot: Slot, directory: Path) -> tuple[Assignment, RunCard]:
        """Return the assignment with the job's overrides, and a card, to which the worker's config is added later."""
        overrides = self.overrides(asked.params)
        self._overrides[asked.number] = overrides
        self._slots = max(self._slots, slot.index + 1)
        run_id = self._links.new_id() if self._links else None
        assignment = Assignment(
            trial=asked.number,
            overrides=tuple(overrides),
            directory=directory,
            variables=self._links.variables(run_id) if self._links else {},
        )
        card = self.card(asked, directory, {})
        # Set here, not by the worker, which would have to import torch for the device's name.
        return assignment, replace(card, tags={**card.tags, Tag.DEVICE: str(slot)}, run_id=run_id)

    def card(self, asked: Asked, directory: Path, config: Mapping[str, Any]) -> RunCard:
        """Return the card of a job's run."""
        return RunCard(
            name=f"{self._study_name}-{asked.number}",
            config=config,
            params=asked.params,
            directory=directory,
            axis=Unit.STEP,  # the app's own
            tags={
                **self._tags,
                Tag.TRIAL: str(asked.number),
                Tag.OVERRIDES: " ".join(map(hidden_override, self.overrides(asked.params))),
            },
        )

    def ended(self, trial: int, result: TrialResult) -> None:
        """Store the return of a job, or the exception of one that did not return."""
        if result.state is State.COMPLETE:
            if result.job is not None:
                self._returns[trial] = result.job
            return
        message = result.reason or "the sweep stopped it early"
        self._reasons[trial] = TrialPruned(message) if result.state is State.PRUNED else TrialFailed(message)

    def returns(self) -> list[Batch]:
        """Return the JobReturns in the order of the trials; a batch has as many as there are slots.

        The return value of a job that did not return raises its exception on access, as with Hydra's own launchers.
        """
        trials, width = sorted(self._overrides), max(1, self._slots)
        return [Batch(trials[start : start + width], self._returned) for start in range(0, len(trials), width)]

    def _returned(self, trial: int) -> JobReturn:
        if trial in self._returns:
            return unpack_job(self._returns[trial])
        reason = self._reasons.get(trial, TrialFailed(f"trial {trial} did not end; its run or the log says why"))
        return JobReturn(overrides=self._overrides[trial], status=JobStatus.FAILED, _return_value=reason)
