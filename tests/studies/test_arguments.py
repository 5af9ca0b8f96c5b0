"""The arguments of a job of another Hydra app: what a shell and Hydra make of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from besom.config.hydra_versions import VERSION_BASE
from besom.studies.arguments import Arguments, job_arguments
from besom.sweep.space.overrides import to_overrides

CONFIG = """\
defaults:
  - model: small
  - _self_
x: 1
text: none
nested: {a: 1, b: 2}
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app's configs, and a group with two options; its folder has files that a glob would find."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "model").mkdir()
    for size in (1, 2):
        (folder / "model" / f"{('small', 'big')[size - 1]}.yaml").write_text(f"size: {size}\n")
    (folder / "x=1").touch()
    return folder


def split(arguments: Arguments, conf: Path) -> list[list[str]]:
    """Return the words as a shell gives them to a program: inserted by $(...), and pasted."""
    script = 'printf "%s\\0" $(cat); printf "\\1"; eval "printf \'%s\\\\0\' $1"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(arguments)],
        input=f"{arguments}\n", cwd=conf, text=True, capture_output=True, check=True,
    )  # fmt: skip
    return [part.split("\0")[:-1] for part in done.stdout.split("\1")]


def composed(words: Sequence[str], conf: Path) -> Any:
    """Return the config that Hydra composes of the words of a command line."""
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    overrides = [word for word in words if not word.startswith("--")]
    overrides.append(f"hydra.searchpath=[{conf}]")
    with initialize_config_dir(config_dir=flags.get("config-dir", str(conf)), **VERSION_BASE):
        config = hydra.compose(flags.get("config-name", "config"), overrides=overrides)
    return OmegaConf.to_container(config, resolve=False)


in_json = partial(json.dumps, sort_keys=True)

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.sampled_from(list("ab1 ,:'\"[]{}()$*?;&|<>#!~\\=%-é☃")), max_size=6)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=20, deadline=None)
@given(chosen=st.dictionaries(st.sampled_from(["x", "text", "+new", "+other.key", "nested", "nested.a"]), values))
def test_a_shell_and_hydra_read_the_values_of_the_trial(
    conf: Path, tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("best")
    overrides = ["model=big", *to_overrides(chosen)]
    try:
        wanted = composed(overrides, conf)
    except hydra.errors.HydraException:
        return  # such as nested=1 and nested.a=2: no job had these
    arguments = job_arguments(overrides, groups=["model"], folder=folder, name="besom_best_own_1", config_name="config")
    arguments.write()
    for words in split(arguments, conf):
        assert words[-1] == "hydra.mode=RUN"
        # As JSON, for 1, 1.0 and true are equal in Python; the order of keys is not that of the words.
        assert in_json(composed(words[:-1], conf)) == in_json(wanted)


def test_plain_values_need_no_file_and_the_sweep_is_left_out(tmp_path: Path) -> None:
    lines = [
        "hydra/sweeper=besom",
        "hydra.sweeper.n_trials=3",
        "model=big",
        "+lr=1e-05",
        "~nested",
        "hydra.job.chdir=true",
    ]
    arguments = job_arguments(lines, flags=["--config-name=own"], folder=tmp_path, name="best", config_name="own")
    assert str(arguments) == "--config-name=own model=big +lr=1e-05 ~nested hydra.job.chdir=true hydra.mode=RUN"
    assert arguments.file is None


def test_several_choices_of_a_group_are_listed_in_the_file(conf: Path, tmp_path: Path) -> None:
    arguments = job_arguments(
        ["model=[small,big]"], groups=["model"], folder=tmp_path, name="besom_best", config_name="config"
    )
    arguments.write()
    assert arguments.words == (f"--config-dir={tmp_path}", "--config-name=besom_best", "hydra.mode=RUN")
    assert composed(arguments.words, conf)["model"] == {"size": 2}
