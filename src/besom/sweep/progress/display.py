"""Observers that show a running sweep: a live view on a terminal, a line per trial anywhere else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from rich.console import Console
from rich.live import Live
from rich.text import Text

from besom.config.units import Unit
from besom.reports.format import number
from besom.reports.read.failures import cause, one_line
from besom.reports.read.trials import is_feasible, plain_params
from besom.secrets.masks import mask
from besom.sweep.progress.counts import TrialCounts
from besom.sweep.progress.events import Ended, Observer, Polled, Retried, StopRequested, SweepEvent, Warned
from besom.sweep.progress.live_view import draw
from besom.sweep.progress.log import SweepLog
from besom.sweep.progress.text import STOPPING, failure_details, result_text, trial_numbers
from besom.sweep.spec import SweepSpec
from besom.system.console import warn
from besom.workers.devices import Slot
from besom.workers.messages import State, TrialResult

ParamsOf = Callable[[int], Mapping[str, Any]]

_REDRAW_S = 0.1
_CLOCK_S = 1.0  # between redraws while only the time changes
_SHOWN_PER_CAUSE = 3  # failures of one cause shown while the sweep runs; the end lists all


@contextmanager
def sweep_observer(
    console: Console,
    spec: SweepSpec,
    slots: Sequence[Slot],
    study: optuna.Study,
    *,
    total: int | None,
    log: Path,
    axis: Unit = Unit.EPOCH,
    limit: int | None = None,
) -> Iterator[Observer]:
    """Show a sweep on the screen and log it to the file at `log` while the context is open.

    Finished trials of the study are counted first. `total` is the number of trials of the study, `limit` the number
    that a trial reaches on the axis of its reports, None if unknown.
    """
    counts = TrialCounts(spec.search.objectives, total=total, timeout_s=spec.budget.timeout_s, axis=axis)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            state, values = State(trial.state.name), tuple(trial.values or ())
            counts.add(trial.number, state, values, feasible=is_feasible(trial))
    screen: AbstractContextManager[Observer]
    if spec.quiet:
        screen = nullcontext(QuietObserver(console))
    elif console.is_terminal:
        screen = LiveObserver(
            console, counts, title=spec.study_name, slots=slots, limit=limit,
            params_of=lambda number: plain_params(study.get_trials(deepcopy=False)[number]),
        )  # fmt: skip
    else:
        screen = PlainObserver(console, counts)
    with SweepLog(log, study=spec.study_name, objectives=spec.search.objectives) as logged, screen as shown:
        observers: list[Observer] = [logged, shown]

        def notify(event: SweepEvent) -> None:
            for observer in observers:
                observer(event)

        yield notify


class QuietObserver:
    """Prints warnings and the confirmation of a stop request only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: SweepEvent) -> None:
        """Print a warning or the confirmation."""
        match event:
            case Warned(text=text):
                warn(self._console, text)
            case StopRequested():
                self._console.print(STOPPING, highlight=False, markup=False, soft_wrap=True)


