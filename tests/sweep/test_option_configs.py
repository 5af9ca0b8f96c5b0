"""The configs of a large group's options: equal to those that Hydra composes, or left to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from besom.config.hydra_versions import VERSION_BASE
from besom.sweep.compose import Composer

CONFIG = "defaults: [_self_, {net: n0}, {size: n0}]\nrate: 1\nwidth: ${net.width}\n"
FILES = {f"net/n{index}": f"width: {index}\nparts: {{a: {index}, b: [1, 2]}}\n" for index in range(8)}
SIZES = {f"size/n{index}": f"of: {index}\n" for index in range(8)}
OPTIONS = [f"n{index}" for index in range(8)]


@contextmanager
def app(folder: Path, config: str, files: Mapping[str, str]) -> Iterator[tuple[Composer, Callable[..., DictConfig]]]:
    """Yield a composer, and a function that lets Hydra compose the same config."""
    for name, text in {"config": config, **files}.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    with initialize_config_dir(config_dir=str(folder), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)

        def by_hydra(*overrides: str) -> DictConfig:
            composed = loader.load_sweep_config(sweep, list(overrides))
            with open_dict(composed):
                del composed["hydra"]
            return composed

        yield Composer(loader, sweep, []), by_hydra


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        (CONFIG, {}),
        (f"{CONFIG}net: {{width: 5}}\n".replace("_self_, ", "").replace("}]", "}, _self_]"), {}),  # it sets a key there
        (CONFIG.replace("{size: n0}", "{size: '${net}'}"), {}),  # another choice follows
        (CONFIG, {"net/n6": "defaults: [/size@here: n1]\nwidth: 6\n"}),
        (CONFIG, {"net/n6": "# @package _global_\nrate: 6\nnet: {width: 6}\n"}),
    ],
)
def test_config_is_that_of_hydra_whatever_else_an_option_brings(
    tmp_path: Path, config: str, changed: Mapping[str, str]
) -> None:
    with app(tmp_path, config, {**FILES, **SIZES, **changed}) as (composer, by_hydra):
        for option in OPTIONS:
            composed = composer.compose({"net": option, "rate": 2})
            assert composed == by_hydra(f"net={option}", "rate=2")
            assert composed.width == composed.net.width


def test_few_of_a_hundred_options_are_composed_by_hydra(tmp_path: Path) -> None:
    files = {f"net/n{index}": f"width: {index}\n" for index in range(100)}
    with app(tmp_path, "defaults: [_self_, {net: n0}]\nrate: 1\n", files) as (composer, _):
        found = [composer.compose({"net": f"n{index}"}).net.width for index in range(100)]
        assert found == list(range(100))
        assert composer.composed_by_hydra == 4


def test_of_a_hundred_experiments_a_few_dozen_are_composed_before_the_start(tmp_path: Path) -> None:
    files = {f"net/n{index}": f"# @package _global_\nrate: {index}\n" for index in range(100)}
    with app(tmp_path, "defaults: [_self_, {net: null}]\nrate: 1\n", files) as (composer, _):
        examples: list[dict[str, Any]] = [{"net": f"n{index}"} for index in range(100)]
        first = [composer.compose(params).rate for params in composer.at_first(examples)]
        assert first == list(range(24))
        assert list(composer.at_first(examples)) == examples[:24]
        assert composer.compose(examples[-1]).rate == 99
