"""The common parts of every side: its arguments, its clock, and the line that it prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers.space import DATA

# No side reports home, be it measured or not.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", RAY_USAGE_STATS_ENABLED="0", DO_NOT_TRACK="true")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of a side: `workers` of each DataLoader, `threads` of torch (None: the side's default).

    `same`: draw the trials' parameters by the seed, the same for all sides, instead of by the side's sampler.
    """

    data: str
    trials: int
    epochs: int
    seed: int
    folder: Path
    workers: int
    threads: int | None
    same: bool


@dataclass
class Clock:
    """The seconds that a sweep took, from before its first trial to after its last."""

    seconds: float = field(default=0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the time of a `with` block."""
        began = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began


def run(sweep: Callable[[Settings, Clock], float], description: str) -> None:
    """Run a side's sweep, which returns the best validation accuracy, and print its line; all else goes to stderr."""
    settings = _settings(description)
    clock = Clock()
    with redirect_stdout(sys.stderr):
        best = sweep(settings, clock)
    line = {
        "side": Path(sys.argv[0]).stem,
        "trials": settings.trials,
        "seconds": round(clock.seconds, 3),
        "best": round(best, 4),
    }
    print(json.dumps(line))


def _settings(description: str) -> Settings:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=lambda path: Path(path).resolve(), required=True, help="an empty folder")
    parser.add_argument("--workers", type=int, default=0, help="processes of a DataLoader (0, as the tutorials)")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--same", action="store_true", help="the same trials as all others")
    settings = Settings(**vars(parser.parse_args()))
    settings.folder.mkdir(parents=True, exist_ok=True)
    if any(settings.folder.iterdir()):
        parser.error(f"--folder: {settings.folder} is not empty")
    return settings