class PlainObserver:
    """Prints a line per trial, for pipes, files and CI; without rich, which is a hundred times slower."""

    def __init__(self, console: Console, counts: TrialCounts) -> None:
        self._console = console
        self._counts = counts
        self._failures = set[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print the trials that will be run again, in one line."""
        if self._counts.waiting:
            self._write(_requeued_line(self._counts.waiting))

    def __call__(self, event: SweepEvent) -> None:
        """Count an event, and print its line if it has one."""
        self._counts.update(event)
        match event:
            case Ended(trial=trial, result=result):
                text = result_text(self._counts.objectives, event, _safe(result.reason))
                done = f"{self._counts.done}/{self._counts.total}" if self._counts.total else f"{self._counts.done}"
                self._write(f"trial {trial:>4}  {text}   [{done}{self._best()}]")
                if result.reason is not None and cause(result.reason) not in self._failures:
                    self._failures.add(cause(result.reason))
                    for line in failure_details(event):
                        self._write(line)
            case Retried(trial=trial, reason=reason):
                self._write(f"trial {trial:>4}  failed and is run again: {_safe(reason)}")
            case Warned(text=text):
                self._write(f"warning: {text}")
            case StopRequested():
                self._write(STOPPING)

    def _best(self) -> str:
        if len(self._counts.objectives) > 1:
            return f", {len(self._counts.front)} on the Pareto front" if len(self._counts.front) else ""
        if self._counts.best is None:
            return ""
        trial, value = self._counts.best
        return f", best {number(value, self._counts.objectives[0].name)} (trial {trial})"

    def _write(self, line: str) -> None:
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


class LiveObserver:
    """Draws the whole sweep in place; failures are printed above it."""

    def __init__(
        self,
        console: Console,
        counts: TrialCounts,
        *,
        title: str,
        slots: Sequence[Slot],
        limit: int | None = None,
        params_of: ParamsOf = lambda trial: {},
    ) -> None:
        self._console = console
        self._counts = counts
        self._title = title
        self._slots = tuple(slots)
        self._limit = limit
        self._params_of = params_of
        self._best_params: tuple[int, Mapping[str, Any]] | None = None
        self._failures = Counter[str]()
        self._stopping = False
        self._drawn_s = 0.0
        self._changed = True
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if self._counts.waiting:
            self._print(_requeued_line(self._counts.waiting), "yellow")

    def __call__(self, event: SweepEvent) -> None:
        """Count an event and redraw; print failures and warnings above the live view."""
        self._counts.update(event)
        self._changed = self._changed or not isinstance(event, Polled)
        match event:
            case Polled():
                self._refresh()
            case Ended(trial=trial, result=TrialResult(state=State.FAIL, reason=reason)):
                self._print_failure(f"trial {trial} failed: ", reason or "unknown", "red", failure_details(event))
            case Retried(trial=trial, reason=reason):
                self._print_failure(f"trial {trial} failed and is run again: ", reason, "yellow")
            case Warned(text=text):
                self._print(f"warning: {text}", "yellow")
            case StopRequested():
                self._stopping = True
                self._drawn_s = 0.0
                self._refresh()

    def _refresh(self) -> None:
        """Redraw at most ten times a second after a change, and once a second otherwise, for the clock."""
        now = time.monotonic()
        if now - self._drawn_s >= (_REDRAW_S if self._changed else _CLOCK_S):
            self._drawn_s, self._changed = now, False
            self._live.update(self._view(), refresh=True)

    def _view(self) -> Any:
        counts = self._counts
        if counts.best is not None and (self._best_params is None or self._best_params[0] != counts.best[0]):
            self._best_params = (counts.best[0], self._params_of(counts.best[0]))
        return draw(
            counts,
            title=self._title,
            slots=self._slots,
            limit=self._limit,
            best_params=self._best_params[1] if self._best_params else {},
            note=STOPPING if self._stopping else "",
            height=self._console.height,
        )

    def _print_failure(self, what: str, reason: str, style: str, details: Sequence[str] = ()) -> None:
        key = cause(reason)
        self._failures[key] += 1
        if self._failures[key] <= _SHOWN_PER_CAUSE:
            last = "   (more of these: in the log)" if self._failures[key] == _SHOWN_PER_CAUSE else ""
            self._print(f"{what}{_safe(reason)}{last}", style)
        if self._failures[key] == 1:
            for line in details:
                self._print(line, "dim")

    def _print(self, line: str, style: str) -> None:
        self._live.console.print(Text(line, style=style), soft_wrap=True)


def _safe(reason: str | None) -> str | None:
    return None if reason is None else mask(one_line(reason))


def _requeued_line(trials: Sequence[int]) -> str:
    return f"put back, for the same command to take up: {trial_numbers(sorted(trials))}"
