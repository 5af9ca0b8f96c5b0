"""The command line: help, Hydra's flags, a user's own configs, tab completion."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir

from besom.cli import hydra_main, main
from besom.cli.flags import SweepFlags, Words, hydra_parser
from besom.cli.groups import COMMANDS
from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, sweeps_dir

pytestmark = pytest.mark.slow

SWEEPS = sorted(path.stem for path in sweeps_dir().glob("*.yaml"))
TINY = ("data=diabetes", "model=linear_regression", "trainer=cpu", "trainer.max_epochs=1")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


class Besom:
    """Runs `besom` in this process; fails unless it succeeds."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str) -> str:
        code = main(shlex.split(line))
        out, err = self._capsys.readouterr()
        assert (code, err) == (0, ""), f"besom {line}: {err}"
        return out

    def config(self, line: str) -> dict[str, object]:
        """The config that a command would train."""
        return dict(yaml.safe_load(self(f"{line} --cfg job")))


@pytest.fixture
def besom(capsys: pytest.CaptureFixture[str]) -> Besom:
    return Besom(capsys)


# Help.


@pytest.mark.parametrize("line", ["", "--help", "-h", "help"])
def test_help_names_every_command_and_a_first_one_to_type(besom: Besom, line: str) -> None:
    out = besom(line)
    assert all(f"besom {command}" in out for command in COMMANDS)
    assert "besom sweep digits" in out
    assert "mlruns/" in out


