"""The sweep of digits, composed as by `besom sweep digits`, which several benchmarks use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from besom.config.hydra_versions import VERSION_BASE
from besom.config.objectives import Objective
from besom.config.paths import conf_dir, search_path, sweeps_dir
from besom.config.schema import register_schemas
from besom.sweep.compose import Composer
from besom.sweep.space.parser import SpaceParser
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import BudgetSpec, SearchSpec
from besom.sweep.study.study import StudyBook, open_study
from besom.sweep.trials.jobs import TrainingJobs


@dataclass(frozen=True)
class Digits:
    """A sweep of digits under way."""

    spec: SweepSpec
    book: StudyBook
    jobs: TrainingJobs


@contextmanager
def sweep_of_digits(folder: Path, n_trials: int, **keys: Any) -> Iterator[Digits]:
    """Open the study of digits in a folder; `keys` go into the spec of its search."""
    register_schemas()
    with search_path([conf_dir()]), initialize_config_dir(config_dir=str(sweeps_dir()), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("digits", ["trainer=cpu"], run_mode=RunMode.MULTIRUN)
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper)
    space, line = SpaceParser(loader, source="digits.yaml").space(sweeper["params"], sweeper["when"])
    spec = SweepSpec(
        study_name="bench",
        search=SearchSpec(objectives=(Objective(name="val/acc", direction="maximize"),), source="digits.yaml", **keys),
        budget=BudgetSpec(n_trials=n_trials),
    )
    with open_study(spec, space, folder) as book:
        yield Digits(spec, book, TrainingJobs(Composer(loader, config, line), study_name="bench", tags={}))
