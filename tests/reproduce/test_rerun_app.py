"""Jobs of other Hydra apps, run again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from besom.config.targets.trust import Trust
from besom.errors import ConfigError
from besom.reproduce.rerun_app import _check_overrides
from besom.tracking.app_command import AppCommand
from besom.tracking.runs import RecordedRun
from besom.tracking.store import Location, connect
from tests import forking
from tests.hydra_app.test_any_app import app, run
from tests.running import environment

CONFIG = """\
defaults: [_self_, override hydra/sweeper: besom]
x: 0
text: none
hydra:
  mode: MULTIRUN
  sweeper: {n_trials: 1, n_jobs: 1, tracking: true, params: {x: "interval(0, 1)"}}
"""
REPORTS = """\
    import besom

    def main(config):
        for step in range(3):
            besom.report(config.x * step, step=step)
        return config.x + len(config.text)
    """


def test_a_job_runs_again_with_its_overrides_if_its_app_is_trusted(
    tmp_path: Path, put_store: Callable[[Path], object]
) -> None:
    put_store(tmp_path / "mlruns")
    script = app(tmp_path, REPORTS, CONFIG)
    swept = run(script, "text='a b'")
    assert swept.returncode == 0, swept.stderr
    run_id = swept.stdout.split()[-1]
    again = f"besom reproduce {run_id} --trust theirs"
    assert again in swept.stdout

    def reproduce(*flags: str) -> Any:
        command = [sys.executable, "-m", "besom.cli", "reproduce", run_id, *flags]
        return forking.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=120)

    refused = reproduce()
    assert refused.returncode == 2
    assert f"{script} would run with what was recorded; if you trust theirs.py: --trust theirs.py" in refused.stderr
    same = reproduce("--trust", "theirs")
    assert same.returncode == 0, same.stdout + same.stderr
    # What it reported at three steps, and what it returned.
    assert "REPRODUCED: 2 metrics at 3 steps, bit-exact" in same.stdout
    assert "job  value 3." in same.stdout
    client = connect(Location.of({"uri": None, "directory": tmp_path / "mlruns"}), create=False)
    made = client.get_run(same.stdout.split()[-1])
    assert made.data.tags["besom.reproduces"] == run_id
    assert client.get_run(run_id).data.tags["besom.reproduced"] == "REPRODUCED"

    (tmp_path / "config.yaml").write_text(f"{CONFIG}new: 1\n", encoding="utf-8")
    script.write_text(script.read_text().replace("config.x * step", "config.x * step + 1"), encoding="utf-8")
    other = reproduce("--trust", "theirs.py")
    assert other.returncode == 1, other.stdout + other.stderr
    assert "changed: config: new was not there, is 1\n" in other.stdout
    assert "DIFFERS: 1 metric(s)" in other.stdout
    assert "runs from this folder" in reproduce("--exact").stderr


def recorded() -> RecordedRun:
    return RecordedRun(run_id="r", name="r", status="FINISHED", config={}, tags={}, digest=None, history={})


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+model._target_=os.system", "model._target_: os.system is none of what"),
        ("+model={_target_: theirs.Net}", "if you trust"),
        ("x=\\'${oc.env:HOME}\\'", "reads the environment variable HOME"),
        ("x=\\'${eval:1}\\'", "holds an interpolation of another kind"),
        ("hydra.job.env_set.LD_PRELOAD=x", "is of Hydra itself"),
        ("+hydra/callbacks=x", "is of Hydra itself"),
        ("x=1,2", "is of several jobs"),
    ],
)
def test_recorded_overrides_choose_no_code_that_is_not_trusted(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _check_overrides(recorded(), [override.replace("\\", "")], Trust(names=("net",)))
    _check_overrides(
        recorded(), ["x=1", "+model={_target_: net.Net}", "~y", "z=${x}", "model=big"], Trust(names=("net",))
    )


def test_only_what_starts_an_app_is_read_as_its_command() -> None:
    for words in (["train.py"], ["-m", "pkg.train", "--config-name=big"], ["a b/train-it.py", "--config-dir=conf"]):
        command = AppCommand.read(words)
        assert command is not None
        assert shlex.split(str(command)) == ["python", *words]
    wrong = (
        None,
        "train.py",
        [],
        ["-c", "import os"],
        ["-m"],
        ["-m", "a;b"],
        ["train.py", "x=1"],
        ["train.py", "--run"],
    )
    assert [AppCommand.read(words) for words in wrong] == [None] * len(wrong)
    names = {words: AppCommand((*words.split(),)).trusted_as for words in ("-m pkg.train", "a/train-it.py", "1.py")}
    assert names == {"-m pkg.train": "pkg", "a/train-it.py": "train_it.py", "1.py": "_1.py"}
