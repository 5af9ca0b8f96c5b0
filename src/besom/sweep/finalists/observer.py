"""The observer of finalists: a progress bar on a terminal, a line per run anywhere else, and always the log."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from besom.config.objectives import BEST
from besom.reports.format import number
from besom.reports.read.failures import one_line
from besom.reports.read.finalists import FinalistRun
from besom.secrets.masks import mask
from besom.sweep.finalists.choose import Entry
from besom.sweep.progress.events import Dispatched, Warned
from besom.sweep.progress.log import LogFile
from besom.sweep.spec import SweepSpec
from besom.system.console import warn


class FinalistsObserver:
    """Shows and logs each finalist's run, as a context manager; a `quiet` sweep is only logged."""

    def __init__(self, console: Console, log: LogFile, spec: SweepSpec, entries: Sequence[Entry]) -> None:
        self._console = console
        self._log = log
        self._shown = (spec.objective.best_metric, spec.objective.test_metric)
        self._entries = {entry.number: entry for entry in entries}
        self._done = 0
        self._quiet = spec.quiet
        columns = (TextColumn("finalists"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=spec.quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=len(entries))

    def __enter__(self) -> Self:
        self._log.__enter__()
        self._log.write(f"finalists begin: {len(self._entries)} runs")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        how = f"; {kind.__name__}" if kind else ""
        self._log.write(f"finalists end: {self._done} of {len(self._entries)} runs{how}")
        self._log.__exit__(kind, error, trace)

    def __call__(self, event: Dispatched | FinalistRun | Warned) -> None:
        """Show and log an event."""
        match event:
            case Dispatched(trial=number, slot=slot):
                entry = self._entries[number]
                self._log.write(f"trial {entry.trial} with seed {entry.seed} started in slot {slot.index} on {slot}")
            case FinalistRun():
                self._ended(event)
            case Warned(text=text):
                self._log.write(f"warning: {text}")
                warn(self._bar.console, text)

    def _ended(self, run: FinalistRun) -> None:
        self._done += 1
        named = {name.removeprefix(BEST): run.metrics[name] for name in self._shown if name in run.metrics}
        result = "  ".join(f"{name} {number(value)}" for name, value in named.items())
        result = result if run.reason is None else f"FAILED: {mask(one_line(run.reason))}"
        self._log.write(f"trial {run.trial} with seed {run.seed} {result}")
        line = f"trial {run.trial:>4}  seed {run.seed:>6}  {result}"
        if self._bar.disable and not self._quiet:
            self._console.file.write(f"{line}   [finalists {self._done}/{len(self._entries)}]\n")
            self._console.file.flush()
        elif run.reason is not None:
            self._bar.console.print(Text(line, style="red"), soft_wrap=True)
        self._bar.advance(self._task)
