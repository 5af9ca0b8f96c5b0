"""Cached configs equal those that are composed, completed for the slot and resolved one by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from besom.config.checks import recordable, resolved
from besom.errors import ConfigError
from besom.sweep.cached_configs import CachedConfigs
from besom.sweep.compose import Composer
from besom.sweep.trials.trial import for_slot
from besom.workers.devices import Slot
from tests.conftest import App
from tests.fakes import cpu_slots
from tests.sweep.space.test_overrides import VALUES

CONFIG = """\
defaults: [db: small, _self_]
rate: 0.1
twice: ${rate}
whole: ${table}
secret: ${oc.env:USER_OF_A_TEST,nobody}
greeting: hello ${secret}
name: plain
items: [1, 2]
table: {a: 1, b: {c: 2}}
nothing: null
free: 1
deep: {er: {est: 1}}
threads: auto
test: false
trainer: {accelerator: auto, devices: auto, max_epochs: 3}
"""


@pytest.fixture(scope="session")
def app(make_app: Callable[..., App]) -> App:
    """An app whose config references some values elsewhere."""
    return make_app(CONFIG, small="size: 1\nof: ${name}\n")


@pytest.fixture(scope="module")
def composer(app: App) -> Composer:
    """A composer shared by all examples, since Hydra's compositions are cached."""
    return Composer(*app, fixed=[])


@pytest.fixture(scope="module")
def digits_composer(digits_app: App) -> Composer:
    """A shared composer for the shipped configs."""
    return Composer(*digits_app, fixed=["optimizer=adam"])


def the_whole_way(composer: Composer, params: dict[str, Any], slot: Slot) -> tuple[str, str]:
    config = for_slot(composer.compose(params), slot, test=False)
    return repr(resolved(config)), repr(recordable(config))


def drafted(cached_configs: CachedConfigs, params: dict[str, Any], slot: Slot) -> tuple[str, str]:
    config, recorded = cached_configs.of(params).written_for(slot)
    return repr(config), repr(recorded)


ANY = VALUES.filter(lambda value: "${" not in repr(value)) | st.just("sqlite://me:secret@host/db")
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "db": st.sampled_from(["small", "large"]),
        "rate": ANY,
        "name": ANY,
        "items": ANY,
        "table": ANY,
        "table.b": ANY,
        "nothing": ANY | st.sampled_from(["${rate}", ["${name}"], "${oc.env:USER_OF_A_TEST,nobody}"]),
        "free": ANY,
        "deep.er.est": ANY,
        "deep.er": ANY,
        "threads": st.sampled_from(["auto", 1, 2]),
        "trainer.accelerator": st.sampled_from(["cpu", "auto"]),
        "trainer.max_epochs": st.integers(1, 9),
        "+new": ANY,
    },
).filter(lambda params: not ({"table", "table.b"} <= params.keys() or {"deep.er", "deep.er.est"} <= params.keys()))


@settings(max_examples=40)
@given(sweep=st.lists(PARAMS, min_size=1, max_size=4))
def test_the_drafts_of_a_sweep_are_what_each_trial_comes_to_by_itself(composer: Composer, sweep: list[dict[str, Any]]):
    (slot,) = cpu_slots(1)
    cached_configs = CachedConfigs(composer)
    for params in (*sweep, *reversed(sweep)):  # twice, so that the second one comes from a template
        try:
            expected = the_whole_way(composer, params, slot)
        except ConfigError:
            with pytest.raises(ConfigError):
                drafted(cached_configs, params, slot)
        else:
            assert drafted(cached_configs, params, slot) == expected


@settings(max_examples=20)
@given(
    sweep=st.lists(
        st.fixed_dictionaries(
            {"optimizer.lr": st.floats(0, 1) | st.just(1) | st.just("fast")},
            optional={
                "model": st.sampled_from(["mlp_classifier", "logistic_regression"]),
                "seed": st.integers(0, 9),
                "data.batch_size": st.sampled_from([None, 16, 3.5]),
                "trainer.max_epochs": st.integers(1, 9),
                "optimizer.betas": st.sampled_from([[0.8, 0.99], [0.9, 1]]),
            },
        ),
        min_size=2,
        max_size=6,
    )
)
def test_the_shipped_configs_are_drafted_with_their_types(digits_composer: Composer, sweep: list[dict[str, Any]]):
    composer, (slot,) = digits_composer, cpu_slots(1)
    cached_configs = CachedConfigs(composer)
    for params in sweep:
        try:
            expected = the_whole_way(composer, params, slot)
        except ConfigError as error:
            with pytest.raises(ConfigError, match=f"^{re.escape(str(error))}$"):
                drafted(cached_configs, params, slot)
        else:
            assert drafted(cached_configs, params, slot) == expected


def test_what_nothing_else_reads_is_drafted_without_composing_again(app: App, monkeypatch: pytest.MonkeyPatch):
    composer = Composer(*app, fixed=[])
    composed: list[dict[str, Any]] = []
    compose = composer.compose
    monkeypatch.setattr(composer, "compose", lambda params: (composed.append(params), compose(params))[1])
    cached_configs = CachedConfigs(composer)
    for number in range(3):
        cached_configs.of({"deep.er.est": number, "trainer.max_epochs": 1 + number})
    assert len(composed) == 1
    for number in range(3):
        cached_configs.of({"rate": number})  # `twice` references it
    assert len(composed) == 4


def test_a_resolver_of_the_users_own_may_read_whatever_it_likes(make_app: Callable[..., App]):
    OmegaConf.register_new_resolver("what_a_test_computes", lambda *, _root_: f"it is {_root_.free}", replace=True)
    cached_configs = CachedConfigs(Composer(*make_app(f"{CONFIG}computed: ${{what_a_test_computes:}}\n"), fixed=[]))
    assert [cached_configs.of({"free": number}).config["computed"] for number in (1, 2)] == [
        "it is 1",
        "it is 2",
    ]


def test_a_trial_does_not_change_the_draft_of_another(app: App):
    cached_configs = CachedConfigs(Composer(*app, fixed=[]))
    first = cached_configs.of({"deep.er.est": 1})
    second = cached_configs.of({"deep.er.est": 2})
    assert first.config["deep"] == {"er": {"est": 1}}
    assert second.config["deep"] == {"er": {"est": 2}}


def test_a_draft_of_a_model_is_refused_as_it_would_be_composed(digits_app: App):
    cached_configs = CachedConfigs(Composer(*digits_app, fixed=[]))
    cached_configs.of({"optimizer.lr": 0.1})
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        cached_configs.of({"optimizer.lr": "fast"})
    assert cached_configs.of({"optimizer.lr": 0.2}).config["optimizer"]["lr"] == 0.2
