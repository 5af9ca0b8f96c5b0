"""Studies like those of a sweep, created without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective
from besom.reports.read.report import Report, read_report

MODELS = ("logistic_regression", "mlp_classifier")
SPACE: Mapping[str, BaseDistribution] = {
    "model": CategoricalDistribution(MODELS),
    "optimizer.lr": FloatDistribution(1e-3, 1e-1, log=True),
    "model.depth": IntDistribution(1, 3),
}
ACCURACY = Objective(name="val/acc", direction="maximize")
LOSS = Objective(name="val/loss", direction="minimize")
SIZE = Objective(name="cost/params", direction="minimize")
NOON = datetime(2026, 1, 1, 12)


def trial(
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    family: str = "MLPClassifier",
    space: Mapping[str, BaseDistribution] = SPACE,
    ended_s: float = 0.0,
    duration_s: float = 1.0,
    slot: int | None = 0,
    host: str | None = None,
    reason: str | None = None,
    config: int | None = None,
    code: str | None = None,
    **params: Any,
) -> FrozenTrial:
    """Return an ended trial; in the names of params, `_` stands for a dot."""
    chosen = {name.replace("_", ".", 1) if name != "model" else name: value for name, value in params.items()}
    about: dict[str, Any] = {"family": family, "duration_s": duration_s, "epochs": 3}
    about |= {} if slot is None else {"slot": slot}
    about |= {} if host is None else {"host": host}
    told = {"reason": reason, "config": config, "code": code}
    about |= {key: value for key, value in told.items() if value is not None}
    made = optuna.create_trial(
        state=state, values=list(values) or None, params=chosen, user_attrs={"besom": about},
        distributions={name: space[name] for name in chosen},
    )  # fmt: skip
    made.datetime_complete = NOON + timedelta(seconds=ended_s)
    made.datetime_start = made.datetime_complete - timedelta(seconds=duration_s)
    return made


def study(trials: Sequence[FrozenTrial], *objectives: Objective, name: str = "own") -> optuna.Study:
    made = optuna.create_study(study_name=name, directions=[one.direction for one in objectives])
    made.add_trials(trials)
    return made


def report(trials: Sequence[FrozenTrial], *objectives: Objective, name: str = "own", **more: Any) -> Report:
    """Return the report of a study with these trials; the default objective is accuracy."""
    wanted = objectives or (ACCURACY,)
    found = study(trials, *wanted, name=name)
    return read_report(found, found.get_trials(), wanted, base="http://127.0.0.1:5000", **more)


def grid(count: int) -> list[FrozenTrial]:
    """Return `count` successive trials, every third one a logistic regression."""
    return [
        trial(
            0.5 + 0.4 * index / count, ended_s=index, optimizer_lr=0.001 * 1.1**index,
            **({"model": MODELS[0], "family": "LogisticRegression"} if index % 3 == 0 else
               {"model": MODELS[1], "model_depth": 1 + index % 3}),
        )
        for index in range(count)
    ]  # fmt: skip
