"""Trials of another of their study's configs, among the finalists: each is trained again by the config of its own run.

It is one that was read back from a store: only what is shipped, what the sweep's own configs name, and what the user
trusts is built of it. Where to record, and which slot, is for the sweep that trains it now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import check, select
from besom.config.messages import explain
from besom.config.trust import FILE, VARIABLE, Trust, brought_along
from besom.errors import ConfigError, RunNotFound
from besom.reports.read.configs import OF_A_CHOICE, configs_of, differences, in_short
from besom.reports.read.summary import Row
from besom.secrets.masks import lacking
from besom.sweep.compose import Composer
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.config import SEEDED, refers_to_keys_alone
from besom.sweep.study.study import OVERRIDES, StudyBook
from besom.sweep.trial import WRITTEN_BY_SLOT
from besom.tracking.recorder.recorder import Recorder

_JUDGED_BY = ("data.", "evaluation.")
_FOR_TRAINING_ALONE = ("data.batch_size", "data.eval_batch_size", "data.shuffle_seed", "data.scaling")
"""The keys under these which leave it as it is what a model is judged on."""

_HOW = f"trust: [{{0}}] in {FILE}, or {VARIABLE}={{0}}"
_REMEDY = "start the sweep with that config to train it again"


@dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """What a trial of another config is trained again by: its config, its overrides, and what of it may be built."""

    number: int
    config: DictConfig
    overrides: tuple[str, ...]
    trust: Trust


class OtherConfigs:
    """Reads back what trials of other configs were trained by than the sweep's own, `shared`, which has that number."""

    def __init__(
        self,
        recorder: Recorder,
        book: StudyBook,
        spec: SweepSpec,
        space: SearchSpace,
        composer: Composer,
        *,
        number: int,
        shared: Mapping[str, Any],
    ) -> None:
        assert spec.finalists is not None
        self._recorder = recorder
        self._book = book
        self._sampled = frozenset(key.lstrip("+") for key in space.keys)
        self._on_top = spec.finalists.overrides
        self._number = number
        self._shared = {key: str(value) for key, value in shared.items()}
        self._own = [composer.compose(params) for params in space.examples(at_least_one=True)]

    def concern(self, row: Row) -> bool:
        """Whether a trial has another config than the sweep."""
        return (row.config or 1) != self._number

    def of(self, row: Row) -> OtherConfig:
        """Return what a trial was trained by. Raises BesomError saying why it cannot be trained again."""
        number = row.config or 1
        if predictions := self._judged_otherwise(number):
            raise ConfigError(f"config {self._number} judges otherwise ({in_short(predictions)}); {_REMEDY}")
        if not row.run_id:
            why = "MLflow has none of it" if self._recorder.keeps else "none is read with tracking=none"
            raise RunNotFound(f"its config is kept with its run, and {why}; {_REMEDY}")
        written = {**self._recorder.config(row.run_id), "tracking": {}}
        if missing := lacking(written):
            keys, names = ", ".join(dict.fromkeys(missing.values())), " and ".join(missing)
            raise ConfigError(f"{keys}: secrets are not recorded; set {names}")
        trust = self._trust()
        trust.resolve(written)
        trial = self._book.study.get_trials(deepcopy=False)[row.trial]
        config = self._for_now(written)
        check(with_values(config, {**self._on_top, "test": True}))
        return OtherConfig(
            number=number, config=config, overrides=tuple(trial.user_attrs.get(OVERRIDES, ())), trust=trust
        )

    def _judged_otherwise(self, number: int) -> list[str]:
        """Return what differs of what models are judged on: their values tell nothing of one another then."""
        before = configs_of(self._book.study.user_attrs).get(number, {})
        return differences(_predictions(before), _predictions(self._shared))

    def _trust(self) -> Trust:
        own = dict.fromkeys(target for config in self._own for target in brought_along(_plain(config)))
        given = Trust.given(how=_HOW)
        return replace(given, names=(*given.names, *own))

    def _for_now(self, written: Mapping[str, Any]) -> DictConfig:
        """Return a recorded config that follows its seed again, and has of the sweep's own what is decided now."""
        config = OmegaConf.create(dict(written))
        for key, text in self._book.study.user_attrs.get(SEEDED, {}).items():
            if key not in self._sampled and refers_to_keys_alone(text):
                _refer(config, key, text)
        own = self._own[0]
        with open_dict(config):
            config.tracking = _plain(own.tracking)
            for key in WRITTEN_BY_SLOT:
                if (value := select(own, key)) is not None:
                    OmegaConf.update(config, key, value)
        OmegaConf.set_struct(config, True)
        return config


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def _predictions(config: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in config.items() if _says_how_it_is_judged(key.rpartition(OF_A_CHOICE)[2])}


def _says_how_it_is_judged(key: str) -> bool:
    apart = any(f"{key}.".startswith(f"{one}.") for one in _FOR_TRAINING_ALONE)
    return key.startswith(_JUDGED_BY) and not apart


def _refer(config: DictConfig, key: str, text: str) -> None:
    """Write a reference to another key where a config has a value, if it gives that value."""
    value = OmegaConf.select(config, key)
    if value is None:
        return
    OmegaConf.update(config, key, text)
    try:
        same = OmegaConf.select(config, key) == value
    except OmegaConfBaseException:
        same = False
    if not same:
        OmegaConf.update(config, key, value)


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a config with other values at some keys. Raises ConfigError naming one that it does not have."""
    config = config.copy()
    for key, value in values.items():
        try:
            OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error)) from error
    return config
