"""Checks of a sweep before it runs: errors, which would end it, and warnings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution

from besom.config.checks import folds_of, select
from besom.config.objectives import COSTS, metric_names
from besom.config.targets.check import signature_of
from besom.config.units import LIMITS, Unit, limit_of
from besom.errors import ConfigError
from besom.sweep.compose import Composer
from besom.sweep.dry_run.learning import Learning
from besom.sweep.dry_run.tables import refused_tables
from besom.sweep.finalists.choose import check_finalists
from besom.sweep.space.constraints import parse_constraints
from besom.sweep.space.overrides import to_text
from besom.sweep.space.parameter import same_value
from besom.sweep.space.search_space import Parameter, Params, SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import FinalistsSpec, SearchSpec
from besom.sweep.study.grid import Grid
from besom.sweep.study.samplers import build_pruner, build_sampler, with_target

Check = Callable[[DictConfig], None]


@dataclass(frozen=True, kw_only=True)
class Lint:
    """A finding: an error would end the sweep or its trials, a warning may be intended."""

    text: str
    is_error: bool = False


def lint(spec: SweepSpec, space: SearchSpace, composer: Composer, check: Check) -> list[Lint]:
    """Return the findings, errors first, each once."""
    composed = list(_compose(space, composer, check))
    configs = [config for config, _ in composed if config is not None]
    lints = [
        *(Lint(text=text, is_error=True) for _, text in composed if text is not None),
        *(Lint(text=text, is_error=True) for text in refused_tables(configs)),
        *_unusable(spec, space, composer),
        *_enqueued(spec.search, space),
        *_ranges(space),
        *_unread(space, composer),
        *_budget(spec, space),
        *_finalists(spec.finalists),
        *_sampler(spec.search, space),
        *_learning(spec, space, configs[0] if configs else None),
    ]
    if configs:
        lints += [
            *_metrics(spec.search, configs),
            *_pruner(spec.search, space, configs[0]),
            *_overruled(space, configs),
        ]
    return sorted(dict.fromkeys(lints), key=lambda found: not found.is_error)


def _compose(space: SearchSpace, composer: Composer, check: Check) -> Iterator[tuple[DictConfig | None, str | None]]:
    """Yield the config of each example, or the error."""
    for params in space.examples(at_least_one=True):
        try:
            config = composer.compose(params)
            check(config)
        except ConfigError as error:
            yield None, str(error)
        else:
            yield config, None


def _unusable(spec: SweepSpec, space: SearchSpace, composer: Composer) -> Iterator[Lint]:
    """Yield the errors that end a sweep as soon as it starts."""
    search = spec.search
    parts: Sequence[Callable[[], object]] = (
        lambda: build_sampler(search, 0, space),
        lambda: Grid.of(search, space),
        lambda: build_pruner(search),
        lambda: parse_constraints(search.constraints, search.source),
        lambda: space.sample(optuna.create_study().ask()),  # runs the function of custom_search_space
        lambda: check_finalists(spec, space, composer),
    )
    for part in parts:
        try:
            part()
        except ConfigError as error:
            yield Lint(text=str(error).removeprefix(f"{spec.source}: "), is_error=True)


def _enqueued(search: SearchSpec, space: SearchSpace) -> Iterator[Lint]:
    for index, params in enumerate(search.enqueue):
        where = f"hydra.sweeper.enqueue[{index}]"
        try:
            space.to_stored(params)
        except ConfigError as error:
            yield Lint(text=f"{where}: {error}", is_error=True)
        if params in search.enqueue[:index]:
            yield Lint(text=f"{where}: is there twice; it will be tried once")


def _ranges(space: SearchSpace) -> Iterator[Lint]:
    for parameter in space.parameters:
        key = parameter.key
        if parameter.skipped is not None:
            last, step = parameter.distribution.high, parameter.distribution.step  # type: ignore[attr-defined]
            yield Lint(
                text=f"{key}: the range's end {parameter.skipped:g} is skipped, its last value is {last:g}; end it at "
                f"{last + step:g} to say so, or take another step than {step:g}"
            )
        is_choice = isinstance(parameter.distribution, CategoricalDistribution)
        if parameter.count() == 1 and not (parameter.conditions and is_choice):
            value = to_text(next(parameter.values()))
            yield Lint(text=f"{key}: there is one value to choose, {value}; write {key}: {value}")
        if is_choice:
            values = list(parameter.values())
            for index, value in enumerate(values):
                if any(same_value(value, other) for other in values[:index]):
                    text = f"{key}: {to_text(value)} is there twice, written in two ways; take one out"
                    yield Lint(text=text)


def _unread(space: SearchSpace, composer: Composer) -> Iterator[Lint]:
    """Yield warnings of unused keys that were added with `+`; a key without `+` is in the config, and is used."""
    for params in space.examples():
        for key in params:
            if key.startswith("+") and not composer.chooses(key.lstrip("+")) and "@" not in key:
                text = _unread_key(key, params, composer)
                if text is not None:
                    yield Lint(text=text)


def _unread_key(key: str, params: Params, composer: Composer) -> str | None:
    try:
        config = composer.compose(params)
    except ConfigError:
        return None  # reported already
    path = key.lstrip("+")
    if path.startswith("trainer.") and _is_ours(config):
        return None  # its check refuses what no Trainer takes
    if re.search(rf"\$\{{[^}}]*{re.escape(path.rpartition('.')[2])}\b", OmegaConf.to_yaml(config)):
        return None
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        target = OmegaConf.select(config, ".".join([*parts[:length], "_target_"]))
        if target is not None:
            signature = signature_of(str(target), ".".join(parts[:length]))
            taken = signature.parameters if signature else {}
            loose = signature is None or any(argument.kind is argument.VAR_KEYWORD for argument in taken.values())
            if loose or parts[length] in taken:
                return None
            return f"{key}: {target} takes no '{parts[length]}', so that it changes nothing, or fails; drop it"
    if _is_ours(config):
        return f"{key}: no _target_ and no ${{…}} reads it, so that it changes nothing; drop it"
    return None  # another app may read any key


def _is_ours(config: DictConfig) -> bool:
    """Return whether it is a config of conf/train.yaml."""
    return all(name in config for name in ("data", "model", "optimizer", "trainer", "early_stopping"))


def _overruled(space: SearchSpace, configs: Sequence[DictConfig]) -> Iterator[Lint]:
    """Yield warnings of sampled keys without effect, since another key takes precedence."""
    if "model.hidden_sizes" in space.keys:
        return
    for key in ("model.width", "model.depth"):
        sizes = [OmegaConf.select(config, "model.hidden_sizes") for config in configs]
        if key in space.keys and any(size is not None for size in sizes):
            yield Lint(text=f"{key}: model.hidden_sizes is set and wins over it; set model.hidden_sizes to null")


def _metrics(search: SearchSpec, configs: Sequence[DictConfig]) -> Iterator[Lint]:
    """Yield warnings of metrics that no model logs, as far as that is known."""
    try:
        constraints = parse_constraints(search.constraints, search.source)
    except ConfigError:
        return
    for config in configs:
        if not _is_ours(config):
            continue
        target = str(OmegaConf.select(config, "model._target_"))
        known = _logged(target)
        for constraint in constraints if known else ():
            for name in constraint.metrics:
                if name not in known and not name.startswith("test/"):
                    yield Lint(text=f"constraint '{constraint.key}': {target.rpartition('.')[2]} logs no {name}")
        unknown = [objective.name for objective in search.objectives if not objective.is_cost]
        if not known and unknown:
            yield Lint(
                text=f"objective: whether {target} logs {' and '.join(unknown)} shows only when it trains; "
                "a trial that does not log it fails"
            )


def _logged(target: str) -> list[str]:
    """Return the metrics that one of Besom's models logs, none for a user's own model."""
    package, _, model = target.rpartition(".")
    if package != "besom.models":
        return []
    tasks = ("regression",) if model in ("LinearRegression", "MLPRegressor") else ("binary", "multiclass")
    names = dict.fromkeys(name for task in tasks for name in metric_names(task))
    return [*(f"{part}/{name}" for part in ("train", "val") for name in names), *COSTS]


def _budget(spec: SweepSpec, space: SearchSpace) -> Iterator[Lint]:
    budget, size = spec.budget, space.size()
    is_grid = _class(spec.search.sampler) in ("GridSampler", "BruteForceSampler")
    if size is not None and budget.n_trials is not None and budget.n_trials > size:
        what = (
            f"there will be {size} trials" if is_grid else "some are tried more than once; sampler=grid tries each once"
        )
        yield Lint(text=f"hydra.sweeper.n_trials: {budget.n_trials} is above the {size} points of the space: {what}")
    if budget.n_trials is None and not is_grid and budget.timeout_s is None and budget.patience is None:
        ends = "it ends with ctrl-C" + (", and never comes to its finalists" if spec.finalists else "")
        yield Lint(text=f"hydra.sweeper.n_trials: is null, and there is neither timeout nor patience: {ends}")
    if budget.patience is not None and budget.n_trials is not None and budget.patience >= budget.n_trials:
        yield Lint(text=f"hydra.sweeper.patience: {budget.patience} is not below n_trials: it will never matter")


def _finalists(finalists: FinalistsSpec | None) -> Iterator[Lint]:
    if finalists is not None and finalists.seeds == 1:
        text = "of a single seed there is no interval, and no test; take 5, say"
        yield Lint(text=f"hydra.sweeper.finalists.seeds: {text}")


def _class(config: Mapping[str, Any]) -> str:
    return str(with_target(config)["_target_"]).rpartition(".")[2]


_NUMBERS_ONLY = ("CmaEsSampler",)
_ONE_SPACE = ("CmaEsSampler", "GPSampler", "QMCSampler")


def _sampler(search: SearchSpec, space: SearchSpace) -> Iterator[Lint]:
    """Yield a warning of parameters that the sampler can only draw at random."""
    name = _class(search.sampler)
    independent: list[Parameter] = []
    if name in _NUMBERS_ONLY:
        independent += [
            parameter for parameter in space.parameters if isinstance(parameter.distribution, CategoricalDistribution)
        ]
    if name in _ONE_SPACE:
        independent += [
            parameter for parameter in space.parameters if parameter.conditions and parameter not in independent
        ]
    if independent:
        listed = ", ".join(dict.fromkeys(parameter.key for parameter in independent))
        yield Lint(text=f"hydra.sweeper.sampler: {name} draws choices and conditional parameters at random: {listed}")


def _learning(spec: SweepSpec, space: SearchSpace, config: DictConfig | None) -> Iterator[Lint]:
    """Yield a warning of a budget that leaves the sampler's model few trials to choose."""
    learning = Learning.of(spec, _limit(spec.search, space, config)[1] if config is not None else None)
    if learning is not None and learning.warning is not None:
        yield Lint(text=learning.warning)


