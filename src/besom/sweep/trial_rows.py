"""A trial's rows in Optuna's tables, written whole: one transaction, where its storage would make one per value.

Optuna asks before each value whether the trial exists, may be changed and fits what is there, for anybody may write.
Here one process writes, and knows. What it writes is what `optuna.storages.RDBStorage` writes, by its own models.
"""

from __future__ import annotations

import json

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import delete
from sqlalchemy.orm import Session

_OF_A_TRIAL = (
    models.TrialParamModel,
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialIntermediateValueModel,
    models.TrialValueModel,
)


class TrialRows:
    """Adds and rewrites trials of one study."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._engine = storage.engine
        self._study_id = study_id

    def add(self, trial: FrozenTrial) -> int:
        """Write a trial that is not there yet, and return its id."""
        with Session(self._engine) as session, session.begin():
            row = models.TrialModel(study_id=self._study_id, number=trial.number)
            _describe(row, trial)
            session.add(row)
            session.flush()
            trial_id = int(row.trial_id)
            session.add_all(_rows(trial_id, trial))
            return trial_id

    def rewrite(self, trial_id: int, trial: FrozenTrial) -> None:
        """Write a trial in place of what is there."""
        with Session(self._engine) as session, session.begin():
            row = session.get_one(models.TrialModel, trial_id)
            _describe(row, trial)
            for model in _OF_A_TRIAL:
                session.execute(delete(model).where(model.trial_id == trial_id))
            session.add_all(_rows(trial_id, trial))


def _describe(row: models.TrialModel, trial: FrozenTrial) -> None:
    row.state = trial.state
    row.datetime_start = trial.datetime_start
    row.datetime_complete = trial.datetime_complete


def _rows(trial_id: int, trial: FrozenTrial) -> list[models.BaseModel]:
    rows: list[models.BaseModel] = []
    for name, distribution in trial.distributions.items():
        rows.append(
            models.TrialParamModel(
                trial_id=trial_id,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
        )
    for model, attrs in (
        (models.TrialUserAttributeModel, trial.user_attrs),
        (models.TrialSystemAttributeModel, trial.system_attrs),
    ):
        rows += [model(trial_id=trial_id, key=key, value_json=json.dumps(value)) for key, value in attrs.items()]
    for step, value in sorted(trial.intermediate_values.items()):
        reported, reported_kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        rows.append(
            models.TrialIntermediateValueModel(
                trial_id=trial_id, step=step, intermediate_value=reported, intermediate_value_type=reported_kind
            )
        )
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        rows.append(models.TrialValueModel(trial_id=trial_id, objective=objective, value=stored, value_type=kind))
    return rows
