"""Compare Besom with other tools: the same search space, data, epochs and number of trials, in one run.

    PYTHONPATH=. python bench/bundles.py [--data digits] [--trials 40] [--epochs 20] [--rounds 3] [--sides …] [--same]

Prints a table in Markdown: trials per minute (the median of the rounds, which go through all sides in turn), the
speed-up of Besom over each peer (the median of the rounds' ratios), and the best validation accuracy. --chart FILE
draws it. The peers' environments are created under --envs on first use; see bench/peers/. Besom's time is from epoch 0
of the first trial to the end of the last one, including recording; a peer's is from before its first trial to after its
last. Imports do not count, except for Ray, whose sweep waits for those of its workers. With few trials the result
depends on which ones they are: --same gives all sides the same trials, drawn at random with the round's seed; otherwise
each side has its own sampler.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.peers.environments import make
from bench.peers.space import draw, learning_rate

_STUDY = "bench"
_KEYS = {"momentum": "optimizer.momentum"} | {
    name: f"model.{name}" for name in ("depth", "width", "activation", "dropout")
}

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Task:
    """The task of every side; `envs` is the folder of the peers' environments."""

    data: str
    trials: int
    epochs: int
    envs: Path
    same: bool


@dataclass(frozen=True)
class Result:
    """The seconds of a sweep and its best validation accuracy."""

    seconds: float
    best: float


Side = Callable[[Task, int, Path], Result]


def besom(bundle: str) -> Side:
    """Run `besom sweep`, recorded in MLflow as usual."""

    def run(task: Task, seed: int, folder: Path) -> Result:
        arguments = [
            f"seed={seed}", "data.split_seed=0", f"trainer.max_epochs={task.epochs}", "trainer=cpu",
            f"hydra.sweeper.n_trials={task.trials}", f"hydra.sweeper.bundle={bundle}", "--quiet",
            "hydra.sweeper.finalists=null", f"hydra.sweeper.study_name={_STUDY}",
        ]  # fmt: skip
        sweep = ["digits"] if task.data == "digits" else ["fashion_mnist", f"data={task.data}"]
        if task.same:
            drawn = [_as_besom(parameters) for parameters in draw(task.data, task.trials, seed)]
            arguments.append(f"hydra.sweeper.enqueue={_hydras(drawn)}")
        _run([str(Path(sys.executable).with_name("besom")), "sweep", *sweep, *arguments], folder)
        return _recorded(folder / "mlruns")

    return run


def _as_besom(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's parameters by the keys of the sweep files."""
    rate = {"optimizer.lr": learning_rate(parameters)}
    return rate | {_KEYS.get(name, name): value for name, value in parameters.items() if not name.startswith("lr")}


def _hydras(trials: Sequence[Mapping[str, Any]]) -> str:
    """Return the trials as a list of dictionaries in Hydra's grammar."""
    return "[" + ",".join("{" + ",".join(f"{key}: {value}" for key, value in one.items()) + "}" for one in trials) + "]"


def _recorded(folder: Path) -> Result:
    with sqlite3.connect(folder / "mlflow.db") as runs:
        (began_ms,) = runs.execute("SELECT MIN(timestamp) FROM metrics WHERE step = 0 AND timestamp > 0").fetchone()
    with sqlite3.connect(folder / "optuna.db") as trials:
        ended, best = trials.execute(
            "SELECT MAX(datetime_complete), MAX(value) FROM trials JOIN studies USING (study_id) "
            "LEFT JOIN trial_values USING (trial_id) WHERE study_name = ?",
            (_STUDY,),
        ).fetchone()
    return Result(datetime.fromisoformat(ended + "+00:00").timestamp() - began_ms / 1000, best)


def peer(name: str, environment: str | None = None) -> Side:
    """Run a script of bench/peers, in a separate environment if it needs one."""

    def run(task: Task, seed: int, folder: Path) -> Result:
        python = str(make(environment, task.envs)) if environment else sys.executable
        script = ROOT / "bench" / "peers" / f"{name}.py"
        arguments = {"data": task.data, "trials": task.trials, "epochs": task.epochs, "seed": seed, "folder": folder}
        same = ["--same"] if task.same else []
        told = _run([python, str(script), *(f"--{key}={value}" for key, value in arguments.items()), *same], folder)
        line = json.loads(told)
        return Result(line["seconds"], line["best"])

    return run


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


SIDES: dict[str, tuple[str, Side]] = {
    "bundled": ("Besom, bundled", besom("auto")),
    "solo": ("Besom, one trial at a time", besom("off")),
    "hand": ("a loop by hand, nothing tracked", peer("hand")),
    "lightning": ("Optuna + Lightning + MLFlowLogger", peer("optuna_lightning")),
    "hydra": ("hydra-optuna-sweeper", peer("hydra_optuna", "hydra")),
    "ray": ("Ray Tune, 2 at a time", peer("ray_tune", "ray")),
}


def table(task: Task, results: dict[str, list[Result]]) -> str:
    """Return the results as Markdown, the fastest first."""
    rates = {
        side: 60 * task.trials / statistics.median(one.seconds for one in found) for side, found in results.items()
    }
    lines = ["| | trials a minute | Besom, bundled, is | best val/acc |", "|---|---|---|---|"]
    for side in sorted(rates, key=lambda side: -rates[side]):
        times = ""
        if side != "bundled" and "bundled" in results:
            pairs = zip(results["bundled"], results[side], strict=True)
            times = f"{statistics.median(other.seconds / ours.seconds for ours, other in pairs):.1f} times as fast"
        best = statistics.median(one.best for one in results[side])
        lines.append(f"| {SIDES[side][0]} | {_figure(rates[side])} | {times} | {best:.4f} |")
    return "\n".join(lines)


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def chart(task: Task, results: dict[str, list[Result]], file: Path) -> None:
    """Draw the rates on a logarithmic scale."""
    from matplotlib.figure import Figure

    rates = {
        side: 60 * task.trials / statistics.median(one.seconds for one in found) for side, found in results.items()
    }
    order = sorted(rates, key=lambda side: rates[side])
    figure = Figure(figsize=(8, 0.5 * len(order) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = ["#1f6f8b" if side in ("bundled", "solo") else "#b8b8b8" for side in order]
    bars = axes.barh([SIDES[side][0] for side in order], [rates[side] for side in order], color=colours)
    axes.bar_label(bars, [f" {_figure(rates[side])}" for side in order])
    axes.set_xscale("log")
    axes.set_xlabel("trials a minute (logarithmic)")
    axes.set_title(f"{task.data}: {task.trials} trials of {task.epochs} epochs", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "mnist", "fashion_mnist"), default="digits")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--envs", type=Path, default=Path(tempfile.gettempdir()) / "besom-bench")
    parser.add_argument("--chart", type=Path)
    given = parser.parse_args()
    task = Task(given.data, given.trials, given.epochs, given.envs, given.same)
    results: dict[str, list[Result]] = {side: [] for side in given.sides}
    for seed in range(given.rounds):
        for side in given.sides:
            with tempfile.TemporaryDirectory() as folder:
                result = SIDES[side][1](task, seed, Path(folder))
            results[side].append(result)
            print(f"{side} {seed}: {result.seconds:.1f} s, best {result.best:.4f}", file=sys.stderr, flush=True)
    print(f"{task.data}: {task.trials} trials of {task.epochs} epochs, medians of {given.rounds}\n")
    print(table(task, results))
    if given.chart:
        chart(task, results, given.chart)


if __name__ == "__main__":
    main()