def _limit(search: SearchSpec, space: SearchSpace, config: DictConfig) -> tuple[Unit, int | None]:
    """Return the unit in which a pruner counts, and how many a whole trial has; None if it is unknown or sampled."""
    if not _is_ours(config):
        return Unit.STEP, None
    unit = Unit.FOLD if folds_of(config) is not None else search.fidelity
    return unit, limit_of(config, unit, sampled=space.keys)


def _pruner(search: SearchSpec, space: SearchSpace, config: DictConfig) -> Iterator[Lint]:
    """Yield warnings of settings that keep the pruner from pruning."""
    pruner = search.pruner
    if not pruner or not _is_ours(config):
        return
    name, where = str(pruner.get("_target_")).rpartition(".")[2], "hydra.sweeper.pruner"
    first = max([value for key in _FIRST if isinstance(value := pruner.get(key), int)], default=1)
    unit, limit = _limit(search, space, config)
    patience = None if "early_stopping.patience" in space.keys else select(config, "early_stopping.patience")
    patience = None if unit is Unit.FOLD else patience  # early stopping ends a fold, not the trial
    if limit is not None and first >= limit:
        yield Lint(
            text=f"{where}: {name} decides from {unit} {first} on, and {LIMITS[unit]} is {limit}: it prunes nothing"
        )
    elif unit is not Unit.STEP and isinstance(patience, int) and patience <= first > 1:
        yield Lint(
            text=f"{where}: early_stopping.patience {patience} may end a trial before {name} looks at it, from {unit} "
            f"{first} on"
        )
    if patience is not None and pruner.get("max_resource") == "auto":
        yield Lint(
            text=f"{where}: max_resource auto takes the {unit}s of the first trial, which early stopping may cut "
            f"short; set max_resource to {limit if limit is not None else LIMITS[unit]}"
        )


_FIRST = ("n_warmup_steps", "min_resource", "n_startup_steps")
