"""The folder of a multirun, hydra.sweep.dir, and the files of the sweep in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from besom.reports.read.summary import Summary
from besom.sweep.space.overrides import to_override
from besom.sweep.space.search_space import SearchSpace

_CONFIG, _RESULTS = "multirun.yaml", "optimization_results.yaml"

_NOW = re.compile(r"\$\{\s*now\s*:")
_KEY = re.compile(r"\$\{\s*([\w.]+)\s*\}")
_DEEPEST = 10


def make_folder(config: DictConfig) -> None:
    """Create hydra.sweep.dir and write the sweep's config into it, as Hydra's own sweeper does.

    A folder that is named after the time may exist already, if another app began in the same second; then this one's
    name, and that in the config, ends in a number.
    """
    folder = Path(str(config.hydra.sweep.dir))
    if not _is_named_after_time(config, "hydra.sweep.dir"):
        folder.mkdir(parents=True, exist_ok=True)
    elif (own := _own(folder)) != folder:
        config.hydra.sweep.dir = str(own)
        # Jobs compose the config again, with these overrides.
        config.hydra.overrides.hydra.append(to_override("hydra.sweep.dir", str(own)))
        folder = own
    OmegaConf.save(config, folder / _CONFIG)


def _own(folder: Path) -> Path:
    """Create and return the folder, or one whose name ends in the first free number, from 2."""
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        own.mkdir(parents=True, exist_ok=True)
        try:
            (own / _CONFIG).touch(exist_ok=False)  # of two processes, one succeeds
        except FileExistsError:
            continue
        return own
    raise AssertionError


def _is_named_after_time(config: DictConfig, key: str, deep: int = 0) -> bool:
    """Return whether the text of a key, or of a key that it refers to, has the time in it."""
    *path, last = key.split(".")
    node = OmegaConf.select(config, ".".join(path)) if path else config
    text = OmegaConf.to_container(node, resolve=False).get(last) if OmegaConf.is_dict(node) else None  # type: ignore[union-attr]
    if not isinstance(text, str) or deep > _DEEPEST:
        return False
    others = (_is_named_after_time(config, other, deep + 1) for other in _KEY.findall(text))
    return bool(_NOW.search(text)) or any(others)


def save_results(config: DictConfig, study: optuna.Study, space: SearchSpace, summary: Summary) -> None:
    """Write optimization_results.yaml as hydra-optuna-sweeper does; nothing if no trial is complete.

    With several objectives it has the trials of the Pareto front.
    """
    if summary.best is None:
        return
    trials = study.get_trials(deepcopy=False)

    def params(number: int) -> Mapping[str, Any]:
        return space.params_of(trials[number])

    results: dict[str, Any] = {"name": "optuna"}
    if len(summary.objectives) == 1:
        results |= {"best_params": params(summary.best.trial), "best_value": summary.best.value}
    else:
        values: Mapping[int, Sequence[float]] = {row.trial: row.values for row in summary.rows}
        results["solutions"] = [
            {"params": params(number), "values": list(values[number])} for number in sorted(summary.front)
        ]
    OmegaConf.save(OmegaConf.create(results), Path(str(config.hydra.sweep.dir)) / _RESULTS)
