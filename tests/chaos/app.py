"""An app whose jobs are short, report, fail at times, and write down what they were given."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import hydra

import besom


def value_of(x: float, depth: int) -> float:
    return depth - (x - 0.3) ** 2


@hydra.main(version_base="1.3", config_path=".", config_name="app")
def job(config: Any) -> float:
    with Path("jobs.log").open("a", encoding="utf-8") as log:
        log.write(f"{config.x!r} {config.depth}\n")
    value = value_of(config.x, config.depth)
    for step in range(1, 5):
        time.sleep(0.005 + 0.02 * config.x)
        besom.report(value * step / 4, step=step)
    if config.x > 0.9 and config.depth == 2:
        raise ValueError(f"no luck in process {os.getpid()}")
    return value


if __name__ == "__main__":
    job()
