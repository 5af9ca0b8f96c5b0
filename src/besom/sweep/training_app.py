"""What differs between sweeping Besom's own configs and another Hydra app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check, folds_of, recordable, require_groups, resolved
from besom.config.snapshot import Snapshot, snapshot
from besom.errors import ConfigError, DeviceError
from besom.sweep.compose import Composer
from besom.sweep.dry_run.inspection import inspect_modules, names_others
from besom.sweep.finalists.choose import check_finalists
from besom.sweep.jobs import Jobs, TrainingJobs
from besom.sweep.request import SweepRequest
from besom.sweep.spec import SweepSpec
from besom.sweep.study.config import shared_by
from besom.system.console import plain_console
from besom.tracking.recorder.nothing import NoRecorder
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location
from besom.tracking.ui.views import wanted
from besom.workers.devices import Slot, find_slots
from besom.workers.pool import Launcher, Pool, WorkerPool
from besom.workers.tasks import Task, Training


class App(Protocol):
    """What is swept: `kind` is `besom` for Besom's own configs, `hydra` for any other app."""

    kind: str
    request: SweepRequest

    @property
    def location(self) -> Location:
        """Where everything is kept."""

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from; else there is one job, and no study."""

    @property
    def max_epochs(self) -> int | None:
        """How many epochs a trial takes at most, where that is known."""

    @property
    def composer(self) -> Composer:
        """Makes configs of parameters."""

    def snapshot(self, folder: Path) -> AbstractContextManager[Snapshot]:
        """The config files as they are now, for a `with` block; `folder` takes copies."""

    def pool(self, logs: Path) -> Pool:
        """What runs the trials, for a `with` block; workers log to this folder."""

    def recorder(self) -> Recorder:
        """What records the runs."""

    def jobs(self, tags: Mapping[str, str]) -> Jobs:
        """What makes trials ready for their workers; their runs get these tags."""

    def check_config(self, config: DictConfig) -> None:
        """Refuse, with ConfigError, a composed config that cannot be run."""

    def check(self) -> None:
        """Refuse, with ConfigError, a sweep whose trials would fail by their configs alone."""

    def inspect(self) -> list[str]:
        """Return what is wrong with the code that the configs name, as far as that can be known."""

    def shared(self) -> dict[str, Any]:
        """What all trials have in common: the flattened config that they start from, less what is sampled."""

    def run_once(self, pool: Pool, scratch: Path) -> Sequence[Sequence[Any]]:
        """Run the one job that there is where nothing is chosen, and return what Hydra is given back."""

    def results(self) -> Sequence[Sequence[Any]]:
        """What Hydra is given back, once the sweep is over."""


class TrainingApp:
    """Besom's own configs: trials of `conf/train.yaml`."""

    kind = "besom"
    chooses = True

    def __init__(
        self,
        config: DictConfig,
        context: HydraContext,
        request: SweepRequest,
        launcher: Launcher,
    ) -> None:
        spec, space = request.spec, request.space
        require_groups(config, spec.source)
        if space.is_empty:
            raise ConfigError(
                f"{spec.source}: hydra.sweeper.params: there is nothing to choose from; add a parameter, "
                "such as optimizer.lr: tag(log, interval(1e-4, 1e-1))"
            )
        self.location = Location.of(config.tracking)
        self.request = request
        self.composer = Composer(context.config_loader, config, request.line)
        self._loader = context.config_loader
        self._config = config
        self._spec = spec
        self._space = space
        self._launcher = launcher

    @property
    def max_epochs(self) -> int | None:
        """What `trainer.max_epochs` says, unless it is sampled; with `evaluation.folds`, a fold is a step."""
        key = "trainer.max_epochs" if folds_of(self._config) is None else "evaluation.folds"
        epochs = OmegaConf.select(self._config, key)
        return epochs if isinstance(epochs, int) and key not in self._space.keys else None

    def snapshot(self, folder: Path) -> AbstractContextManager[Snapshot]:
        """The config files as they are now: every trial is composed from them, whatever is edited then."""
        return snapshot(self._loader, folder)

    def pool(self, logs: Path) -> WorkerPool:
        """Worker processes that train."""
        return worker_pool(self._spec, Training(), logs, self._launcher)

    def recorder(self) -> Recorder:
        """Record in MLflow, but for `tracking=none`."""
        if not self._config.tracking.enabled:
            return NoRecorder()
        tracking = self._config.tracking
        return Recorder(
            self.location, tracking.experiment or self._spec.study_name, views=wanted(tracking.get("views"))
        )

    def jobs(self, tags: Mapping[str, str]) -> Jobs:
        """Configs, composed here."""
        return TrainingJobs(
            self.composer,
            study_name=self._spec.study_name,
            tags=tags,
            bundles=self._spec.bundle != "off",
            own_models=isinstance(self._spec.bundle, int),
        )

    def check_config(self, config: DictConfig) -> None:
        """Refuse a composed config that cannot be trained."""
        check(config)

    def check(self) -> None:
        """Compose every parameter and every choice once, so that a wrong key fails before anything is recorded.

        What is a user's own is imported once, by a worker.
        """
        for params in self._space.examples():
            try:
                check(self.composer.compose(params))
            except ConfigError as error:
                raise ConfigError(f"{self._spec.source}: {error}") from error
        check_finalists(self._spec, self._space, self.composer)
        for wrong in self.inspect():
            raise ConfigError(f"{self._spec.source}: {wrong}")

    def inspect(self) -> list[str]:
        """Return what is wrong with a user's own modules, in one line each: a worker imports them."""
        configs = []
        for params in self._space.examples(at_least_one=True):
            with suppress(ConfigError):  # it is told of elsewhere
                config = self.composer.compose(params)
                if names_others(config):
                    configs.append({**resolved(config), "test": self._spec.finalists is not None})
        return inspect_modules(configs, self._a_slot(), self._launcher) if configs else []

    def _a_slot(self) -> Slot:
        try:
            return find_slots(self._spec.devices, limit=1)[0]
        except DeviceError:  # a dry run may be made where the devices are not
            return find_slots("cpu", limit=1)[0]

    def shared(self) -> dict[str, Any]:
        """The flattened config without what is sampled and what says where to record."""
        return shared_by(self._space, self.composer, recordable, without="tracking")

    def run_once(self, pool: Pool, scratch: Path) -> Sequence[Sequence[Any]]:
        """Never asked for: there is always something to choose from."""
        raise NotImplementedError

    def results(self) -> Sequence[Sequence[Any]]:
        """Nothing: the trials' results are in the store."""
        return []


def worker_pool(spec: SweepSpec, task: Task, logs: Path, launcher: Launcher) -> WorkerPool:
    """Workers on every device that the sweep may use, no more than could be busy at once."""
    console = plain_console()
    slots = find_slots(
        spec.devices,
        per_device=spec.trials_per_device,
        per_trial=spec.devices_per_trial,
        limit=min((limit for limit in (spec.n_jobs, spec.n_trials) if limit), default=None),
        notice=lambda line: console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True),
    )
    return WorkerPool(slots, task, logs=logs, launcher=launcher, max_trials=spec.max_trials_per_worker)
