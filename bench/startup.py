"""Measure the time from `besom sweep digits` to the first training step, relative to importing torch and Lightning.

    python bench/startup.py [ROUNDS]

Measures both in turn, with a warm file cache. Prints the medians and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = """
import time
from pathlib import Path
from besom.models import MLPClassifier

class Stamped(MLPClassifier):
    def on_train_batch_start(self, *_):
        with Path("first").open("a") as file:
            file.write(f"{time.time()}\\n")
"""
BESOM = Path(sys.executable).with_name("besom")
SWEEP = [
    str(BESOM), "sweep", "digits", "trainer=cpu", "hydra.sweeper.n_trials=2", "trainer.max_epochs=1",
    "hydra.sweeper.finalists=null",
    "model._target_=stamped.Stamped", "model=mlp_classifier",
]  # fmt: skip


def sweep_s(folder: Path) -> float:
    """Return the seconds from the command to the first training step, on a fresh store."""
    (folder / "stamped.py").write_text(MODEL, encoding="utf-8")
    began = time.time()
    subprocess.run(SWEEP, cwd=folder, env=_environment(folder), check=True, capture_output=True)
    return float((folder / "first").read_text(encoding="utf-8").split()[0]) - began


def imports_s(folder: Path) -> float:
    """Return the seconds that Python takes to import torch and Lightning."""
    began = time.time()
    subprocess.run([sys.executable, "-c", "import torch, pytorch_lightning"], cwd=folder, check=True)
    return time.time() - began


def _environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(folder)}


def main(rounds: int) -> None:
    """Measure and print."""
    times: dict[str, list[float]] = {"sweep": [], "imports": []}
    for turn in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            measured = {"imports": imports_s(Path(folder)), "sweep": sweep_s(Path(folder))}
        if turn:  # the first round warms the cache
            for name, seconds in measured.items():
                times[name].append(seconds)
    sweep, imports = (statistics.median(times[name]) for name in ("sweep", "imports"))
    print(f"besom sweep digits, to the first training step: {sweep:.1f} s")
    print(f"import torch, pytorch_lightning: {imports:.1f} s; ratio {sweep / imports:.2f} (limit 1.5)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
