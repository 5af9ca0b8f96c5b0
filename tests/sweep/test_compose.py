from __future__ import annotations

from typing import Any, cast

import pytest
from hydra.core.config_loader import ConfigLoader
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from besom.errors import ConfigError
from besom.sweep.compose import Composer
from besom.sweep.space.parser import SpaceParser
from tests.conftest import App
from tests.sweep.space.test_overrides import VALUES


def plain(composer: Composer, params: dict[str, Any]) -> str:
    # As text, so that 1, 1.0 and True differ, and NaN equals itself.
    return repr(OmegaConf.to_container(composer.compose(params)))


def composed_by_hydra(app: App, composer: Composer, params: dict[str, Any]) -> str:
    loader, sweep_config = app
    config = loader.load_sweep_config(sweep_config, composer.overrides(params))
    return repr({key: value for key, value in OmegaConf.to_container(config).items() if key != "hydra"})


# Text with ${ would be an interpolation, for Hydra as for the fast path; most random ones are invalid.
ANY = VALUES.filter(lambda value: "${" not in repr(value))
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "db": st.sampled_from(["small", "large"]),
        "db.size": ANY,
        "rate": ANY,
        "name": ANY,
        "flag": ANY,
        "items": ANY,
        "table": ANY,
        "table.a": ANY,
        "nothing": ANY,
        "+new": ANY,
        "+db.extra": ANY,
        "++db.more.most": ANY,
    },
).filter(lambda params: not {"table", "table.a"} <= params.keys())  # one would overwrite the other


@settings(max_examples=25)
@given(params=PARAMS)
def test_the_fast_path_gives_what_hydra_composes_from_the_overrides(small_app: App, params: dict[str, Any]):
    composer = Composer(*small_app, fixed=["flag=false"])
    try:
        expected = composed_by_hydra(small_app, composer, params)
    except Exception:
        with pytest.raises(ConfigError):
            composer.compose(params)
    else:
        assert plain(composer, params) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"model": "mlp_classifier", "model.hidden_sizes": [64, 32], "model.activation": "tanh"},
        {"model": "logistic_regression", "optimizer": "sgd", "optimizer.lr": 1, "optimizer.nesterov": True},
        {"optimizer.betas": [0.8, 0.99], "data.batch_size": None, "early_stopping.patience": 3},
        {"data.scaling": {"mean": 0.5, "std": 0.5}, "scheduler": "cosine", "trainer.max_time": "00:00:01:00"},
        {"+trainer.gradient_clip_val": 1.0, "tracking.experiment": "a, 'quoted' name", "data": "breast_cancer"},
        {"data.source.root": "${oc.env:HOME}", "data": "mnist", "seed": 7},
    ],
)
def test_the_shipped_configs_with_their_types_are_composed_as_hydra_does(digits_app: App, params: dict[str, Any]):
    composer = Composer(*digits_app, fixed=["trainer.max_epochs=3"])
    assert plain(composer, params) == composed_by_hydra(digits_app, composer, params)


def test_trials_do_not_share_their_configs(small_app: App):
    composer = Composer(*small_app, fixed=[])
    first = composer.compose({"rate": 1})
    first["items"].append(3)
    second = composer.compose({"rate": 2})
    assert (first.rate, second.rate, second["items"]) == (1, 2, [1, 2])


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"optimizer.learning_rate": 0.1}, "optimizer.learning_rate"),
        ({"optimizer.lr": "fast"}, "optimizer.lr"),
        ({"data.batch_size": 3.5}, "data.batch_size"),
        ({"model": "transformer"}, "transformer"),
        ({"model": "logistic_regression", "model.depth": 2}, "model.depth"),
        ({"+optimizer.lr": 0.1}, "optimizer.lr"),
        ({"nowhere": 1}, "nowhere"),
    ],
)
def test_a_key_that_is_not_there_or_a_wrong_type_is_refused_by_name(
    digits_app: App, params: dict[str, Any], named: str
):
    with pytest.raises(ConfigError, match=named) as refused:
        Composer(*digits_app, fixed=[]).compose(params)
    assert "\n" not in str(refused.value)


def test_a_wrong_override_that_all_trials_share_is_refused_by_name(digits_app: App):
    with pytest.raises(ConfigError, match=r"data\.batch_sizes"):
        Composer(*digits_app, fixed=["data.batch_sizes=3"]).compose({"seed": 1})


def test_what_hydra_cannot_compose_is_given_to_it_once(small_app: App):
    loader, sweep_config = small_app
    asked: list[list[str]] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(loader, name)

        def load_sweep_config(self, config: DictConfig, overrides: list[str]) -> DictConfig:
            asked.append(overrides)
            return loader.load_sweep_config(config, overrides)

    composer = Composer(cast("ConfigLoader", Counting()), sweep_config, fixed=["nowhere=1"])
    told = []
    for rate in (1, 2, 3):
        with pytest.raises(ConfigError) as refused:
            composer.compose({"rate": rate})
        told.append(str(refused.value))
    assert len(asked) == 1
    assert len(set(told)) == 1
    assert "nowhere" in told[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("table=choice({a: 5}, {a: 6})", "table.a=7"),
        ("table.a=7", "table=choice({a: 5}, {a: 6})"),
        ("+new=choice({a: 5}, {a: 6})", "+new.b=choice(1, 2)", "db=small,large", "db.size=9"),
        ("items=choice([3], [4])", "++items=[5]"),
    ],
)
def test_overrides_that_overlap_win_in_the_order_in_which_they_were_written(small_app: App, arguments: tuple[str, ...]):
    space, line = SpaceParser(small_app[0], source="digits.yaml", arguments=arguments).space({}, {})
    composer = Composer(*small_app, fixed=line)
    for params in space.points():
        assert [override.split("=")[0] for override in composer.overrides(params)] == [
            argument.split("=")[0] for argument in arguments
        ]
        assert plain(composer, params) == composed_by_hydra(small_app, composer, params)
