"""The folders of configs that `besom` was started with, as a source of Hydra's."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult


class BesomConfigSource(FileConfigSource):
    """A folder whose files are looked at before Hydra reads them, so that what is wrong has a file and a key."""

    @staticmethod
    def scheme() -> str:
        """Return what a folder's URL begins with."""
        return "besom"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a config.

        Raises ConfigError naming the file and the key.
        """
        from besom.config.files import checked

        name = self._normalize_file_name(config_path)
        with checked(Path(self.path, name), config_path):
            return super().load_config(config_path)
