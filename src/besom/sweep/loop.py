"""The asynchronous loop: ask when a slot is free, dispatch, listen, tell. Never in batches.

While every slot trains, the next trial is asked and composed ahead, so that a slot that falls free gets its next
trial at once.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from besom.config import check, recordable, resolved
from besom.errors import BesomError, ConfigError, DataError, Interrupted
from besom.sweep.compose import Composer
from besom.sweep.spec import SweepSpec
from besom.sweep.study import Asked, StudyBook
from besom.tracking.recorder import Recorder, RunCard, Status
from besom.trial import family, for_slot, interrupts
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Bundle, Finished, Reported, Started, State
from besom.workers.pool import Died, Event, WorkerPool


class Board(Protocol):
    """Shows a sweep while it runs."""

    def started(self, trial: int, slot: Slot) -> None:
        """A trial was handed to a slot."""

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """A trial reached an epoch."""

    def finished(self, trial: int, value: float | None, reason: str | None) -> None:
        """A trial is over: with a value, or failed for a reason."""

    def refresh(self) -> None:
        """Redraw, if it is time."""


@dataclass(eq=False)
class _Running:
    asked: Asked
    slot: Slot
    card: RunCard
    recorded: bool = False


class SweepLoop:
    """Runs the trials of one study until there are enough, the time is up, or the user stops it."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: StudyBook,
        composer: Composer,
        pool: WorkerPool,
        recorder: Recorder,
        board: Board,
        scratch: Path,
        tags: dict[str, str],
    ) -> None:
        self._spec = spec
        self._book = book
        self._composer = composer
        self._pool = pool
        self._recorder = recorder
        self._board = board
        self._scratch = scratch
        self._tags = tags
        self._running: dict[int, _Running] = {}
        self._next: Asked | None = None
        self._failed = 0
        self._deadline = time.monotonic() + spec.timeout_s if spec.timeout_s else None

    def run(self) -> None:
        """Run the sweep to its end.

        Raises Interrupted on ctrl-C or SIGTERM, and DataError when no trial can use the data, both after everything
        that ran was put back and recorded as KILLED.
        """
        with interrupts() as stop:
            try:
                while not stop.asked and (self._running or self._more()):
                    self._dispatch()
                    for event in self._pool.events(timeout_s=0.1):
                        self._handle(event)
                    self._board.refresh()
            finally:
                self._put_back()
        if stop.asked:
            raise Interrupted

    @property
    def gave_up(self) -> BesomError | None:
        """What is wrong, when more trials failed than may fail."""
        if self._failed <= self._spec.max_failure_rate * self._spec.n_trials:
            return None
        return BesomError(
            f"study {self._spec.study_name}: {self._failed} of {self._spec.n_trials} trials failed; "
            "mend what failed, or raise hydra.sweeper.max_failure_rate"
        )

    def _more(self) -> bool:
        """Whether another trial should be started."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return False
        if self.gave_up is not None:
            return False
        return self._book.done + len(self._running) < self._spec.n_trials

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            if not self._more():
                return
            asked = self._next or self._book.ask()
            self._next = None
            self._start(asked, slot)
        if self._next is None and self._more():
            self._next = self._book.ask()
            self._composed(self._next)  # so that a new combination of groups waits in the composer

    def _composed(self, asked: Asked) -> DictConfig | ConfigError:
        try:
            return self._composer.compose(asked.params)
        except ConfigError as error:
            return error

    def _start(self, asked: Asked, slot: Slot) -> None:
        directory = self._scratch / str(asked.number)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        config = self._composed(asked)
        try:
            if isinstance(config, ConfigError):
                raise config
            config = for_slot(config, slot, test=False)
            check(config)
            assignment = Assignment(trial=asked.number, config=resolved(config), directory=directory)
            card = self._card(asked, recordable(config), directory)
        except ConfigError as error:
            card = self._card(asked, {}, directory)
            self._running[asked.number] = _Running(asked, slot, card)
            self._board.started(asked.number, slot)
            self._fail(asked.number, str(error))
            return
        self._running[asked.number] = _Running(asked, slot, card)
        self._board.started(asked.number, slot)
        self._pool.submit(slot, Bundle(assignments=(assignment,)))

    def _card(self, asked: Asked, config: dict[str, Any], directory: Path) -> RunCard:
        return RunCard(
            name=f"{self._spec.study_name}-{asked.number}",
            config=config,
            params=asked.params,
            directory=directory,
            tags={
                **self._tags,
                "besom.trial": str(asked.number),
                "besom.family": family(config),
                "besom.overrides": " ".join(self._composer.overrides(asked.params)),
            },
        )

    def _handle(self, event: Event) -> None:
        match event:
            case Started(trial=trial, about=about):
                self._record(trial, dict(about))
            case Reported(trial=trial, epoch=epoch, metrics=metrics, time_s=time_s):
                self._recorder.report(trial, epoch, metrics, time_s)
                self._board.reported(trial, epoch, metrics.get(self._spec.objective))
            case Finished(state=State.COMPLETE, value=float() as value) as finished if math.isfinite(value):
                self._complete(finished, value)
            case Finished(trial=trial, state=State.COMPLETE, value=value, duration_s=duration_s):
                self._fail(trial, f"{self._spec.objective} is {value}", duration_s=duration_s)
            case Finished(trial=trial, data_error=True, reason=reason) if self._has_everybodys_data(trial):
                raise DataError(f"study {self._spec.study_name}: {reason}")
            case Finished(trial=trial, reason=reason, traceback=traceback, duration_s=duration_s):
                self._fail(trial, reason or "unknown", traceback, duration_s)
            case Died(trials=trials, reason=reason):
                for trial in trials:
                    self._fail(trial, reason)

    def _has_everybodys_data(self, trial: int) -> bool:
        """Whether the data are the same for every trial, so that what is wrong with them would fail all the others."""
        groups = {re.split(r"[.@]", key.lstrip("+"))[0] for key in self._running[trial].asked.params}
        return not groups & {"data", "experiment"}

    def _record(self, trial: int, about: dict[str, Any]) -> None:
        running = self._running[trial]
        running.recorded = True
        self._recorder.start(trial, running.card, about)

    def _complete(self, finished: Finished, value: float) -> None:
        running = self._running.pop(finished.trial)
        running.asked.trial.set_user_attr(
            "besom",
            {
                "family": family(running.card.config),
                "duration_s": finished.duration_s,
                "best_epoch": finished.best_epoch,
            },
        )
        self._book.tell(running.asked.trial, value)
        best = {f"best/{self._spec.objective}": value, **finished.summary}
        self._recorder.finish(
            finished.trial,
            Status.FINISHED,
            metrics=best,
            tags={"besom.state": "COMPLETE", "besom.best_epoch": str(finished.best_epoch)},
        )
        self._board.finished(finished.trial, value, None)

    def _fail(self, trial: int, reason: str, traceback: str | None = None, duration_s: float | None = None) -> None:
        if not self._running[trial].recorded:
            self._record(trial, {})
        running = self._running.pop(trial)
        self._failed += 1
        running.asked.trial.set_user_attr(
            "besom", {"family": family(running.card.config), "reason": reason, "duration_s": duration_s}
        )
        self._book.tell(running.asked.trial, None)
        self._recorder.finish(
            trial,
            Status.FAILED,
            tags={"besom.state": "FAIL", "besom.reason": reason},
            traceback=traceback or reason,
        )
        self._board.finished(trial, None, reason)

    def _put_back(self) -> None:
        """Put back what was asked and not told, so that the same command goes on from there."""
        if self._running:
            self._pool.close()  # what is still training would write beside the recorder, and take its processor time
        for running in self._running.values():
            self._book.interrupt(running.asked.trial)
        if self._next is not None:  # it was asked last, and comes again last
            self._book.interrupt(self._next.trial)
            self._next = None
        for trial, running in self._running.items():
            if running.recorded:
                self._recorder.finish(trial, Status.KILLED, tags={"besom.state": "INTERRUPTED"})
            else:
                shutil.rmtree(running.card.directory, ignore_errors=True)
        self._running.clear()
