"""The loader of a logged model, called by MLflow's server and `mlflow.pyfunc.load_model`. Unpickles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from besom.config.model_inputs import Inputs, Kind
from besom.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from besom.models.saved import SavedModel

_SHOWN = Path("input")  # the name in error messages of a table that is not a file


def _load_pyfunc(data_path: str) -> ServedModel:
    """Load the model of a folder; MLflow requires a function with this name.

    An environment variable names the trusted packages, because the config comes from the model's author.
    """
    from besom.config.targets.trust import WHERE_IT_IS_SERVED, Trust
    from besom.models.saved import load_recorded

    return ServedModel(load_recorded(Path(data_path), Trust.given(how=WHERE_IT_IS_SERVED)))


class ServedModel:
    """A model that predicts from raw inputs: tables with named columns, or images [n, height, width]."""

    def __init__(self, model: SavedModel) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame | np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row per input: `prediction`, and for classes its `probability` and the one of each class.

        MLflow has already checked the signature. Raises MlflowException, which a server returns as status 400, for
        other inputs that the model cannot read: a new category, a missing value, a value out of range.
        """
        from mlflow.exceptions import MlflowException

        from besom.predict.frame import as_frame

        try:
            x = _features(model_input, self._model.inputs)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return as_frame(self._model.spec, self._model.predict(x), probabilities=True)


def _features(given: pd.DataFrame | np.ndarray, inputs: Inputs) -> Tensor:
    import pandas as pd

    from besom.data.tables.table import Table
    from besom.predict.inputs import encode_new, raw_rows

    if not isinstance(given, pd.DataFrame):
        return raw_rows(given, inputs, _SHOWN)
    text = [column.name for column in inputs.columns if column.kind is Kind.TEXT]
    known = given[text].notna()
    frame = given.assign(**given[text].astype(str).where(known, None))  # JSON's 3 is the category "3"
    return encode_new(Table(path=_SHOWN, frame=frame.reset_index(drop=True), separator=None, new=True), inputs)
