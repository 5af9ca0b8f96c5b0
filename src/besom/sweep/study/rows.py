"""Bulk writes of trials to Optuna's tables: one transaction per trial, where Optuna's storage makes one per value.

Before each value, Optuna checks that the trial exists, may be changed and is consistent, since any process may write.
Here only one process writes, so no check is needed. The rows are those of `optuna.storages.RDBStorage`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Table, delete, insert, inspect, update

_TRIALS: Table = models.TrialModel.__table__
_TIMES = {
    column: inspect(models.TrialModel).get_property_by_column(_TRIALS.c[column]).key
    for column in ("datetime_start", "datetime_complete")
}
"""The columns with a trial's times, and the attributes of Optuna's model with the stored values."""
_OF_A_TRIAL: tuple[Table, ...] = (
    models.TrialParamModel.__table__,
    models.TrialUserAttributeModel.__table__,
    models.TrialSystemAttributeModel.__table__,
    models.TrialIntermediateValueModel.__table__,
    models.TrialValueModel.__table__,
)


class TrialRows:
    """Adds and rewrites the trials of one study."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._engine = storage.engine
        self._study_id = study_id

    def add(self, trial: FrozenTrial) -> int:
        """Insert a new trial and return its id."""
        described = {"study_id": self._study_id, "number": trial.number, **_described(trial)}
        with self._engine.begin() as connection:
            key = connection.execute(insert(_TRIALS), described).inserted_primary_key
            assert key is not None
            _write(connection, key.trial_id, trial)
            return int(key.trial_id)

    def rewrite(self, trial_id: int, trial: FrozenTrial) -> None:
        """Replace the rows of a trial."""
        with self._engine.begin() as connection:
            connection.execute(update(_TRIALS).where(_TRIALS.c.trial_id == trial_id), _described(trial))
            for table in _OF_A_TRIAL:
                connection.execute(delete(table).where(table.c.trial_id == trial_id))
            _write(connection, trial_id, trial)


def _described(trial: FrozenTrial) -> dict[str, object]:
    # A trial's times are local; Optuna's model converts them for the database: to UTC from Optuna 5 on.
    model = models.TrialModel(datetime_start=trial.datetime_start, datetime_complete=trial.datetime_complete)
    return {"state": trial.state, **{column: getattr(model, name) for column, name in _TIMES.items()}}


def _write(connection: Connection, trial_id: int, trial: FrozenTrial) -> None:
    for table, rows in zip(_OF_A_TRIAL, _rows(trial), strict=True):
        if rows:
            connection.execute(insert(table), [{"trial_id": trial_id, **row} for row in rows])


def _rows(trial: FrozenTrial) -> Iterator[list[dict[str, object]]]:
    """Yield the rows of a trial for each table, in the order of `_OF_A_TRIAL`."""
    yield [
        {
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": distribution_to_json(distribution),
        }
        for name, distribution in trial.distributions.items()
    ]
    for attrs in (trial.user_attrs, trial.system_attrs):
        yield [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
    yield [
        {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        for step, value in sorted(trial.intermediate_values.items())
        for stored, kind in [models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)]
    ]
    yield [
        {"objective": objective, "value": stored, "value_type": kind}
        for objective, value in enumerate(trial.values or ())
        for stored, kind in [models.TrialValueModel.value_to_stored_repr(value)]
    ]
