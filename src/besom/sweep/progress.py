"""What a sweep shows while it runs: a live board on a terminal, a line per trial anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from besom.workers.devices import Slot


class LiveBoard:
    """Trials done, running and failed; the best so far; time left; what each slot trains."""

    def __init__(
        self,
        console: Console,
        *,
        title: str,
        objective: str,
        direction: str,
        total: int,
        done: int,
        slots: int,
    ) -> None:
        self._console = console
        self._title = title
        self._objective = objective
        self._better: Callable[[float, float], bool] = float.__gt__ if direction == "maximize" else float.__lt__
        self._total = total
        self._done = self._done_before = done
        self._slots = slots
        self._failed = 0
        self._best: tuple[float, int] | None = None
        self._running: dict[int, tuple[Slot, int, float | None]] = {}
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def best_known(self, value: float, trial: int) -> None:
        """Begin with the best of an earlier part of the sweep."""
        self._best = (value, trial)

    def started(self, trial: int, slot: Slot) -> None:
        """A trial was handed to a slot."""
        self._running[trial] = (slot, 0, None)

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """A trial reached an epoch."""
        if trial in self._running:
            self._running[trial] = (self._running[trial][0], epoch, value)

    def finished(self, trial: int, value: float | None, reason: str | None) -> None:
        """A trial is over: with a value, or failed for a reason."""
        self._running.pop(trial, None)
        self._done += 1
        if value is None:
            self._failed += 1
        elif self._best is None or self._better(value, self._best[0]):
            self._best = (value, trial)
        if self._live is None:
            outcome = f"{self._objective} {value:.4f}" if value is not None else f"FAILED: {reason}"
            self._console.print(
                f"trial {trial:>4}  {outcome}   [{self._done}/{self._total}{self._best_text()}]",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
        elif reason is not None:
            self._live.console.print(Text(f"trial {trial} failed: {reason}", style="red"), soft_wrap=True)

    def refresh(self) -> None:
        """Redraw, if it is time."""
        if self._live is not None:
            self._live.update(self._render(), refresh=True)

    def _best_text(self) -> str:
        return "" if self._best is None else f", best {self._best[0]:.4f} (trial {self._best[1]})"

    def _render(self) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=self._total, completed=self._done, width=30),
            Text(f"{self._done}/{self._total} done", style="green"),
            Text(f"{len(self._running)} running", style="cyan"),
            Text(f"{self._failed} failed", style="red" if self._failed else "dim"),
            Text(self._time_left(), style="dim"),
        )
        best = Text(f"  best {self._objective} ", style="dim")
        best.append(f"{self._best[0]:.4f}" if self._best else "none yet", style="bold green" if self._best else "dim")
        best.append(f"  (trial {self._best[1]})" if self._best else "", style="dim")
        rows = Table.grid(padding=(0, 2))
        for trial, (slot, epoch, value) in sorted(self._running.items(), key=lambda item: item[1][0].index):
            rows.add_row(
                Text(f"  {slot.device.kind} slot {slot.index}", style="dim"),
                f"trial {trial}",
                f"epoch {epoch}",
                "" if value is None else f"{self._objective} {value:.4f}",
            )
        return Group(head, best, rows)

    def _time_left(self) -> str:
        finished = self._done - self._done_before
        if not finished:
            return "starting workers…" if not any(epoch for _, epoch, _ in self._running.values()) else "…"
        left = (time.monotonic() - self._began) / finished * (self._total - self._done)
        return f"{int(left // 60)}:{int(left % 60):02d} left"
