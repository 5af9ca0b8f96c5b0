"""The plugin classes that Hydra calls; the implementation is in `besom.sweep`."""

from __future__ import annotations

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.besom_sweeper.config import with_all_keys
from hydra_plugins.besom_sweeper.config_source import BesomConfigSource


class BesomSweeper(Sweeper):
    """The sweeper `hydra/sweeper: besom`."""

    def __init__(self, **_: Any) -> None:
        self._context: HydraContext | None = None
        self._task: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context, task function and config before a sweep."""
        self._context = hydra_context
        self._task = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep of the config and the command line's overrides.

        For an app other than Besom, return Hydra's JobReturns in batches, and raise errors as Hydra does.
        """
        try:
            from besom.hydra_app.app import swept_app, told_by_hydra, trains_besom_config
            from besom.hydra_app.multirun import make_folder
            from besom.sweep.run import run_sweep
        except KeyboardInterrupt:  # ctrl-C during these imports, which take a second
            raise SystemExit(130) from None

        assert self._context is not None
        assert self._task is not None
        assert self.config is not None
        if trains_besom_config(self._task):
            return run_sweep(swept_app(self.config, arguments, self._context, self._task))
        with told_by_hydra():
            config = with_all_keys(self.config)
            make_folder(config)
            return run_sweep(swept_app(config, arguments, self._context, self._task))


class BesomSearchPath(SearchPathPlugin):
    """Adds the config folders of `besom` to the search path; for any other Hydra app it adds nothing."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the shipped configs after the user's own, and let BesomConfigSource check all their files."""
        from besom.config.paths import current_search_path

        folders = current_search_path()
        if folders is None:
            return
        for element in search_path.get_path():
            if element.provider == "main" and "://" not in element.path:
                element.path = f"{BesomConfigSource.scheme()}://{element.path}"
        for folder in folders.folders:
            search_path.append("besom", f"{BesomConfigSource.scheme()}://{folder}")
