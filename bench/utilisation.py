"""How busy four slots are kept: trials of log-normal duration, started one by one and in blocking batches.

    python bench/utilisation.py [TRIALS]

The trials only wait, in real worker processes, so that four slots need no four cores. The ideal is the sum of the
durations over four slots. Prints the time from the first trial's start to the last one's end, over the ideal: of a
sweep, and of the same trials in batches of four, each as long as its longest: what a sweeper does that launches
batches.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

SLOTS, MEDIAN_S, SIGMA = 4, 0.8, 0.8

CONFIG = """\
defaults: [_self_, {{override hydra/sweeper: besom}}, {{override hydra/sweeper/sampler: grid}}]
trial: 0
trials: {trials}
folder: {folder}
hydra:
  mode: MULTIRUN
  output_subdir: null
  job_logging: {{disable_existing_loggers: false, root: null}}
  sweep: {{dir: {folder}, subdir: .}}
  sweeper:
    study_name: utilisation
    devices: cpu
    n_trials: null
    n_jobs: {slots}
    trials_per_device: {slots}
    tracking: true
    quiet: true
    params: {{trial: "range(0, {trials})"}}
"""


def durations_s(trials: int) -> np.ndarray:
    """The trials' durations, the same each time."""
    return np.random.default_rng(0).lognormal(np.log(MEDIAN_S), SIGMA, trials)


def wait(config: DictConfig) -> float:
    """A trial: waits, and notes when."""
    began = time.monotonic()
    time.sleep(durations_s(config.trials)[config.trial])
    with (Path(config.folder) / "times").open("a", encoding="utf-8") as file:
        file.write(f"{began} {time.monotonic()}\n")
    return float(config.trial)


def main(trials: int) -> None:
    """Measure and print."""
    durations = durations_s(trials)
    ideal = durations.sum() / SLOTS
    batches = sum(durations[start : start + SLOTS].max() for start in range(0, trials, SLOTS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(CONFIG.format(folder=folder, trials=trials, slots=SLOTS))
        os.chdir(folder)
        sys.argv = sys.argv[:1]
        hydra.main(version_base="1.3", config_path=folder, config_name="config")(wait)()
        times = np.loadtxt(Path(folder) / "times")
        os.chdir("/")
    total = times[:, 1].max() - times[:, 0].min()
    print(f"{trials} trials of {durations.min():.2f} to {durations.max():.2f} s in {SLOTS} slots: ideal {ideal:.1f} s")
    print(f"a sweep: {total:.1f} s, {total / ideal:.2f} times the ideal (limit 1.1)")
    print(f"blocking batches, without any cost of their own: {batches:.1f} s, {batches / ideal:.2f} times the ideal")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 80)
