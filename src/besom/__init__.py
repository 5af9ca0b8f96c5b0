"""Besom: hyperparameter sweeps that never idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from besom.system.lazy import lazy_names
from besom.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from besom.errors import TrialPruned
    from besom.hydra_app.callback import PruningCallback
    from besom.hydra_app.report import report
    from besom.models.saved import SavedModel

__all__ = ["PruningCallback", "TrialPruned", "__version__", "load_model", "report"]

# Only what is requested: an app that reports values need not wait for torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "PruningCallback": "besom.hydra_app.callback",
        "TrialPruned": "besom.errors",
        "report": "besom.hydra_app.report",
    },
)


def load_model(run_id: str, *, tracking_uri: str | None = None, trust: Iterable[str] = ()) -> SavedModel:
    """Return the best weights of a recorded run with its own preprocessing, ready to `predict`.

    `run_id` may also name a registered model, models:/NAME@ALIAS or models:/NAME/VERSION. `tracking_uri` is a store in
    MLflow's form; by default MLFLOW_TRACKING_URI, or mlruns/ in the current folder. Nothing is unpickled, and only
    targets that Besom, torch and Lightning ship are built, and those in the packages that `trust` lists, such as
    ["net"]: a recorded config is code. Raises RunNotFound when there is no such run, or it has no model that can be
    rebuilt, and ConfigError for targets that may not be built.
    """
    from besom.config.targets.trust import IN_PYTHON, Trust
    from besom.predict.predict import load_model as load
    from besom.tracking.store import Location

    trusted = Trust.given(trust, how=IN_PYTHON)
    location = Location.of({"uri": tracking_uri, "directory": "mlruns"}) if tracking_uri else Location.default()
    return load(run_id, location, trusted)
