"""Check that runs of sweeps are reproduced bit for bit: twenty of them, drawn by a seed, each in a fresh process.

    python bench/reproduce.py [RUNS] [SEED]

Runs the shipped sweeps of digits and of diabetes without bundles (12 random trials of five epochs each, models of
every family, pruned trials too), draws from their runs, and reproduces each one with tolerance 0. Prints a table and a
count; the exit code is 1 unless all are reproduced.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from besom.reproduce.comparison import Verdict
from besom.reproduce.rerun import reproduce
from besom.tracking.store import Location

SWEEPS = {
    "digits": ("hydra/sweeper/pruner=median",),
    "diabetes": ("scheduler=cosine",),
}
SHARED = (
    "trainer=cpu", "trainer.max_epochs=5", "hydra.sweeper.n_trials=12", "hydra.sweeper.bundle=off",
    "hydra.sweeper.finalists=null",
    "hydra/sweeper/sampler=random",
)  # fmt: skip


def sweep(name: str, overrides: tuple[str, ...]) -> list[Run]:
    """Run a shipped sweep in the current folder; return the runs of its trials that did not fail."""
    command = [sys.executable, "-m", "besom.cli", "sweep", name, "--quiet", *SHARED, *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    client = MlflowClient(Location.default().uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    told = [run for run in runs if "besom.trial" in run.data.tags and run.data.tags["besom.state"] != "FAIL"]
    return sorted(told, key=lambda run: int(run.data.tags["besom.trial"]))


def again(run: Run) -> tuple[Verdict, str]:
    """Reproduce a run; return the verdict and its line of output."""
    output = io.StringIO()
    console = Console(file=output, width=1000)
    verdict = reproduce(run.info.run_id, Location.default(), console, tolerance=0.0)
    return verdict, next(line for line in output.getvalue().splitlines() if line.startswith(verdict))


def main(count: int, seed: int) -> int:
    """Sweep, draw, reproduce, print."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        runs = [run for name, overrides in SWEEPS.items() for run in sweep(name, overrides)]
        drawn = random.Random(seed).sample(runs, count)
        print("| trial | model | state | verdict |\n|---|---|---|---|")
        verdicts: Counter[Verdict] = Counter()
        for run in sorted(drawn, key=runs.index):
            verdict, told = again(run)
            verdicts[verdict] += 1
            tags = run.data.tags
            print(f"| {run.info.run_name} | {tags['besom.family']} | {tags['besom.state']} | {told} |", flush=True)
        os.chdir(Path(folder).parent)
    print(f"\n{verdicts[Verdict.REPRODUCED]} of {count} reproduced bit for bit (drawn from {len(runs)} by seed {seed})")
    return 0 if verdicts[Verdict.REPRODUCED] == count else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*given, *(20, 0)[len(given) :]))
