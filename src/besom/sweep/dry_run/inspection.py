"""The inspection of a user's own modules before the first trial: can they be imported, do they have the named targets?

The parent process never imports torch, so it cannot import them: a worker does, and reports the errors.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.config.targets.check import targets_in
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Bundle, Finished
from besom.workers.pool import Died, Launcher, WorkerPool
from besom.workers.tasks import Inspection

_OURS = ("besom", "torch", "pytorch_lightning")

Plain = Mapping[str, Any]


def names_others(config: DictConfig) -> bool:
    """Return whether a config names classes or functions other than those of Besom, torch and Lightning."""
    written = OmegaConf.to_container(config, resolve=False)
    return not all(str(target).partition(".")[0] in _OURS for _, target in targets_in(written))


def inspect_modules(
    configs: Iterable[Plain], slot: Slot, launcher: Launcher, *, model_keys: tuple[str, ...] = ()
) -> list[str]:
    """Let a worker import the targets of resolved configs, and return the errors, one line each, without duplicates.

    Of several configs with the same targets, one is inspected. The models must read `model_keys`.
    """
    by_targets = {frozenset(str(target) for _, target in targets_in(config)): config for config in configs}
    return list(dict.fromkeys(_inspect(list(by_targets.values()), slot, launcher, model_keys)))


def _inspect(configs: Sequence[Plain], slot: Slot, launcher: Launcher, model_keys: tuple[str, ...]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        left = {
            number: Assignment(trial=number, config=config, directory=logs, model_keys=model_keys)
            for number, config in enumerate(configs)
        }
        with WorkerPool([slot], Inspection(), logs=logs, launcher=launcher) as pool:
            pool.submit(slot, Bundle(assignments=tuple(left.values())))
            while left:
                for event in pool.events(timeout_s=1.0):
                    match event:
                        case Finished(trial=trial, result=result):
                            del left[trial]
                            if result.reason is not None:
                                yield result.reason
                        case Died(reason=reason):
                            left.clear()
                            death = re.sub(r" \(pid \d+\)", "", reason.partition(";")[0])
                            yield f"importing what the config names ends the process: {death}"
