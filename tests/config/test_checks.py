from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check, flatten, recordable, resolved, select
from besom.errors import ConfigError
from besom.secrets.masks import mask, without_secrets

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.max_time=soon", "trainer.max_time: 'soon' is no time"),
        ("data.batch_size=0", "data.batch_size: 0 is below 1"),
        ("data.eval_batch_size=0", "data.eval_batch_size: 0 is below 1"),
        ("trainer.max_epochs=0", "trainer.max_epochs: 0 is below 1"),
        (
            "+trainer.max_epoch=3",
            "there is no key trainer.max_epoch; did you mean trainer.max_epochs?",
        ),
        ("optimizer.lr=-0.1", "optimizer.lr: -0.1 is below 0"),
        ("early_stopping.patience=0", "early_stopping.patience: 0 is below 1"),
        ("direction=up", "direction: 'up' is unknown; use minimize or maximize"),
        ("threads=0", "threads: '0' is not a number of threads"),
        ("matmul_precision=low", "matmul_precision: 'low' is unknown; use one of highest, high, medium"),
        ("figures=some", "figures: 'some' is unknown; use one of auto, all, none"),
        ("tracking.views=never", "tracking.views: 'never' is unknown; use one of auto, off"),
        ("threads=many", "threads: 'many' is not a number of threads"),
        ("trainer.accelerator=abacus", "trainer.accelerator: 'abacus' is unknown"),
        ("data.val_fraction=0", "objective: 'val/loss' needs a validation part"),
        ("evaluation.folds=1", "evaluation.folds: 1 is below 2; deal at least two folds"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_key_value_and_remedy(compose: Compose, override: str, told: str):
    with pytest.raises(ConfigError) as refused:
        check(compose(override))
    assert str(refused.value).startswith(told)
    assert "; " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("evaluation.folds=2", "data.val_fraction=0"),
        ("data.batch_size=null",),
        ("early_stopping.patience=5",),
        ("data.val_fraction=0", "objective=train/loss"),
    ],
)
def test_what_can_be_trained_passes(compose: Compose, overrides: tuple[str, ...]):
    check(compose(*overrides))


def test_folds_and_a_scheduler_that_watches_a_validation_part_do_not_go_together(compose: Compose):
    folds = ("evaluation.folds=3", "scheduler=plateau")
    with pytest.raises(ConfigError, match=r"^model\.monitor: the plateau scheduler watches val/loss.*=train/loss, or"):
        check(compose(*folds))
    check(compose(*folds, "model.monitor=train/loss"))


def test_a_mandatory_value_that_is_missing_is_named(compose: Compose):
    config = compose("data=csv")
    with pytest.raises(ConfigError, match=r"data\.source\.path"):
        resolved(config)
    with pytest.raises(ConfigError, match=r"data\.source\.path"):
        select(config, "data.source.path")


def test_an_interpolation_that_leads_nowhere_is_named(compose: Compose):
    with pytest.raises(ConfigError, match=r"seed_of_nothing"):
        resolved(compose("+again=${seed_of_nothing}"))


def test_a_resolved_config_has_no_interpolations_left(compose: Compose):
    plain = resolved(compose("seed=7", "scheduler=cosine"))
    assert (plain["model"]["seed"], plain["data"]["shuffle_seed"]) == (7, 7)
    assert plain["scheduler"]["T_max"] == plain["trainer"]["max_epochs"]


# What may be recorded.


def test_a_recordable_config_is_resolved_but_for_the_environment(compose: Compose, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BESOM_DATA_DIR", "/home/hunter2")
    config = compose(
        "data=mnist", "seed=7", "+copy=${data.source.root}/x", "+all=${data.source}", "+list=[1,'${oc.env:HOME}']"
    )
    plain = recordable(config)
    assert plain["model"]["seed"] == 7
    assert plain["data"]["source"]["root"] == "${oc.env:BESOM_DATA_DIR,data}"
    assert (plain["copy"], plain["all"]) == ("${data.source.root}/x", "${data.source}")
    assert plain["list"] == [1, "${oc.env:HOME}"]
    assert "hunter2" not in str(plain)
    assert resolved(OmegaConf.create(plain)) == resolved(config)


def test_text_keeps_a_folder_that_a_variable_names_and_no_other_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_ROOT", str(tmp_path))
    monkeypatch.setenv("THEIR_ENDPOINT", endpoint := "tell-nobody" * 500)
    config = OmegaConf.create({"root": "${oc.env:THEIR_ROOT}/x", "endpoint": "${oc.env:THEIR_ENDPOINT}"})
    assert recordable(config) == {"root": "${oc.env:THEIR_ROOT}/x", "endpoint": "${oc.env:THEIR_ENDPOINT}"}
    assert without_secrets(f"{tmp_path}/x {endpoint}") == f"{tmp_path}/x ${{oc.env:THEIR_ENDPOINT}}"


def test_an_empty_variable_keeps_nothing_else_from_being_resolved(compose: Compose, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BESOM_DATA_DIR", "")
    assert recordable(compose("data=mnist", "seed=7"))["model"]["seed"] == 7


def test_passwords_are_masked_wherever_they_stand(compose: Compose):
    uri = "postgresql://me:hunter2@db/x"
    config = compose(f"tracking.uri='{uri}'", f"+deep={{list: ['{uri}', 1]}}", "+again=${deep}")
    assert "hunter2" not in str(recordable(config))
    assert recordable(config)["again"] == {"list": ["postgresql://me:${oc.env:BESOM_SECRET_AGAIN_LIST}@db/x", 1]}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:hunter2@db/x", "postgresql://me:***@db/x"),
        ("http://:token@host", "http://:***@host"),
        ("a http://a:b@c and d://e:f@g", "a http://a:***@c and d://e:***@g"),
        ("http://host:5000/path@home", "http://host:5000/path@home"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("no uri: here@all", "no uri: here@all"),
    ],
)
def test_only_the_password_of_a_uri_is_masked(text: str, masked: str):
    assert mask(text) == masked


KEYS = st.text("abc", min_size=1)
NESTED = st.recursive(
    st.integers() | st.lists(st.integers()), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(KEYS, NESTED, max_size=4))
def test_flattening_keeps_every_leaf_under_its_dotted_key(config: dict[str, Any]):
    flat = dict(flatten(config))
    rebuilt: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = rebuilt
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    assert rebuilt == config


def test_a_test_without_a_test_part_is_refused_before_the_data_is_read(compose: Compose):
    with pytest.raises(ConfigError, match=r"^test: the data has no test part; set data\.test_fraction, or test=false$"):
        check(compose("test=true", "data.test_fraction=0"))
    check(compose("test=true"))
    check(compose("data.test_fraction=0"))
    check(compose("test=true", "data=mnist", "data.test_fraction=0"))
