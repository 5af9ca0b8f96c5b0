"""The finalists' loop: one run per free slot, without retries; each is written to the study when it is over."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from besom.errors import BesomError, ConfigError, Interrupted
from besom.reports.read.finalists import FinalistRun
from besom.sweep.finalists.choose import Entry, FinalistJobs
from besom.sweep.finalists.observer import FinalistsObserver
from besom.sweep.progress.events import Dispatched, Warned
from besom.sweep.progress.text import kept_runs_warning
from besom.sweep.spec import SweepSpec
from besom.sweep.study.code import StudyCode
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.trial import best_metrics, disk_is_full, not_finite, record_end
from besom.system.interrupts import Stop, interrupts
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, Tag
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Bundle, Failure, Finished, Reported, Started, State, TrialResult
from besom.workers.pool import Died, Event, Pool


@dataclass(eq=False, kw_only=True)
class _Running:
    entry: Entry
    slot: Slot
    card: RunCard
    recorded: bool = False
    taken_up_s: float | None = None


class FinalistsLoop:
    """Trains and tests the missing runs of the finalists."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        spec: SweepSpec,
        book: StudyBook,
        jobs: FinalistJobs,
        pool: Pool,
        recorder: Recorder,
        observer: FinalistsObserver,
        scratch: Path,
    ) -> None:
        self._waiting = deque(entries)
        self._objectives = spec.objectives
        self._limit_s = spec.trial_timeout_s
        self._book = book
        self._jobs = jobs
        self._pool = pool
        self._recorder = recorder
        self._observer = observer
        self._scratch = scratch
        self._code = StudyCode(book, self._warn)
        self._running: dict[int, _Running] = {}
        self._unwritten: dict[int, FinalistRun] = {}

    def run(self) -> None:
        """Run all of them. A failed run is recorded with its reason, and the others continue.

        Raises Interrupted on ctrl-C, SIGTERM or SIGHUP, and StoreError when a run met a full disk. Before that, running
        ones are recorded as KILLED; the same command trains them again.
        """
        with interrupts() as stop:
            try:
                self._run_entries(stop)
                left = bool(self._waiting or self._running)
                self._cut_off()
            except BaseException:
                with suppress(BesomError):  # the first error is the one to raise
                    self._cut_off()
                    self._settle_all(stop)
                raise
            left = self._settle_all(stop) or left
        if left:
            raise Interrupted

    def _run_entries(self, stop: Stop) -> None:
        while (self._waiting or self._running) and not stop.asked:
            for notice in self._recorder.notices():
                self._warn(notice)
            for slot in self._pool.idle():
                if self._waiting:
                    self._start(self._waiting.popleft(), slot)
            for event in self._pool.events(timeout_s=0.1):
                self._handle(event)
            self._replace_overdue()
            self._settle()

    def _start(self, entry: Entry, slot: Slot) -> None:
        directory = self._scratch / f"{entry.trial}-seed-{entry.seed}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._observer(Dispatched(trial=entry.number, slot=slot))
        try:
            assignment, card = self._jobs.prepare(entry, slot, directory)
        except ConfigError as error:
            running = _Running(entry=entry, slot=slot, card=self._jobs.card(entry, directory, {}))
            self._running[entry.number] = running
            self._fail(running, Failure(reason=str(error), blame=Blame.USER), TrialResult())
            return
        self._running[entry.number] = _Running(entry=entry, slot=slot, card=card)
        self._pool.submit(slot, Bundle(assignments=(assignment,)))

    def _handle(self, event: Event) -> None:
        match event:
            case Started(trial=number, about=about, began_s=began_s, sources=sources):
                running = self._running[number]
                running.card = replace(running.card, began_s=began_s)
                self._record(running, about, sources)
            case Reported(trial=number, epoch=epoch, metrics=metrics, time_s=time_s):
                self._recorder.report(number, epoch, metrics, time_s)
            case Finished(trial=number, result=result):
                self._finish(self._running[number], result)
            case Died(trials=numbers, reason=reason):
                for number in numbers:
                    self._fail(self._running[number], Failure(reason=reason), TrialResult(duration_s=0.0))

    def _record(self, running: _Running, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None) -> None:
        running.recorded = True
        code = self._code.tags(running.entry.trial, sources or ())
        running.card = replace(running.card, tags={**running.card.tags, **code})
        self._recorder.start(running.entry.number, running.card, about, sources)

    def _finish(self, running: _Running, result: TrialResult) -> None:
        if result.state is not State.COMPLETE:
            self._fail(running, result.failure or Failure(reason="it stopped early"), result)
        elif wrong := not_finite(self._objectives, result):
            self._fail(running, Failure(reason=wrong, blame=Blame.USER), result)
        else:
            self._end(running, result)

    def _fail(self, running: _Running, failure: Failure, result: TrialResult) -> None:
        if failure.blame is Blame.DISK:
            raise disk_is_full(f"trial {running.entry.trial} with seed {running.entry.seed}", failure)
        if not running.recorded:
            self._record(running, {})
        self._end(running, result.failed(failure.without_secrets()))

    def _end(self, running: _Running, result: TrialResult) -> None:
        entry = running.entry
        del self._running[entry.number]
        record_end(self._recorder, entry.number, result, self._objectives)
        run = FinalistRun(
            trial=entry.trial,
            seed=entry.seed,
            run_id="",
            metrics=best_metrics(self._objectives, result) if result.state is State.COMPLETE else {},
            duration_s=result.duration_s or 0.0,
            reason=result.reason,
        )
        self._unwritten[entry.number] = run
        self._observer(run)

    def _replace_overdue(self) -> None:
        limit_s = self._limit_s
        if limit_s is None:
            return
        now = time.monotonic()
        for running in list(self._running.values()):
            if running.taken_up_s is None and self._pool.is_ready(running.slot):
                running.taken_up_s = now
            if running.taken_up_s is not None and now - running.taken_up_s > limit_s:
                self._pool.replace(running.slot)
                reason = f"it took longer than hydra.sweeper.trial_timeout, {limit_s:g} s"
                self._fail(running, Failure(reason=reason, blame=Blame.USER), TrialResult(duration_s=limit_s))

    def _settle(self) -> None:
        """Write to the study which runs the recorder has written: a run is over in both, or is trained again."""
        for number in self._recorder.ended():
            run = replace(self._unwritten.pop(number), run_id=self._recorder.run_id(number))
            self._book.set_user_attr(run.key, run.plain())

    def _settle_all(self, stop: Stop) -> bool:
        """Wait for the recorder and settle every run; return whether runs are kept for an unreachable server."""
        kept = self._recorder.wait(stop, self._warn)
        self._settle()
        if kept.trials:
            self._warn(kept_runs_warning(len(kept.trials)))
        if kept.error is not None and not stop.asked:
            raise kept.error
        return bool(kept.trials)

    def _cut_off(self) -> None:
        """End at once the runs that still train."""
        if self._running:
            self._pool.close()  # a worker would write files while they are recorded, and use processor time
        for number, running in list(self._running.items()):
            del self._running[number]
            if running.recorded:
                self._recorder.finish(number, Status.KILLED, last=False, tags={Tag.STATE: INTERRUPTED})
            else:
                shutil.rmtree(running.card.directory, ignore_errors=True)

    def _warn(self, text: str) -> None:
        self._observer(Warned(text=text))
