"""Optuna's samplers and pruners, built from the sweep's config.

A new sampler is built for each trial, from the seed and the trial's number: an interrupted and resumed sweep asks for
the same trials as an uninterrupted one. A sampler's state is stored in its trials and its study.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from hydra.errors import InstantiationException
from hydra.utils import get_class
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, PartialFixedSampler, QMCSampler, TPESampler
from optuna.trial import FrozenTrial

from besom.config.hydra_versions import build
from besom.errors import ConfigError, first_line, one_of
from besom.reports.read.trials import constraints_of
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec_parts import SearchSpec

_DEFAULT_SAMPLER: Mapping[str, Any] = {
    "_target_": "optuna.samplers.TPESampler",
    # Model conditional parameters jointly with those that occur with them, not independently.
    "group": True,
    "multivariate": True,
    "constant_liar": True,  # Optuna's default from version 5 on
}
# Of TPE, as configs written for hydra-optuna-sweeper list them; Optuna 5 warns of each that it is given.
_FORMER_DEFAULTS: Mapping[str, Any] = {
    "consider_prior": True,
    "prior_weight": 1.0,
    "consider_magic_clip": True,
    "consider_endpoints": False,
    "warn_independent_sampling": True,
}
# Packages that Optuna imports only on first use, in the middle of a sweep.
_NEEDS: Mapping[str, str] = {
    "CmaEsSampler": "cmaes",
    "GPSampler": "torch",
    "QMCSampler": "scipy",
    "WilcoxonPruner": "scipy",
}


def build_sampler(search: SearchSpec, number: int, space: SearchSpace | None = None) -> BaseSampler:
    """Build the sampler for the trial with this number.

    For a grid it is a random one, which draws the parameters that an enqueued trial leaves open: the points come from a
    `Grid`. The space is needed for `fixed_params` only. Raises ConfigError for a sampler that does not exist, lacks a
    package, or does not accept its arguments.
    """
    where = f"{search.source}: hydra.sweeper.sampler"
    config = with_target(search.sampler)
    cls = target(config, "sampler", where)
    seed = config.get("seed")
    seeds = _Seeds(
        search.seed if seed is None else int(seed), number, len(search.objectives), constrained=bool(search.constraints)
    )
    if issubclass(cls, GridSampler):
        return optuna.samplers.RandomSampler(seed=seeds.derived)
    if issubclass(cls, PartialFixedSampler):
        config["fixed_params"] = _fixed_params(config, space, where)
    built = _built(_seeded(config, seeds, where), where)
    assert isinstance(built, BaseSampler)
    return built


def build_pruner(search: SearchSpec) -> BasePruner:
    """Build the pruner; without one in the config, a pruner that never prunes.

    Raises ConfigError for a pruner that does not exist or does not accept its arguments.
    """
    if not search.pruner:
        return NopPruner()
    where = f"{search.source}: hydra.sweeper.pruner"
    cls = target(search.pruner, "pruner", where)
    _check_keys(search.pruner, cls, where)
    built = _built(_without_idle_keys(search.pruner, cls), where)
    assert isinstance(built, BasePruner)
    return built


def with_target(sampler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampler's config with a `_target_`: TPE by default, with Besom's own defaults."""
    return dict(sampler) if "_target_" in sampler else {**_DEFAULT_SAMPLER, **sampler}


def target(config: Mapping[str, Any], kind: str, where: str) -> type[Any]:
    """Return the class of a sampler's or a pruner's `_target_`.

    Raises ConfigError when it does not exist, is of another kind, or needs a package that is not installed.
    """
    names = f"optuna.{kind}s"
    known = getattr(optuna, f"{kind}s")
    classes = [name for name in known.__all__ if name.endswith(kind.capitalize()) and not name.startswith("Base")]
    name = str(config.get("_target_", ""))
    if not name:
        raise ConfigError(f"{where}: has no _target_; name one, such as {names}.{classes[0]}")
    module, _, last = name.rpartition(".")
    try:
        cls = getattr(import_module(module), last)
    except (ImportError, AttributeError, ValueError) as error:
        prefix = "" if module == names else f"{names}. followed by one of these: "
        raise ConfigError(f"{where}: {name} does not exist; {prefix}{one_of(last, classes)}") from error
    base = BaseSampler if kind == "sampler" else BasePruner
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{where}: {name} is not an Optuna {kind}; name one of {names}, such as {classes[0]}")
    package = _NEEDS.get(cls.__name__)
    if package is not None and find_spec(package) is None:
        raise ConfigError(f"{where}: {name} needs a package more: pip install {package}")
    return cls


