"""A look at a user's own modules before the first trial: that they can be imported, and have what will be called.

The parent imports no torch, and so none of them: a worker does, and says what it found.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.config.targets import targets_in
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Bundle, Finished
from besom.workers.pool import Died, Launcher, WorkerPool
from besom.workers.tasks import Inspection

_OURS = ("besom", "torch", "pytorch_lightning")

Plain = Mapping[str, Any]


def names_others(config: DictConfig) -> bool:
    """Whether a config names classes or functions that are neither Besom's own nor torch's or Lightning's."""
    written = OmegaConf.to_container(config, resolve=False)
    return not all(str(target).partition(".")[0] in _OURS for _, target in targets_in(written))


def inspect_modules(configs: Iterable[Plain], slot: Slot, launcher: Launcher) -> list[str]:
    """Have a worker import what resolved configs name, and return what is wrong, each thing once, in one line.

    Of configs with the same classes, one is looked at.
    """
    by_targets = {frozenset(str(target) for _, target in targets_in(config)): config for config in configs}
    return list(dict.fromkeys(_inspect(list(by_targets.values()), slot, launcher)))


def _inspect(configs: Sequence[Plain], slot: Slot, launcher: Launcher) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        left = {number: Assignment(trial=number, config=one, directory=logs) for number, one in enumerate(configs)}
        with WorkerPool([slot], Inspection(), logs=logs, launcher=launcher) as pool:
            pool.submit(slot, Bundle(assignments=tuple(left.values())))
            while left:
                for event in pool.events(timeout_s=1.0):
                    match event:
                        case Finished(trial=trial, failure=failure):
                            del left[trial]
                            if failure is not None:
                                yield failure.reason
                        case Died(reason=reason):
                            left.clear()
                            told = re.sub(r" \(pid \d+\)", "", reason.partition(";")[0])
                            yield f"importing what the config names ends the process: {told}"
