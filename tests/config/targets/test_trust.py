"""The trust in recorded configs: shipped targets and those that the user names are built, and no others."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from besom.config.checks import recordable
from besom.config.schema import register_schemas
from besom.config.targets.check import targets_in
from besom.config.targets.trust import RECORDED_CODE, Trust, needed_to_serve
from besom.errors import ConfigError

PLANTED = [
    "os.system",
    "builtins.eval",
    "pathlib.Path.touch",
    "subprocess.Popen",
    "functools.partial",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "torch.load",
    "torch.hub.load",
    "besom",
    "besom.cli.dispatch.main",
    "besom.system.git.git",
    "besom.models.saved.load",
    "besom.studies.best.save",
    "besom.data.sources.os.system",
    "besom.data.sources.os",
    "besom.data.sources.fcntl.flock",
    "besom.data.sources.lru_cache",
    "besom.data.sources.Path",
    "besom.data.sources.Path.touch",
    "besom.data.sources._download",
    "besom.data.sources.torch.hub.load",
    "besom.data.tables.source.lru_cache",
    "besom.data.tables.files.Path",
    "besom.data.module.Source",
    "besom.models.SupervisedModule.load_from_checkpoint",
    "besom.models.saved.SavedModel",
    "besom.models.__getattr__",
    "besom.models.module.pl.Trainer.__init__",
    "torch.nn.functional.os.system",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.functional.boolean_dispatch",
    "torch.nn.functional.handle_torch_function",
    "torch.nn.modules.os.system",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.modules.module.OrderedDict",
    "torch.nn.modules.module.register_module_forward_hook",
    "torch.nn.Module.__init__",
    "torch.nn.Module.load_state_dict",
    "torch.nn.Embedding.from_pretrained",
    "torch.nn.Linear.__class__",
    "torch.optim.lr_scheduler.partial",
    "torch.optim.lr_scheduler.Counter",
    "torch.optim.Adam.__init__.__globals__",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.callbacks.os.system",
    "pytorch_lightning.callbacks.model_checkpoint.Path",
    "pytorch_lightning.Trainer.fit",
    "pytorch_lightning.cli.LightningCLI",
    "torch.nn.Nothing; import os",
    "torch.nn..Linear",
    "",
]
SHIPPED = [
    "besom.data.InMemoryDataModule",
    "besom.data.sources.mnist",
    "besom.data.sources.digits",
    "besom.data.tables.csv",
    "besom.models.MLPClassifier",
    "besom.models.mlp.MLPRegressor",
    "besom.models.MLP",
    "besom.PruningCallback",
    "torch.nn.Linear",
    "torch.nn.modules.activation.GELU",
    "torch.nn.functional.relu",
    "torch.nn.functional.gelu",
    "torch.nn.init.xavier_uniform_",
    "torch.optim.Adam",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torch.optim.swa_utils.SWALR",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.loggers.CSVLogger",
    "lightning.pytorch.callbacks.EarlyStopping",
]
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "model._target_": lambda node: {"model": node},
    "model.head.layers[1].act._target_": lambda node: {"model": {"head": {"layers": [1, {"act": node}]}}},
    "model._args_[0]._target_": lambda node: {"model": {"_target_": "torch.nn.Sequential", "_args_": [node]}},
    "model.x._target_": lambda node: {"model": {"_target_": "torch.nn.Linear", "_recursive_": False, "x": node}},
    "model.y._target_": lambda node: {"model": {"_convert_": "all", "y": {**node, "_partial_": True}}},
}


def trusting(*names: str) -> Trust:
    return Trust(names=names)


@pytest.mark.parametrize("target", PLANTED)
def test_a_target_that_is_not_shipped_to_be_built_is_refused_by_name_and_flag(target: str):
    with pytest.raises(ConfigError) as refused:
        trusting().check({"model": {"_target_": target}})
    (line,) = str(refused.value).splitlines()
    assert line.startswith("model._target_: ")
    assert target in line
    assert "--trust " in line or "is no target's name" in line


@pytest.mark.parametrize("target", SHIPPED)
def test_what_is_shipped_to_be_built_is_free(target: str):
    trusting().check({"model": {"_target_": target}})


@pytest.mark.parametrize("target", ["besom.data.sources.os.system", "torch.nn.modules.os.system", "subprocess.Popen"])
@pytest.mark.parametrize("key", PLACES)
def test_a_target_is_found_wherever_it_stands(key: str, target: str):
    config = PLACES[key]({"_target_": target})
    with pytest.raises(ConfigError) as refused:
        trusting().resolve(config)
    assert str(refused.value).startswith(f"{key}: {target} is none of what Besom, torch and Lightning ship")


def test_every_shipped_config_is_free(compose: Callable[..., DictConfig]):
    register_schemas()
    folder = Path(__file__).parents[3] / "conf"
    folders = [path for path in folder.iterdir() if path.is_dir() and path.name not in ("experiment", "tracking")]
    groups = [[f"{group.name}={path.stem}" for path in sorted(group.glob("*.yaml"))] for group in folders]
    assert sum(map(len, groups)) > 15
    found = []
    for choices in zip_longest(*groups):  # one of each group, until each was chosen
        chosen = [choice for choice in choices if choice is not None]
        needed = ["data.source.path=x.csv", "data.source.target=y"] if "data=csv" in chosen else []
        config = trusting().resolve({**recordable(compose(*chosen, "threads=1", *needed)), "tracking": {}})
        trusting().check(config)
        found += targets_in(config)
    assert len({target for _, target in found}) > 15


# Packages of the user's own.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that holds a network of its own, and what it has imported."""
    (tmp_path / "trusted_net").mkdir()
    (tmp_path / "trusted_net/__init__.py").write_text(
        "import os\nfrom torch import nn\nfrom tests.own_bystander import Bystander\n"
        "class Net(nn.Module): pass\nclass Nets:\n    @classmethod\n    def one(cls): return Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trusted_net", raising=False)
    return tmp_path


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("target", ["trusted_net.Net", "trusted_net.Nets.one"])
@pytest.mark.parametrize("name", ["trusted_net", None])
def test_what_lies_in_a_package_that_was_named_is_free_and_else_is_refused_before_it_is_imported(
    target: str, name: str | None
):
    config = {"model": {"_target_": target}}
    with pytest.raises(ConfigError, match=r"if you trust trusted_net: --trust trusted_net, or trust: \[trusted_net\]"):
        trusting("trusted_nets", "trusted").check(config)
    assert "trusted_net" not in sys.modules
    trusting(name or target).check(config)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("trusted_net.os.system", r"is posix\.system, and .*--trust trusted_net\.os\.system"),
        ("trusted_net.os", r"is no class and no function, and"),
        ("trusted_net.nn.Linear", r"is torch\.nn\.modules\.linear\.Linear, and"),
        ("trusted_net.Net.load_state_dict", r"is torch\.nn\.modules\.module\.Module\.load_state_dict"),
        ("trusted_net.Bystander", r"is tests\.own_bystander\.Bystander, .*if you trust tests: --trust tests,"),
    ],
)
def test_what_a_trusted_package_has_only_imported_is_refused_with_where_it_is_defined(target: str, told: str):
    with pytest.raises(ConfigError, match=told):
        trusting("trusted_net").check({"model": {"_target_": target}})
    trusting("trusted_net", target).check({"model": {"_target_": target}})