class _Seeds:
    """The seeds of a trial's samplers, with the number of objectives and whether there are constraints."""

    def __init__(self, seed: int, number: int, objectives: int, *, constrained: bool) -> None:
        self.objectives = objectives
        self.constrained = constrained
        self.root = seed
        self.number = number
        self.derived = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _seeded(config: Mapping[str, Any], seeds: _Seeds, where: str) -> dict[str, Any]:
    """Return the arguments of a sampler and of the samplers nested in it, each with its seed for this trial."""
    cls = target(config, "sampler", where)
    _check_keys(config, cls, where)
    keys = {key: value for key, value in _without_idle_keys(config, cls).items() if key != "_partial_"}
    for key, value in keys.items():
        if isinstance(value, Mapping) and key.endswith("_sampler"):
            keys[key] = _seeded(value, seeds, f"{where}.{key}")
    if issubclass(cls, CmaEsSampler) and seeds.objectives > 1:
        raise ConfigError(f"{where}: CmaEsSampler takes one objective, not {seeds.objectives}; choose NSGAIISampler")
    taken = inspect.signature(cls).parameters
    if issubclass(cls, QMCSampler):
        # All trials share one sequence, so that they need the same seed.
        sequence = f"{NumberedSequence.__module__}.{NumberedSequence.__name__}"
        keys |= {"_target_": sequence, "number": seeds.number, "seed": seeds.root}
    elif "seed" in taken:
        keys["seed"] = seeds.derived
    if "warn_independent_sampling" in taken and cls is not TPESampler:  # deprecated there
        keys["warn_independent_sampling"] = False  # else Optuna warns in each trial; the dry run warns once
    if "constraints_func" in taken and seeds.constrained and not hasattr(FrozenTrial, "constraints"):
        keys.setdefault("constraints_func", constraints_of)  # before Optuna 5, which reads them from the trials
    if keys.get("reference_points") is not None:
        keys["reference_points"] = {
            "_target_": "numpy.asarray", "_args_": [keys["reference_points"]], "_convert_": "all"
        }  # fmt: skip
    return keys


def _without_idle_keys(config: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Return the config without what it means anyway: nulls and former defaults where null is the default now.

    Keys that this version of Optuna lacks are idle as well if they are null.
    """
    taken = inspect.signature(cls).parameters
    former = _FORMER_DEFAULTS if cls is TPESampler else {}

    def is_idle(key: str, value: Any) -> bool:
        if key not in taken:
            return value is None
        return taken[key].default is None and (value is None or (key in former and value == former[key]))

    return {key: value for key, value in config.items() if not is_idle(key, value)}


def _check_keys(config: Mapping[str, Any], cls: type[Any], where: str) -> None:
    parameters = inspect.signature(cls).parameters
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    takes = [name for name, parameter in parameters.items() if parameter.kind not in variadic]
    if len(takes) < len(parameters) and takes:
        return  # it checks its further keyword arguments itself
    for key, value in config.items():
        if not key.startswith("_") and key not in takes and value is not None:
            raise ConfigError(f"{where}.{key}: {cls.__name__} takes no '{key}'; {one_of(key, takes)}")


def _fixed_params(config: Mapping[str, Any], space: SearchSpace | None, where: str) -> dict[str, Any]:
    entries = config.get("fixed_params")
    if not isinstance(entries, Mapping) or not entries:
        raise ConfigError(f"{where}.fixed_params: names nothing to hold fixed; write KEY: VALUE lines")
    fixed: dict[str, Any] = {}
    for key, value in entries.items():
        named = [parameter for parameter in space.parameters if parameter.key == key] if space else []
        if space is None or (space.custom and not named):
            fixed[key] = value
        elif not named:
            raise ConfigError(f"{where}.fixed_params.{key}: it is not sampled; {one_of(key, space.keys)}")
        elif not (matching := [parameter for parameter in named if parameter.may_be(value)]):
            raise ConfigError(f"{where}.fixed_params.{key}: {value} cannot be chosen; {named[0].range}")
        else:
            fixed |= {parameter.name: parameter.to_stored(value) for parameter in matching}
    return fixed


def _built(config: Mapping[str, Any], where: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            keys = {key: value for key, value in config.items() if key != "_target_"}
            if any(key.startswith("_") or isinstance(value, Mapping | list) for key, value in keys.items()):
                return build(dict(config))
            return get_class(str(config["_target_"]))(
                **keys
            )  # the same result, but much faster: this runs for every trial
    except (InstantiationException, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {_cause(error)}; see Optuna's page on {config['_target_']}") from error


class NumberedSequence(QMCSampler):
    """A QMC sampler that assigns each trial the point with the trial's number.

    Optuna's own counts the points in the study: after a crash between asking and writing it would skip some.
    """

    def __init__(self, *, number: int, **keys: Any) -> None:
        super().__init__(**keys)
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution], *_: object) -> int:
        return max(0, self._number - 1)  # Optuna draws the first trial at random, to infer the search space


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
