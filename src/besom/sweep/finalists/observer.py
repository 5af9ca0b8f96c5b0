"""The observer of finalists: a progress bar on a terminal, a line per run anywhere else, and always the log."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from besom.config.objectives import BEST, Objective
from besom.reports.format import number
from besom.reports.read.failures import one_line
from besom.secrets.masks import mask
from besom.sweep.finalists.choose import Entry
from besom.sweep.progress.events import Dispatched, Ended, Retried, SweepEvent, Warned
from besom.sweep.progress.log import LogFile
from besom.sweep.trials.trial import best_metrics
from besom.system.console import warn
from besom.workers.messages import State, TrialResult


class FinalistsObserver:
    """Shows and logs each finalist's run, as a context manager; a `quiet` sweep is only logged."""

    def __init__(
        self,
        console: Console,
        log: LogFile,
        objectives: tuple[Objective, ...],
        entries: Sequence[Entry],
        *,
        quiet: bool,
    ) -> None:
        self._console = console
        self._log = log
        self._objectives = objectives
        self._shown = (objectives[0].best_metric, objectives[0].test_metric)
        self._entries = {entry.number: entry for entry in entries}
        self._done = 0
        self._quiet = quiet
        columns = (TextColumn("finalists"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=len(entries))

    def __enter__(self) -> Self:
        self._log.__enter__()
        self._log.write(f"finalists begin: {len(self._entries)} runs")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._bar.disable:  # before rich 14, one that was never started prints an empty line
            self._bar.stop()
        how = f"; {kind.__name__}" if kind else ""
        self._log.write(f"finalists end: {self._done} of {len(self._entries)} runs{how}")
        self._log.__exit__(kind, error, trace)

    def __call__(self, event: SweepEvent) -> None:
        """Show and log an event."""
        match event:
            case Dispatched(trial=number, slot=slot, attempt=attempt):
                again = f", attempt {attempt + 1}" if attempt else ""
                self._log.write(f"{self._entries[number].name} started in slot {slot.index} on {slot}{again}")
            case Ended(trial=number, result=result):
                self._ended(self._entries[number], result)
            case Retried(trial=number, reason=reason):
                self._log.write(f"{self._entries[number].name} failed and is run again: {reason}")
            case Warned(text=text):
                self._log.write(f"warning: {text}")
                warn(self._bar.console, text)

    def _ended(self, entry: Entry, result: TrialResult) -> None:
        self._done += 1
        complete = result.state is State.COMPLETE
        metrics = best_metrics(self._objectives, result) if complete else {}
        named = {name.removeprefix(BEST): metrics[name] for name in self._shown if name in metrics}
        text = "  ".join(f"{name} {number(value, name)}" for name, value in named.items())
        text = text if complete else f"FAILED: {mask(one_line(result.reason or 'it stopped early'))}"
        self._log.write(f"{entry.name} {text}")
        line = f"trial {entry.trial:>4}  seed {entry.seed:>6}  {text}"
        if self._bar.disable and not self._quiet:
            self._console.file.write(f"{line}   [finalists {self._done}/{len(self._entries)}]\n")
            self._console.file.flush()
        elif not complete:
            self._bar.console.print(Text(line, style="red"), soft_wrap=True)
        self._bar.advance(self._task)
