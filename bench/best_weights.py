"""Seconds to keep the best weights of models of several sizes: in memory, in a file, and to read that file again.

    PYTHONPATH=src python bench/best_weights.py [MB …]

`best_weights_in_memory_mb` says which sizes are kept in a file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
from torch import nn

from besom.models.weights import keep_state, load_state

_SIDE = 512  # a layer of a MB


def main() -> None:
    """Print the smallest of three times each."""
    print("MB    in memory    in a file    read again")
    for size in [int(size) for size in sys.argv[1:]] or [10, 30, 100, 300]:
        times = [_measured(size) for _ in range(3)]
        in_memory, in_file, again = map(min, zip(*times, strict=True))
        print(f"{size:<5} {in_memory:8.3f} s {in_file:10.3f} s {again:11.3f} s")


def _measured(size: int) -> tuple[float, float, float]:
    module = pl.LightningModule()
    module.layers = nn.ModuleList(nn.Linear(_SIDE, _SIDE, bias=False) for _ in range(size))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        at = [time.perf_counter()]
        keep_state(module, Path(folder, "best.pt"), limit_mb=2 * size)
        at.append(time.perf_counter())
        state = keep_state(module, Path(folder, "best.pt"), limit_mb=0)
        at.append(time.perf_counter())
        load_state(module, state)
        at.append(time.perf_counter())
    return at[1] - at[0], at[2] - at[1], at[3] - at[2]


if __name__ == "__main__":
    main()
