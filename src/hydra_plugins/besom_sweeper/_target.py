"""The `_target_` of `hydra/sweeper: besom`. Hydra scans no module whose name begins with `_`: this one exists once."""

from __future__ import annotations

from typing import Any

from hydra.errors import ConfigCompositionException
from omegaconf import StringNode

BESOM = "hydra_plugins.besom_sweeper.besom_sweeper.BesomSweeper"

_REPLACED = "OptunaSweeper"  # of hydra-optuna-sweeper, and the end of its forks' names


class SweeperTarget(StringNode):
    """A `_target_` that stays Besom's sweeper in a config written for hydra-optuna-sweeper, which names that one."""

    def validate_and_convert(self, value: Any) -> str:
        """Return the class of Besom's sweeper. Raises ConfigCompositionException for another sweeper's."""
        if value == BESOM or str(value).endswith(_REPLACED):
            return BESOM
        raise ConfigCompositionException(
            f"hydra.sweeper._target_: {value} is not the sweeper that hydra/sweeper chooses, besom; take the line out, "
            "or choose that sweeper by its name"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SweeperTarget:
        copied = SweeperTarget(BESOM)
        self._deepcopy_impl(copied, memo)
        return copied
