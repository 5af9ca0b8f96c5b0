"""A Hydra config source for the config folders of `besom`."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult


class BesomConfigSource(FileConfigSource):
    """A config folder whose files are checked before Hydra reads them, for errors with a file and a key."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its URLs."""
        return "besom"

    def load_config(self, config_path: str) -> ConfigResult:
        """Check and load a config.

        Raises ConfigError naming the file and the key.
        """
        from besom.config.files import checked

        name = self._normalize_file_name(config_path)
        with checked(Path(self.path, name), config_path):
            return super().load_config(config_path)