@pytest.mark.parametrize("command", [*COMMANDS, "sweep digits"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_has_help_with_usage_and_examples(besom: Besom, command: str, flag: str) -> None:
    out = besom(f"{command} {flag}")
    assert out.startswith(f"usage: besom {command}")
    assert len(examples(out)) >= 2
    assert max(map(len, out.splitlines())) <= 140


def test_help_of_train_lists_the_choices_of_every_group(besom: Besom) -> None:
    lines = besom("train --help").splitlines()
    for folder in conf_dir().iterdir():
        if folder.is_dir():
            assert f"{folder.name}: {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}" in lines


def test_help_of_sweep_lists_the_shipped_sweeps_and_ones_own(besom: Besom, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/mine.yaml").touch()
    (tmp_path / "dir/sweeps").mkdir(parents=True)
    (tmp_path / "dir/sweeps/theirs.yaml").touch()
    out = besom("sweep --config-dir dir --help")
    assert f"sweeps: {', '.join(sorted([*SWEEPS, 'mine', 'theirs']))}" in out


def test_help_of_one_sweep_shows_its_file(besom: Besom) -> None:
    out = besom("sweep digits --help")
    text = (sweeps_dir() / "digits.yaml").read_text(encoding="utf-8")
    assert all(line in out for line in text.splitlines())


@pytest.mark.parametrize("command", ["train", "sweep", "sweep digits"])
def test_every_example_in_the_help_composes(besom: Besom, command: str, tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_text("rooms,price\n1,2\n", encoding="utf-8")
    for example in examples(besom(f"{command} --help")):
        example = re.sub(r" --(dry-run|quiet|enqueue-from \w+)", "", example)
        shown = "" if {"--cfg", "--info", "--help", "--hydra-help", "-m"} & set(example.split()) else " --cfg job"
        if "-m" not in example.split():
            assert besom(f"{example}{shown}")


@pytest.mark.parametrize(
    "folder", [path for path in (conf_dir(), *conf_dir().iterdir(), sweeps_dir()) if path.is_dir()]
)
def test_the_example_on_top_of_every_shipped_config_composes(besom: Besom, folder: Path) -> None:
    for file in folder.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        example, *_ = examples(text.replace("# besom ", "  besom ")) or pytest.fail(f"{file} has no example on top")
        assert besom.config(example)


def examples(text: str) -> list[str]:
    """Return the commands of indented lines, without their explanations."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  besom ")]
    return [line.split("   ")[0].removeprefix("besom ") for line in lines]


def test_version_is_besoms_own(besom: Besom) -> None:
    assert besom("--version").startswith("besom ")


# Hydra's flags.


@pytest.mark.parametrize(
    "line",
    [
        "train --cfg job seed=7 optimizer=sgd",
        "train seed=7 --cfg job optimizer=sgd",
        "train seed=7 optimizer=sgd --cfg job",
        "train seed=7 optimizer=sgd -c job",
        "train --cfg=job seed=7 optimizer=sgd",
        "sweep --cfg job digits seed=7 optimizer=sgd",
        "sweep digits seed=7 --cfg job optimizer=sgd",
        "sweep seed=7 optimizer=sgd digits --cfg job",
    ],
)
def test_flags_and_overrides_come_in_any_order(besom: Besom, line: str) -> None:
    config = yaml.safe_load(besom(line))
    assert config["seed"] == 7
    assert config["optimizer"]["_target_"] == "torch.optim.SGD"


def test_info_shows_where_the_config_comes_from(besom: Besom) -> None:
    assert "data/diabetes" in besom("train --info defaults data=diabetes")
    assert "data/diabetes" in besom("train --info data=diabetes")
    assert "sweeps" in besom("sweep digits --info searchpath")


def test_cfg_shows_the_job_hydra_or_all(besom: Besom) -> None:
    assert "hydra" not in yaml.safe_load(besom("train --cfg job"))
    assert yaml.safe_load(besom("train --cfg hydra")).keys() == {"hydra"}
    assert {"hydra", "model"} < yaml.safe_load(besom("train --cfg all")).keys()


def test_resolve_fills_interpolations_in_and_package_shows_a_part(besom: Besom) -> None:
    assert "seed: ${seed}" in besom("train --cfg job --package model")
    assert "seed: 7" in besom("train --cfg job --package model --resolve seed=7")


def test_cfg_of_a_sweep_is_what_its_trials_start_from(besom: Besom) -> None:
    config = besom.config("sweep digits 'model.width=choice(32,64)' trainer.max_epochs=3")
    assert config["objective"] == "val/acc"
    assert config["model"]["width"] == 128  # type: ignore[index]
    assert config["trainer"]["max_epochs"] == 3  # type: ignore[index]


def test_hydra_help_is_one_flag_away(besom: Besom) -> None:
    assert "--multirun" in besom("train --hydra-help")


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path: Path) -> None:
    done = run_bash(tmp_path, "set -o pipefail; besom train --cfg job | true")
    assert done.returncode == 0
    assert done.stderr == ""


# Besom's own flags of a sweep.


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("sweep digits --dry-run", {"dry_run": True}),
        ("sweep --dry-run digits", {"dry_run": True}),
        ("sweep digits --quiet", {"quiet": True}),
        ("sweep -q digits seed=1", {"quiet": True}),
        ("sweep digits --enqueue-from second", {"enqueue_from": "second"}),
        ("sweep --enqueue-from second digits", {"enqueue_from": "second"}),
        ("sweep digits --enqueue-from=second-best", {"enqueue_from": "second-best"}),
        ("sweep digits --enqueue-from 'a, b'", {"enqueue_from": "a, b"}),
    ],
)
def test_a_sweeps_own_flags_are_keys_of_the_sweeper(line: str, keys: dict[str, object]) -> None:
    flags, rest = SweepFlags.read(shlex.split(line)[1:])
    words = Words.read(rest)
    flags.check(words)
    assert [word for word in words.overrides if "=" not in word] == ["digits"]
    hydra_main.register_schemas()
    with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        config = compose("train", overrides=["hydra/sweeper=besom", *flags.overrides], return_hydra_config=True)
    assert {key: config.hydra.sweeper[key] for key in keys} == keys


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sweep digits --dry-run --quiet", "--dry-run shows what would be done, --quiet shows nothing; leave one out"),
        ("sweep digits --dry-run --cfg job", "--dry-run: nothing is swept with --cfg, --info and the like"),
        ("sweep digits --quiet --info all", "--quiet: nothing is swept with --cfg, --info and the like"),
        ("sweep digits -q hydra.sweeper.quiet=false", "--quiet: hydra.sweeper.quiet=false says it as well"),
        (
            "sweep digits --enqueue-from a --enqueue-from b",
            "--enqueue-from: it takes one study, and a and b were named",
        ),
        ("sweep digits --enqueue-from", "--enqueue-from: name the study whose best is tried first"),
        ("sweep digits --enqueue-from --quiet", "--enqueue-from: name the study whose best is tried first"),
        ("sweep digits --dry-run hydra/sweeper=basic", "--dry-run: hydra/sweeper=basic does not know it"),
        ("sweep --quiet", "sweep: name one of"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_in_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"besom: {said}")
    assert err.count("\n") == 1


# A user's own folder.


@pytest.fixture
def own(tmp_path: Path) -> Path:
    files = {
        "data/few.yaml": "defaults: [/schema@_here_: data]\nsource: {_target_: besom.data.sources.digits}\nlimit: 50\n",
        "data/diabetes.yaml": "defaults: [/schema@_here_: data]\nsource: {_target_: own.diabetes}\n",
        "experiment/quick.yaml": "# @package _global_\ndefaults: [override /data: few]\ntrainer: {max_epochs: 2}\n",
        "sweeps/digits.yaml": "defaults: [train, override data: few, _self_]\nseed: 1\n",
        "sweeps/quick.yaml": "defaults: [train, override experiment: quick, _self_]\nseed: 2\n",
    }
    for name, text in files.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text, encoding="utf-8")
    return tmp_path / "own"


def test_ones_own_config_and_experiment_are_found(besom: Besom, own: Path) -> None:
    config = besom.config(f"train --config-dir {own} experiment=quick")
    assert config["data"]["limit"] == 50  # type: ignore[index]
    assert config["trainer"]["max_epochs"] == 2  # type: ignore[index]
    assert "few" in besom(f"train --config-dir {own} --help")


def test_ones_own_config_comes_before_a_shipped_one_of_that_name(besom: Besom, own: Path) -> None:
    for command in ("train", "sweep digits"):
        config = besom.config(f"{command} data=diabetes --config-dir {own}")
        assert config["data"]["source"]["_target_"] == "own.diabetes"  # type: ignore[index]


def test_ones_own_sweep_comes_before_one_in_this_folder_and_that_before_a_shipped_one(
    besom: Besom, own: Path, tmp_path: Path
) -> None:
    shipped = besom.config("sweep digits")
    assert shipped["seed"] == 0
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/digits.yaml").write_text("defaults: [train, _self_]\nseed: 3\n", encoding="utf-8")
    assert besom.config("sweep digits")["seed"] == 3
    assert besom.config(f"sweep digits --config-dir {own}")["seed"] == 1
    assert besom.config(f"sweep --config-dir {own} quick")["data"]["limit"] == 50  # type: ignore[index]


@pytest.mark.parametrize("name", ["other/here.yaml", "other/here", "./other/here.yaml"])
def test_a_sweep_is_found_by_its_path(besom: Besom, tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/here.yaml").write_text("defaults: [train, _self_]\nseed: 4\n", encoding="utf-8")
    assert besom.config(f"sweep {name}")["seed"] == 4


# Several runs from `besom train`.


def test_multirun_trains_one_run_after_the_other(besom: Besom) -> None:
    out = besom(f"train -m seed=1,2 tracking=none {' '.join(TINY)}")
    assert out.count("run none (tracking=none)") == 2


def test_train_becomes_a_sweep_with_besoms_sweeper(besom: Besom, location: object) -> None:
    ranges = "'optimizer.lr=tag(log,interval(1e-3,1e-1))' hydra.sweeper.n_trials=2 hydra.sweeper.n_jobs=1"
    out = besom(f"train -m hydra/sweeper=besom {ranges} {' '.join(TINY)}")
    assert "2 complete" in out
    assert "study train\nbest run " in out
    figures = [path.name for path in Path("mlruns/artifacts").rglob("*.svg")]
    assert figures == ["learning_curves.svg"] * 2, "of a sweep's trial, no more than follows its course"


# Tab completion, as bash asks for it.


COMPLETIONS = {
    "besom ": ["train", "sweep", "studies", "report", "best", "reproduce", "predict", "register", "ui"],
    "besom best ": ["first", "second"],
    "besom best s": ["second"],
    "besom best first --s": ["--save", "--sweep", "--storage"],
    "besom best first --sweep dig": ["digits"],
    "besom best --directory nowhere s": [],
    "besom report s": ["second"],
    "besom report first --o": ["--output", "--open"],
    "besom studies --j": ["--json"],
    "besom sweep digits --enqueue-from ": ["first", "second"],
    "besom sweep --enqueue-from first dig": ["digits"],
    "besom sweep --dry": ["--dry-run"],
    "besom tr": ["train"],
    "besom train opti": ["optimizer.", "optimizer="],
    "besom train optimizer=": [f"optimizer={name}" for name in ("adagrad", "adam", "adamw", "rmsprop", "sgd")],
    "besom train optimizer.l": ["optimizer.lr="],
    "besom train optimizer=rmsprop optimizer.al": ["optimizer.alpha="],
    "besom train model=mlp": ["model=mlp_classifier", "model=mlp_regressor"],
    "besom train --cfg job model=mlp_c": ["model=mlp_classifier"],
    "besom train --cf": ["--cfg"],
    "besom train --cfg ": ["job", "hydra", "all"],
    "besom train -c j": ["job"],
    "besom sweep ": SWEEPS,
    "besom sweep dig": ["digits"],
    "besom sweep --config-dir=nowhere --quiet dig": ["digits"],
    "besom sweep digits trainer.max": ["trainer.max_epochs=", "trainer.max_time="],
    "besom sweep digits hydra.sweeper.n_": ["hydra.sweeper.n_jobs=", "hydra.sweeper.n_trials="],
    "besom sweep nowhere trainer.": [],
    "besom train model.nothing.": [],
    "besom ui --p": ["--port"],
    "besom reproduce ": ["ab12", "ab34", "cd56"],
    "besom reproduce ab": ["ab12", "ab34"],
    "besom reproduce ab12 --e": ["--exact"],
    "besom predict a": ["ab12", "ab34"],
    "besom register --alias best c": ["cd56"],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two studies and some runs."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "mlruns").mkdir()
    for name in ("first", "second"):
        optuna.create_study(study_name=name, storage=f"sqlite:///{folder / 'mlruns/optuna.db'}")
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as database:  # the part of MLflow's schema that is read
        database.execute("CREATE TABLE runs (run_uuid, lifecycle_stage, start_time)")
        database.execute("CREATE TABLE tags (run_uuid, key, value)")
        rows = [("cd56", "active", 1), ("ab34", "active", 2), ("ab12", "active", 3), ("ab78", "deleted", 4)]
        database.executemany("INSERT INTO runs VALUES (?, ?, ?)", [*rows, ("ab90", "active", 5)])
        database.execute("INSERT INTO tags VALUES ('ab90', 'besom.kind', 'study')")
        database.commit()
    return folder


@pytest.mark.parametrize("line", COMPLETIONS)
def test_a_line_is_completed(besom: Besom, recorded: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recorded)
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert besom("-sc query=bash").split() == COMPLETIONS[line]


def test_bash_completes_by_the_function_that_besom_installs(recorded: Path) -> None:
    lines = ["besom ", "besom train opti", "besom reproduce ab"]
    script = ['eval "$(besom -sc install=bash)"', "complete -p besom >/dev/null || exit 1"]
    for line in lines:
        words = line.split(" ")
        script += [
            f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}",
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}) COMPREPLY=()",
            'hydra_bash_completion && printf "%s " "${COMPREPLY[@]}"; echo',
        ]
    done = run_bash(recorded, "\n".join(script))
    assert done.stderr == ""
    assert list(map(str.split, done.stdout.splitlines())) == [COMPLETIONS[line] for line in lines]


def test_a_module_in_the_current_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "my_spaces.py").write_text("def configure(config, trial):\n    trial.suggest_int('seed', 1, 3)\n")
    command = "besom sweep digits --dry-run hydra.sweeper.custom_search_space=my_spaces.configure"
    done = run_bash(tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert "  seed=" in done.stdout
    assert "[HYDRA]" not in done.stdout


def run_bash(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a bash of its own that has a `besom` on its path."""
    (folder / "bin").mkdir()
    (folder / "bin/besom").write_text(
        f"#!{sys.executable}\nimport sys\nfrom besom.cli import main\nsys.exit(main())\n", encoding="utf-8"
    )
    (folder / "bin/besom").chmod(0o755)
    return subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script],
        cwd=folder, env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_flags_are_told_from_overrides_as_hydra_tells_them() -> None:
    hydras = pytest.importorskip("hydra._internal.utils").get_args_parser()  # private, and may move
    theirs, ours = (
        {action.dest: (action.option_strings, action.nargs, action.const) for action in parser._actions}
        for parser in (hydras, hydra_parser())
    )
    assert ours == theirs