def test_a_package_that_is_not_here_is_told_with_where_the_run_was_trained(monkeypatch: pytest.MonkeyPatch):
    config = {"model": {"_target_": "far_away.Net"}}
    with pytest.raises(
        ConfigError, match=r"far_away\.Net is not found, .* the run was trained in /old/place: go there"
    ):
        Trust(names=("far_away",), folder="/old/place").check(config)
    with pytest.raises(ConfigError, match=r"no package far_away here; put the folder that holds it on PYTHONPATH"):
        trusting("far_away").check(config)


# Not by `from_regex`, which first computes for seconds which characters there are.
NAMES = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


@given(st.lists(NAMES, max_size=4), NAMES)
def test_a_name_is_trusted_by_itself_or_by_a_whole_part_of_it_in_front(names: list[str], target: str):
    parts = target.split(".")
    heads = {".".join(parts[: count + 1]) for count in range(len(parts))}
    stdlib = parts[0] in sys.stdlib_module_names
    trusted = target in names or (not stdlib and bool(heads & set(names)))
    try:
        Trust(names=tuple(names)).resolve({"model": {"_target_": target}})
    except ConfigError:
        assert not trusted
    else:
        assert trusted


# Where the user says it.


def test_flag_file_and_environment_are_taken_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "besom.yaml").write_text("trust: [net, 'env:HOME']\n")
    monkeypatch.setenv("BESOM_TRUST", "one,two.three")
    assert Trust.given(["net", RECORDED_CODE]).names == ("net", RECORDED_CODE, "one", "two.three", "env:HOME")
    assert Trust.given("alone").names[0] == "alone"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("trust: net", "besom.yaml: trust: 'net' is no list; write trust: [package]"),
        ("trust: [os]", "besom.yaml: trust: os is Python's own"),
        ("trust: [3]", "besom.yaml: trust: 3 is no package's name"),
        ("trust: ['net; rm']", "besom.yaml: trust: 'net; rm' is no package's name"),
        ("trusts: [net]", "besom.yaml: there is no key trusts; did you mean trust?"),
        ("net", "besom.yaml: it holds no keys; write trust: [package]"),
        ("trust: [", "mend the YAML"),
        ("\xff", "besom.yaml: cannot be read"),
    ],
)
def test_a_file_that_says_it_wrongly_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, told: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "besom.yaml").write_bytes(written.encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        Trust.given()
    assert told in str(refused.value)
    assert str(refused.value).startswith("besom.yaml: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["os", "builtins", "net-work", "a b", "../net", "env:", "recorded:all"])
def test_a_name_that_cannot_be_trusted_is_refused(name: str):
    with pytest.raises(ConfigError, match=r"^trust: "):
        Trust.given([name])


def test_a_part_of_pythons_own_is_trusted_in_itself_alone():
    trusting("collections.OrderedDict").check({"model": {"_target_": "collections.OrderedDict"}})
    with pytest.raises(ConfigError, match=r"--trust collections\.abc\.Callable"):
        trusting("collections.abc").check({"model": {"_target_": "collections.abc.Callable"}})


# What it reads when it is resolved.


READS = {
    "${oc.env:SECRET_KEY}": "model.a: the recorded config reads the environment variable SECRET_KEY; if it may: "
    "--trust env:SECRET_KEY, or",
    "x/${oc.env:SECRET_KEY,none}": "reads the environment variable SECRET_KEY",
    "${oc.env:BESOM_DATA_DIR,${oc.env:SECRET_KEY}}": "reads the environment variable SECRET_KEY",
    "${oc.decode:${oc.env:SECRET_KEY}}": "reads the environment variable SECRET_KEY",
    r"${oc.decode:'$\{oc.env:SECRET_KEY\}'}": "holds an interpolation of another kind",
    r"${oc.env:BESOM_DATA_DIR,'$\{oc.env:SECRET_KEY\}'}": "holds an interpolation of another kind",
    "${oc.env:${model.name}}": "holds an interpolation of another kind",
    "${ oc.env : SECRET_KEY }": "holds an interpolation of another kind",
    "${oc.decode:${model.concatenated}}": "holds an interpolation of another kind",
    "${oc.decode:${oc.env:BESOM_DATA_DIR,${model.concatenated}}}": "holds an interpolation of another kind",
    "${${model.resolver}:SECRET_KEY}": "holds an interpolation of another kind",
    "${oc.create:${model.more}}": "holds an interpolation of another kind",
    "${planted:touch}": "holds an interpolation of another kind",
    "${model.dollar}${model.rest}": "holds an interpolation of another kind",
    "${elsewhere.a}": "elsewhere.a: the recorded config reads the environment variable SECRET_KEY",
}


@pytest.mark.parametrize("text", READS)
def test_a_recorded_config_reads_nothing_of_the_environment_unasked_and_runs_no_resolver(
    text: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.delenv("BESOM_DATA_DIR", raising=False)
    more = {"name": "SECRET_KEY", "resolver": "oc.env", "more": "", "dollar": "$", "rest": "{oc.env:SECRET_KEY}",
            "concatenated": "${.dollar}${.rest}"}  # fmt: skip
    config = {"model": {"a": text, **more}, "elsewhere": {"a": "${oc.env:SECRET_KEY}" if "elsewhere" in text else 1}}
    with pytest.raises(ConfigError) as refused:
        trusting().resolve(config, "model")
    assert READS[text] in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_what_it_may_read_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BESOM_DATA_DIR", "/data")
    monkeypatch.setenv("THREADS", "3")
    monkeypatch.setenv("BESOM_SECRET_KEY", "hunter2")
    config = {
        "seed": 7,
        "model": {
            "seed": "${seed}",
            "root": "${oc.env:BESOM_DATA_DIR,data}/x",
            "own": "${.seed}",
            "key": "${oc.env:BESOM_SECRET_KEY}",
        },
        "data": {"threads": "${oc.decode:${oc.env:THREADS,1}}"},
    }
    found = trusting("env:THREADS").resolve(config)
    assert found["model"] == {"seed": 7, "root": "/data/x", "own": 7, "key": "hunter2"}
    assert found["data"] == {"threads": 3}
    # What another group reads is of no concern to who needs the model alone.
    assert trusting().resolve({**config, "model": {"seed": 7}}, "model") == {"seed": 7}


# What is said at registration.


def test_a_model_of_ones_own_says_what_serving_it_needs():
    config = {"_target_": "far_away.Net", "head": {"_target_": "os.path.join"}, "act": {"_target_": "torch.nn.ReLU"}}
    assert needed_to_serve(config) == (
        "it is built by far_away.Net, os.path.join: where it is loaded or served, far_away, os must be importable "
        "(PYTHONPATH), and BESOM_TRUST=far_away,os.path.join be set"
    )
    assert needed_to_serve({"_target_": "besom.models.MLPClassifier"}) is None
