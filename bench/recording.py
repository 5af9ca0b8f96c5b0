"""Measure the cost of recording: the parent's processor time per trial. Workers do not wait for it.

    python bench/recording.py [TRIALS]

Gives the real recorder, on a fresh SQLite store, trials like those of `besom sweep digits`: 20 epochs of seven metrics,
a flattened config, a saved model, a confusion matrix, learning curves. Prints the median.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.study_run import Status

EPOCHS = 20
METRICS = ("train/loss", "train/acc", "train/f1", "train/lr", "val/loss", "val/acc", "val/f1")
CONFIG = {f"group{g}": {f"key{k}": g * k for k in range(12)} for g in range(5)}
ABOUT = {
    "data": "digits",
    "digest": "0" * 64,
    "sizes": {"train": 1079, "val": 359, "test": 359},
    "device": "cpu",
    "threads": 1,
    "parameters": 26122,
    "versions": {"python": "3", "torch": "2"},
}


def record(recorder: Recorder, trial: int, directory: Path) -> float:
    """Record one trial and return the processor seconds that the recorder's thread took."""
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(bytes(4 * ABOUT["parameters"]))
    (directory / "model.json").write_text(json.dumps(CONFIG))
    counts = [[30 if row == column else (row * column) % 4 for column in range(10)] for row in range(10)]
    (directory / "confusion.json").write_text(json.dumps({"classes": list("0123456789"), "counts": counts}))
    before = recorder.cpu_s
    card = RunCard(name=f"bench-{trial}", config=CONFIG, tags={"besom.trial": str(trial)}, directory=directory)
    recorder.start(trial, card, ABOUT)
    for epoch in range(EPOCHS + 1):
        recorder.report(trial, epoch, dict.fromkeys(METRICS, epoch / EPOCHS), time.time())
    recorder.finish(trial, Status.FINISHED, metrics={"best/val/acc": 1.0}, tags={"besom.state": "COMPLETE"})
    recorder.flush()
    return recorder.cpu_s - before


def main(trials: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        location = Location.of({"uri": None, "directory": root / "mlruns"})
        with Recorder(location, "bench") as recorder:
            record(recorder, 0, root / "warm")
            costs = [record(recorder, trial, root / str(trial)) for trial in range(1, trials + 1)]
    print(f"recording: {1000 * statistics.median(costs):.0f} ms of processor time a trial (median of {trials})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
