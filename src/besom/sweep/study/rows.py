"""A trial's rows in Optuna's tables, written whole: one transaction, where its storage would make one per value.

Optuna asks before each value whether the trial exists, may be changed and fits what is there, for anybody may write.
Here one process writes, and knows. It writes what `optuna.storages.RDBStorage` writes, to the tables of its models.
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
"""The columns with a trial's times, and the attributes of Optuna's model that hold what they store."""
_OF_A_TRIAL: tuple[Table, ...] = (
    models.TrialParamModel.__table__,
    models.TrialUserAttributeModel.__table__,
    models.TrialSystemAttributeModel.__table__,
    models.TrialIntermediateValueModel.__table__,
    models.TrialValueModel.__table__,
)


class TrialRows:
    """Adds and rewrites trials of one study."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._engine = storage.engine
        self._study_id = study_id

    def add(self, trial: FrozenTrial) -> int:
        """Write a trial that is not there yet, and return its id."""
        described = {"study_id": self._study_id, "number": trial.number, **_described(trial)}
        with self._engine.begin() as connection:
            key = connection.execute(insert(_TRIALS), described).inserted_primary_key
            assert key is not None
            _write(connection, key.trial_id, trial)
            return int(key.trial_id)

    def rewrite(self, trial_id: int, trial: FrozenTrial) -> None:
        """Write a trial in place of what is there."""
        with self._engine.begin() as connection:
            connection.execute(update(_TRIALS).where(_TRIALS.c.trial_id == trial_id), _described(trial))
            for table in _OF_A_TRIAL:
                connection.execute(delete(table).where(table.c.trial_id == trial_id))
            _write(connection, trial_id, trial)


def _described(trial: FrozenTrial) -> dict[str, object]:
    # A trial's times are local; what is stored is for Optuna's model to say: UTC from 5 on, local time before.
    model = models.TrialModel(datetime_start=trial.datetime_start, datetime_complete=trial.datetime_complete)
    return {"state": trial.state, **{column: getattr(model, name) for column, name in _TIMES.items()}}


def _write(connection: Connection, trial_id: int, trial: FrozenTrial) -> None:
    for table, rows in zip(_OF_A_TRIAL, _rows(trial), strict=True):
        if rows:
            connection.execute(insert(table), [{"trial_id": trial_id, **row} for row in rows])


def _rows(trial: FrozenTrial) -> Iterator[list[dict[str, object]]]:
    """Yield the rows of each of a trial's tables, in their order."""
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
