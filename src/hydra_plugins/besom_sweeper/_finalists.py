"""The schema of `hydra.sweeper.finalists`. Hydra scans no module whose name begins with `_`: this one exists once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class FinalistsConf:
    """The schema of `hydra.sweeper.finalists`."""

    top: int | None = None  # this many of the best, and the best baseline; null: no finalists
    seeds: int | None = None  # runs of each; null: 5
    overrides: Any = None  # further values of their configs, such as {trainer.max_epochs: 60}
    register: str | None = None  # register the winner's best run in MLflow under this name
