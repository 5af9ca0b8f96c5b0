"""The summary of a study: its ranked trials, pruned trials, failures by cause, parameter importances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective
from besom.config.targets.trust import trust_flags
from besom.config.units import Unit
from besom.errors import first_few
from besom.reports.read.configs import configs_of, differences
from besom.reports.read.failures import FailureGroup, group_failures
from besom.reports.read.importance import NO_IMPORTANCES, Importances, importances
from besom.reports.read.pareto import Front
from besom.reports.read.trials import is_feasible, plain_params
from besom.tracking.app_command import AppCommand, is_other_app
from besom.tracking.tags import StudyAttribute, TrialAttribute

UNKNOWN = ("?", "unknown")  # the family of a model that is not Besom's
_PLACES = ("slot", "worker", "host", "config", "code")
"""Properties besides parameters that failed trials can share: slot, process, host, the study's config, the code."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One complete trial: a value for each objective.

    `config` is the number of its config in the study, if known; `code` names the source files that differ from those of
    the study's first trial, such as `net.py 2`.
    """

    trial: int
    values: tuple[float, ...]
    family: str
    params: Mapping[str, Any]
    duration_s: float
    run_id: str
    feasible: bool = True
    config: int | None = None
    code: str = ""

    @property
    def value(self) -> float:
        """The value of the first objective."""
        return self.values[0]


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The number of pruned trials, the mean number of epochs that they reached, and the maximum of complete trials.

    `unit` is what is counted instead of epochs where runs are recorded by another axis.
    """

    count: int = 0
    reached: float | None = None
    of: int | None = None
    unit: Unit = Unit.EPOCH

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.count} pruned"
        of = f" of {self.of}" if self.of else ""
        return f"{self.count} pruned, after {self.reached:.1f}{of} {self.unit}s on average"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The results of a study. `rows` are its complete trials: the best first, infeasible ones last.

    `configs` are the changes of later configs, by number; `targets` the `_target_` values of all configs; `described`
    what the study says of its app.
    """

    study: str
    objectives: tuple[Objective, ...]
    rows: tuple[Row, ...]
    front: tuple[int, ...] = ()
    pruned: Pruned = Pruned()
    failures: tuple[FailureGroup, ...] = ()
    importances: Importances = NO_IMPORTANCES
    configs: Mapping[int, Sequence[str]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def app(self) -> AppCommand | None:
        """The command of another Hydra app, if the study is of one that can be started again."""
        return AppCommand.read(self.described.get("command"))

    def trust_for(self, row: Row) -> list[str] | None:
        """Return the flags with which `besom reproduce` runs a trial again; None if it cannot."""
        if self.app is not None:
            return trust_flags([self.app.trusted_as])
        return None if row.family in UNKNOWN or is_other_app(self.described) else trust_flags(self.targets_of(row))

    def targets_of(self, row: Row) -> list[str]:
        """Return the `_target_` values of the study's configs, without models of other families than this trial's."""
        others = {other.family for other in self.rows} - {row.family}
        return [target for target in self.targets if target.rpartition(".")[2] not in others]

    @property
    def best(self) -> Row | None:
        """The best complete and feasible trial, if any; with several objectives, the best in the first one."""
        return self.rows[0] if self.rows and self.rows[0].feasible else None

    @property
    def failed(self) -> int:
        """The number of failed trials."""
        return sum(len(group.trials) for group in self.failures)

    @property
    def over(self) -> int:
        """The number of trials that are over, in any state."""
        return len(self.rows) + self.pruned.count + self.failed

    @property
    def has_configs(self) -> bool:
        """True if its complete trials have different configs of the study."""
        return len({row.config or 1 for row in self.rows}) > 1

    @property
    def has_codes(self) -> bool:
        """True if its complete trials were trained with different code."""
        return len({row.code for row in self.rows}) > 1

    @property
    def origins(self) -> tuple[str, ...]:
        """Explanations of the configs and the code, one line each, if there are several."""
        met = {row.config for row in self.rows} if self.has_configs else set()
        lines = [f"config {number}: {first_few(changes)}" for number, changes in self.configs.items() if number in met]
        if self.has_codes:
            example = next(row.code for row in self.rows if row.code).partition(", ")[0]
            file, _, state = example.rpartition(" ")
            lines.append(f"code {example}: state {state} of {file} that the study met; · is the first of all files")
        return tuple(lines)

    def best_by_family(self) -> tuple[Row, ...]:
        """Return the best feasible trial of each model family, the best first."""
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.feasible:
                seen.setdefault(row.family, row)
        return tuple(seen.values())


def summarize(
    study: optuna.Study,
    trials: Iterable[FrozenTrial],
    objectives: tuple[Objective, ...],
    run_ids: Mapping[int, str],
) -> Summary:
    """Summarize these trials of a study; `run_ids` has their runs by trial number."""
    trials = list(trials)
    rows = [_row(trial, run_ids) for trial in trials if trial.state is TrialState.COMPLETE and trial.values is not None]
    front = Front(objectives)
    for row in rows:
        if row.feasible and len(objectives) > 1:
            front.add(row.trial, row.values)
    ordered = sorted(rows, key=lambda row: row.value, reverse=objectives[0].direction == "maximize")
    ordered.sort(key=lambda row: (not row.feasible, len(objectives) > 1 and row.trial not in front.trials))
    return Summary(
        study=study.study_name,
        objectives=objectives,
        rows=tuple(ordered),
        front=tuple(row.trial for row in ordered if row.trial in front.trials),
        pruned=_pruned(trials),
        failures=failures_of(trials),
        importances=importances(study),
        configs=_changes(study),
        targets=_targets(study),
        described=study.user_attrs.get(StudyAttribute.SPEC) or {},
    )


def failures_of(trials: Sequence[FrozenTrial]) -> tuple[FailureGroup, ...]:
    """Return the failed trials by cause, with what only they have in common."""
    over = [trial for trial in trials if trial.state.is_finished()]
    places = [key for key in _PLACES if len({about(trial).get(key) for trial in over}) > 1]

    def known(trial: FrozenTrial) -> dict[str, Any]:
        found = about(trial)
        return {**{key: str(found[key]) for key in places if key in found}, **plain_params(trial)}

    failed = {
        trial.number: (str(about(trial).get("reason") or "unknown"), known(trial))
        for trial in over
        if trial.state is TrialState.FAIL
    }
    others = [known(trial) for trial in over if trial.state is not TrialState.FAIL]
    return group_failures(failed, others)


def _row(trial: FrozenTrial, run_ids: Mapping[int, str]) -> Row:
    found = about(trial)
    return Row(
        trial=trial.number,
        values=tuple(trial.values),
        family=found.get("family") or "?",
        params=plain_params(trial),
        duration_s=found.get("duration_s") or 0.0,
        run_id=run_ids.get(trial.number, ""),
        feasible=is_feasible(trial),
        config=found.get("config"),
        code=found.get("code") or "",
    )


def _changes(study: optuna.Study) -> dict[int, list[str]]:
    """Return the changes of a study's later configs, by number."""
    configs = configs_of(study.user_attrs)
    return {number: differences(configs[1], config) for number, config in configs.items() if number > 1}


def _targets(study: optuna.Study) -> tuple[str, ...]:
    configs = configs_of(study.user_attrs).values()
    found = (value for config in configs for key, value in config.items() if key.rpartition(".")[2] == "_target_")
    return tuple(dict.fromkeys(found))


def _pruned(trials: Sequence[FrozenTrial]) -> Pruned:
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    reports = [found for trial in pruned if (found := reached(trial)) is not None]
    unit = reports[0][0] if reports else Unit.EPOCH
    numbers = [number for each, number in reports if each is unit]
    complete = [reached(trial) for trial in trials if trial.state is TrialState.COMPLETE]
    return Pruned(
        count=len(pruned),
        reached=sum(numbers) / len(numbers) if numbers else None,
        of=max((found[1] for found in complete if found is not None and found[0] is unit), default=None),
        unit=unit,
    )


def reached(trial: FrozenTrial) -> tuple[Unit, int] | None:
    """Return the number of an ended trial's last report with its unit, None if it is unknown."""
    found = about(trial)
    return next(((unit, number) for unit in Unit if isinstance(number := found.get(f"{unit}s"), int)), None)


def about(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the sweep's data about an ended trial: family, duration, last report, where it ran, and why it failed."""
    found = trial.user_attrs.get(TrialAttribute.ABOUT)
    return found if isinstance(found, dict) else {}
