"""Sweeps of other Hydra apps through their command lines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

import besom
from besom.config.hydra_versions import VERSION_BASE
from besom.tracking.sources import SourceEntry
from besom.tracking.store import Location, connect
from tests import forking
from tests.running import environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "sgd"
ONE_WORKER = ("hydra/sweeper=besom", "hydra.sweeper.n_jobs=1")


def run(script: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return forking.run(
        [sys.executable, script, "--multirun", *arguments],
        cwd=script.parent, env=environment(**changes), capture_output=True, timeout=300,
    )  # fmt: skip


def trials(storage: Path, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}").get_trials()


def app(folder: Path, code: str, config: str = "") -> Path:
    """Write an app: a script `theirs.py` whose task function is `main`, and its config."""
    version = "".join(f"{key}={value!r}, " for key, value in VERSION_BASE.items())
    head = f"import hydra\n\n@hydra.main({version}config_path='.', config_name='config')\n"
    tail = "\n\nif __name__ == '__main__':\n    main()\n"
    before, _, body = textwrap.dedent(code).partition("def main")
    (folder / "theirs.py").write_text(f"{before}{head}def main{body}{tail}", encoding="utf-8")
    (folder / "config.yaml").write_text(textwrap.dedent(config), encoding="utf-8")
    return folder / "theirs.py"


QUADRATIC = """\
    def main(config):
        return (config.x - 2) ** 2 + config.y
    """


@pytest.fixture
def store(location: Location) -> Callable[[Path], None]:
    """Copy an empty MLflow store into a folder, which an app would take seconds to create."""

    def put(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if folder != location.directory:
            shutil.copy(location.database, folder)

    return put


# The example.


def test_example_is_swept_pruned_and_recorded_and_goes_on(tmp_path: Path, store: Callable[[Path], None]) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "sgd")
    store(tmp_path / "sgd" / "mlruns")
    script = tmp_path / "sgd" / "train.py"
    few = ("hydra.sweeper.n_trials=14", "epochs=10", "hydra.sweeper.devices=cpu")
    first = run(script, *few)
    assert first.returncode == 0, first.stderr

    found = trials(tmp_path / "sgd" / "mlruns" / "optuna.db", "sgd")
    assert [trial.number for trial in found] == list(range(14))
    pruned = [trial for trial in found if trial.state is TrialState.PRUNED]
    assert all(trial.state in (TrialState.PRUNED, TrialState.COMPLETE) for trial in found)
    # Not all of them: one that is pruned at its last step has reported each.
    assert any(len(trial.intermediate_values) < 10 for trial in pruned)

    client = connect(Location.of({"uri": None, "directory": tmp_path / "sgd" / "mlruns"}), create=False)
    experiment = client.get_experiment_by_name("sgd")
    runs = {int(one.data.tags["besom.trial"]): one for one in client.search_runs([experiment.experiment_id])
            if "besom.trial" in one.data.tags}  # fmt: skip
    assert sorted(runs) == list(range(14))
    for trial in found:
        recorded = runs[trial.number]
        assert recorded.data.tags["besom.state"] == trial.state.name
        assert recorded.info.status == ("KILLED" if trial in pruned else "FINISHED")
        assert recorded.data.params["lr"] == str(trial.params["lr"])
        assert recorded.data.params["epochs"] == "10"
        assert Path(recorded.data.tags["besom.output"]).name == str(trial.number)
        files = {file.path for file in client.list_artifacts(recorded.info.run_id, ".hydra")}
        assert files == {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"}
    best = max((trial for trial in found if trial.value is not None), key=lambda trial: trial.value or 0)
    steps = [point.step for point in client.get_metric_history(runs[best.number].info.run_id, "value")]
    assert sorted(set(steps)) == list(range(1, 11))
    assert runs[best.number].data.metrics["best/value"] == best.value

    again = run(script, *few)
    assert again.returncode == 0, again.stderr
    assert len(trials(tmp_path / "sgd" / "mlruns" / "optuna.db", "sgd")) == 14


def test_example_is_an_app_by_itself(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "sgd")
    script = tmp_path / "sgd" / "train.py"
    done = forking.run([sys.executable, script, "epochs=2"], cwd=script.parent, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("accuracy 0.")
    assert not (tmp_path / "sgd" / "mlruns").exists()


# Configs made for hydra-optuna-sweeper.


def test_config_of_hydra_optuna_sweeper_works_but_for_its_name(tmp_path: Path) -> None:
    config = """\
    defaults:
      - _self_
      - override hydra/sweeper: besom
      - override hydra/sweeper/sampler: tpe

    hydra:
      sweeper:
        _target_: hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper
        sampler:
          seed: 123
        direction: minimize
        study_name: sphere
        storage: sqlite:///theirs.db
        n_trials: 5
        n_jobs: 1
        max_failure_rate: 0.0
        params:
          x: range(-5, 5, step=0.5)
          y: choice(0, 5, 10)

    x: 1
    y: 1
    """
    done = run(app(tmp_path, QUADRATIC, config), "y=0,1")
    assert done.returncode == 0, done.stderr
    found = trials(tmp_path / "theirs.db", "sphere")
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 5
    for trial in found:
        assert trial.value == (trial.params["x"] - 2) ** 2 + trial.params["y"]
        assert trial.params["y"] in (0, 1)
        assert trial.params["x"] < 5
    best = min(found, key=lambda trial: trial.value or 0)
    (results,) = (tmp_path / "multirun").rglob("optimization_results.yaml")
    assert OmegaConf.load(results) == {"name": "optuna", "best_params": best.params, "best_value": best.value}


def test_comma_list_without_a_sampler_is_a_choice_that_tpe_makes_in_a_study_named_after_the_job(tmp_path: Path) -> None:
    code = """\
    def main(config):
        return float("inf" if config.x else 0)
    """
    done = run(app(tmp_path, code, "x: 1\n"), *ONE_WORKER, "x=0,1", "hydra.sweeper.n_trials=12")
    assert done.returncode == 0, done.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 12  # more than the number of points
    assert {trial.params["x"]: trial.value for trial in found} == {0: 0.0, 1: float("inf")}
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


# Kinds of apps.


def test_script_may_instantiate_what_it_defines_itself_and_return_a_value_for_each_direction(tmp_path: Path) -> None:
    code = """\
    from dataclasses import dataclass
    from hydra.core.config_store import ConfigStore
    from hydra.utils import instantiate

    class Model:
        def __init__(self, width):
            self.width = width

    def main(config):
        width = instantiate(config.model).width
        return width, -width
    """
    config = "model:\n  _target_: __main__.Model\n  width: 1\n"
    done = run(
        app(tmp_path, code, config), *ONE_WORKER, "model.width=range(1,4)", "hydra.sweeper.n_trials=2",
        "hydra.sweeper.direction=[minimize,maximize]", "hydra.sweeper.study_name=two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "two")
    assert [trial.values for trial in found] == [
        [trial.params["model.width"], -trial.params["model.width"]] for trial in found
    ]
    (results,) = (tmp_path / "multirun").rglob("optimization_results.yaml")
    best = min(found, key=lambda trial: trial.values)
    assert OmegaConf.load(results) == {"name": "optuna", "solutions": [{"params": best.params, "values": best.values}]}


def test_globals_that_cannot_be_pickled_are_there_in_each_job(tmp_path: Path) -> None:
    code = """\
    import contextvars, functools, logging, sqlite3, threading
    from concurrent.futures import ThreadPoolExecutor
    from hydra.utils import instantiate

    lock, one = threading.Lock(), contextvars.ContextVar("one", default=1)
    executor, connection = ThreadPoolExecutor(1), sqlite3.connect(":memory:")

    @functools.lru_cache
    def twice(x):
        return 2 * x

    class Model:
        def __init__(self, width):
            self.width = width

        @functools.cached_property
        def size(self):
            with lock:
                return twice(self.width)

    def main(config):
        connection.execute("select 1")
        return executor.submit(lambda: instantiate(config.model).size + one.get()).result()
    """
    script = app(tmp_path, code, "model: {_target_: __main__.Model, width: 1}\n")
    script.write_text(script.read_text().replace("\nif __name__ == '__main__':\n    main()", "\nmain()"))  # no guard
    done = run(script, *ONE_WORKER, "model.width=1,2")
    assert done.returncode == 0, done.stdout + done.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert sorted(trial.value or 0 for trial in found) == [3.0, 5.0]


def test_method_wrapped_by_a_library_runs_under_python_m_in_a_study_named_after_its_package(tmp_path: Path) -> None:
    (tmp_path / "their_app").mkdir()
    code = """\
    import hydra
    from their_library.wrapper import Wrapped
    from .parts import SCALE, lock

    class App:
        def run(self, config):
            with lock:
                return SCALE * config.x

    app = App()
    if __name__ == "__main__":
        hydra.main(version_base="1.3", config_path=None)(Wrapped(app.run))()
    """
    (tmp_path / "their_app" / "__main__.py").write_text(textwrap.dedent(code))
    (tmp_path / "their_app" / "parts.py").write_text("import threading\nSCALE, lock = 10, threading.Lock()\n")
    wrapper = """\
    class Wrapped:
        def __init__(self, function):
            self.function = function

        def __call__(self, config):
            return self.function(config)
    """
    (tmp_path / "their_library").mkdir()
    (tmp_path / "their_library" / "__init__.py").write_text("")
    (tmp_path / "their_library" / "wrapper.py").write_text(textwrap.dedent(wrapper))
    done = forking.run(
        [sys.executable, "-m", "their_app", "--multirun", *ONE_WORKER, "+x=1,2"],
        cwd=tmp_path, env=environment(), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "their_app")
    assert sorted(trial.value or 0 for trial in found) == [10.0, 20.0]


def test_folders_environment_and_callbacks_of_the_apps_config_are_those_of_its_jobs(tmp_path: Path) -> None:
    callback = """\
    import threading
    from hydra.experimental.callback import Callback

    class Note(Callback):
        def __init__(self, file):
            self.file = file
            self.lock = threading.Lock()  # which cannot be pickled

        def note(self, text):
            with open(self.file, "a") as file:
                file.write(text + "\\n")

        def on_multirun_start(self, config, **kwargs):
            self.note("sweep")

        def on_job_start(self, config, *, task_function, **kwargs):
            self.note(f"start {config.x} {task_function.__name__}")

        def on_job_end(self, config, job_return, **kwargs):
            self.note(f"end {config.x} {job_return.return_value:g}")

        def on_multirun_end(self, config, **kwargs):
            self.note("over")
    """
    code = """\
    import os
    from pathlib import Path
    from hydra.core.hydra_config import HydraConfig

    def main(config):
        here = Path.cwd()
        assert here == Path(HydraConfig.get().runtime.output_dir), here
        assert here.name == HydraConfig.get().job.override_dirname == f"x={config.x}"
        return float(os.environ["THEIR_NUMBER"])
    """
    config = """\
    x: 1
    hydra:
      job: {chdir: true, env_set: {THEIR_NUMBER: "1${hydra:job.num}"}}
      sweep: {dir: out, subdir: "${hydra.job.override_dirname}"}
      callbacks: {note: {_target_: their_callbacks.Note, file: "${hydra.runtime.cwd}/notes.txt"}}
    """
    (tmp_path / "their_callbacks.py").write_text(textwrap.dedent(callback), encoding="utf-8")
    done = run(app(tmp_path, code, config), *ONE_WORKER, "x=5,6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [trial.value for trial in trials(tmp_path / "mlruns" / "optuna.db", "theirs")] == [10.0, 11.0]
    notes = (tmp_path / "notes.txt").read_text(encoding="utf-8").splitlines()
    assert notes == ["sweep", "start 5 main", "end 5 10", "start 6 main", "end 6 11", "over"]
    assert (tmp_path / "out" / "optimization_results.yaml").exists()


def test_app_may_prune_itself_with_optunas_exception(tmp_path: Path) -> None:
    code = """\
    import optuna

    def main(config):
        if config.x:
            raise optuna.TrialPruned
        return 1.0
    """
    done = run(
        app(tmp_path, code, "x: 0\n"), *ONE_WORKER, "hydra/sweeper/sampler=grid", "x=0,1",
        "hydra.sweeper.devices=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert [trial.state for trial in found] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_job_starts_the_app_again_with_its_own_overrides_as_lightnings_ddp_does(tmp_path: Path) -> None:
    script = app(
        tmp_path,
        """\
        import os
        import subprocess
        import sys

        def main(config):
            if "LOCAL_RANK" in os.environ:
                sys.exit(config.x)
            assert sys.modules["__main__"].__spec__ is None
            command = [sys.executable, *sys.argv, "hydra.output_subdir=null"]
            return subprocess.run(command, env={**os.environ, "LOCAL_RANK": "1"}).returncode
        """,
        "x: 0\n",
    )
    done = run(script, *ONE_WORKER, "x=range(3,5)", "hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=grid")
    assert done.returncode == 0, done.stderr
    assert [trial.values for trial in trials(tmp_path / "mlruns" / "optuna.db", "theirs")] == [[3.0], [4.0]]


def test_user_is_told_of_a_job_that_reports_nothing_goes_on_when_pruned_or_fails(tmp_path: Path) -> None:
    script = app(
        tmp_path,
        """\
        import time

        import besom

        def main(config):
            print(f"this is {config.x}")
            if config.x == 1:
                try:
                    for step in range(10_000):
                        besom.report(step, step=step)
                        time.sleep(0.01)
                except Exception:
                    pass
            if config.x == 2:
                raise RuntimeError("no luck")
            return config.x
        """,
        "x: 0\n",
    )
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=-1", "hydra/sweeper/sampler=grid")
    done = run(script, *ONE_WORKER, *pruner, "x=range(3)", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=out")
    assert "warning: hydra.sweeper.pruner: trial 0 did not report value while it ran, and could not" in done.stdout
    assert "warning: trial 1 was told to stop and ran to its end, so that its value is kept; do not" in done.stdout
    silent, stubborn, failed = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert (silent.values, stubborn.values, failed.state) == ([0.0], [1.0], TrialState.FAIL)
    told = done.stdout[done.stdout.index("FAILED: RuntimeError: no luck") :]
    assert 'raise RuntimeError("no luck")\n' in told
    log = tmp_path / "mlruns" / "logs" / "theirs" / "worker-0.log"
    assert f"    log: {log}; folder: {tmp_path / 'out' / '2'}\n" in told.replace(
        "log: mlruns", f"log: {tmp_path}/mlruns"
    )
    begins, says = "---- besom: trial {0} begins: x={0}", "this is {0}"
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "begins" in line or "this is" in line]
    assert lines == [line.format(number) for number in range(3) for line in (begins, says)]


def test_ctrl_c_before_the_first_trial_prints_no_traceback(tmp_path: Path) -> None:
    script = app(
        tmp_path,
        """\
        import os
        import signal

        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("stop", lambda: os.kill(os.getpid(), signal.SIGINT))

        def main(config):
            return config.x
        """,
        "x: 0\n",
    )
    done = run(script, *ONE_WORKER, "x=range(3)", "hydra.sweep.dir=${stop:}")
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_one_job_is_recorded_too(tmp_path: Path, store: Callable[[Path], None]) -> None:
    store(tmp_path / "mlruns")
    code = """\
    import besom

    def main(config):
        besom.report({"loss": 0.5}, step=3)
        return "whatever it likes"
    """
    done = run(app(tmp_path, code, "x: 1\n"), *ONE_WORKER, "x=7", "hydra.sweeper.tracking=true")
    assert done.returncode == 0, done.stderr
    client = connect(Location.of({"uri": None, "directory": tmp_path / "mlruns"}), create=False)
    (recorded,) = client.search_runs([client.get_experiment_by_name("theirs").experiment_id])
    assert recorded.info.status == "FINISHED"
    assert recorded.data.params == {"x": "7"}
    assert [point.step for point in client.get_metric_history(recorded.info.run_id, "loss")] == [3]
    assert not (tmp_path / "mlruns" / "optuna.db").exists()


def test_stopped_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    code = """\
    import time
    import besom

    def main(config):
        for step in range(1000):
            besom.report(config.x, step=step)
            time.sleep(0.01)
            if step == 50 and (config.short or config.x < 2):
                return config.x
        return config.x
    """
    script = app(tmp_path, code, "x: 1\nshort: false\n")
    sweep = [*ONE_WORKER, "hydra/sweeper/sampler=grid", "hydra.sweeper.study_name=theirs", "x=0,1,2,3"]
    with forking.Forked[str](
        [sys.executable, script, "--multirun", *sweep], cwd=tmp_path, env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("trial    1"):
                process.send_signal(signal.SIGINT)  # while the third, which is long, runs
                break
        process.communicate(timeout=60)
    assert process.returncode == 130
    again = run(script, *sweep, "short=true")
    assert again.returncode == 0, again.stderr
    found = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert [(trial.number, trial.state, trial.value) for trial in found] == [
        (number, TrialState.COMPLETE, float(number)) for number in range(4)
    ]


# Errors.


FAILING = """\
    def main(config):
        if config.x >= 0:
            raise RuntimeError("no luck")
        return 0.0
    """


def test_sweep_that_fails_ends_in_one_line_and_exit_code_2_and_has_its_tracebacks_in_the_log(tmp_path: Path) -> None:
    done = run(app(tmp_path, FAILING, "x: 1\n"), *ONE_WORKER, "x=interval(0,1)", "hydra.sweeper.n_trials=2")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "RuntimeError: no luck" in line
    _, *jobs = (tmp_path / "mlruns" / "logs" / "theirs" / "worker-0.log").read_text().split("---- besom: trial ")
    for number, job in enumerate(jobs):
        assert job.startswith(f"{number} begins: ")
        assert f"besom: trial {number} failed\nTraceback" in job
    assert len(jobs) == 2


def test_full_error_shows_everything(tmp_path: Path) -> None:
    script = app(tmp_path, FAILING, "x: 1\n")
    done = run(script, *ONE_WORKER, "x=interval(0,1)", "hydra.sweeper.n_trials=1", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "SweepFailed: " in done.stderr


def test_one_job_that_fails_shows_its_traceback(tmp_path: Path) -> None:
    done = run(app(tmp_path, FAILING, "x: 1\n"), *ONE_WORKER)
    assert done.returncode == 2
    assert "in main" in done.stderr
    assert done.stderr.splitlines()[-1] == "RuntimeError: no luck"


def test_override_that_fits_no_key_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = run(app(tmp_path, QUADRATIC, "x: 1\ny: 1\n"), *ONE_WORKER, "z=interval(0,1)")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "there is no key z" in line


def with_entry_points(folder: Path) -> str:
    """Return a PYTHONPATH on which MLflow finds this checkout's entry points; those installed may be older."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "points-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: points\nVersion: 1\n", encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    return os.pathsep.join([str(folder), str(Path(besom.__file__).parents[1])])


def test_runs_go_where_tracking_says(tmp_path: Path, store: Callable[[Path], None]) -> None:
    store(tmp_path / "elsewhere")
    code = """\
    import subprocess
    import sys

    def main(config):
        if config.x == 0:
            own = "import mlflow; mlflow.start_run(tags={'whose': 'theirs'}); mlflow.end_run()"
            subprocess.run([sys.executable, "-c", own], check=True)
        return 1.0
    """
    done = run(
        app(tmp_path, code, "x: 1\nmodel: resnet\nsecret: ${oc.env:THEIR_SECRET}\n"), *ONE_WORKER, "x=0,1",
        "hydra.sweeper.n_trials=2", "hydra.sweeper.tracking={directory: elsewhere, experiment: mine}",
        THEIR_SECRET="hush", PYTHONPATH=with_entry_points(tmp_path / "points"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = connect(Location.of({"uri": None, "directory": tmp_path / "elsewhere"}), create=False)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    told = [one.data.params for one in runs if "besom.trial" in one.data.tags]
    assert {one["model"] for one in told} == {"resnet"}
    assert {one["secret"] for one in told} == {"${oc.env:THEIR_SECRET}"}
    assert len(trials(tmp_path / "elsewhere" / "optuna.db", "theirs")) == 2
    (own,) = [one for one in runs if one.data.tags.get("whose") == "theirs"]
    (trial,) = [one for one in runs if "besom.trial" in one.data.tags and one.data.params["x"] == "0"]
    assert own.data.tags["mlflow.parentRunId"] == trial.info.run_id


def test_no_secret_is_in_anything_that_is_recorded(tmp_path: Path, store: Callable[[Path], None]) -> None:
    store(tmp_path / "mlruns")
    code = """\
    import os

    def main(config):
        told = [os.environ["THEIR_TOKEN"], config.other, config.db, config.url, config.service.api_key, config.password]
        print("printed", *told)
        if config.x:
            raise ValueError(f"refused: {told}")
        return 1.0
    """
    config = """\
    x: 0
    db: postgresql://me:zQ7pa/ss@in9Kz@db/x
    url: https://host/x?password=zQ7query9Kz&n=1
    other: ${oc.env:OTHER_THING}
    service: {api_key: zQ7config9Kz, token_length: 3}
    password: none
    hydra:
      job: {env_set: {OTHER_KEY: zQ7set9Kz}}
      sweep: {subdir: "${hydra.job.num}-${hydra.job.override_dirname}"}
    """
    done = run(
        app(tmp_path, code, config), *ONE_WORKER, "x=0,1", "hydra.sweeper.n_trials=2", "password=zQ7line9Kz",
        "hydra.sweeper.tracking=true", THEIR_TOKEN="zQ7token9Kz", OTHER_THING="zQ7other9Kz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "refused: " in done.stdout
    assert "zQ7" not in done.stdout + done.stderr
    files = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    assert {"mlflow.db", "optuna.db", "sweep.log", "worker-0.log", "report.html", "traceback.txt", "config.yaml",
            "hydra.yaml", "overrides.yaml"} <= {path.name for path in files}  # fmt: skip
    assert [path for path in files if b"zQ7" in path.read_bytes() or b"9Kz" in path.read_bytes()] == []
    (kept, *_) = [path for path in files if path.match("artifacts/config.yaml")]
    assert "api_key: ${oc.env:BESOM_SECRET_SERVICE_API_KEY}\n  token_length: 3\n" in kept.read_text()


def test_other_code_gets_an_exception_of_hydras(
    hydra_restore_singletons: None, hydra_sweep_runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(config: DictConfig) -> Any:
        return "high"

    monkeypatch.chdir(tmp_path)
    sweep = hydra_sweep_runner(
        calling_file=None, calling_module="hydra.test_utils.a_module", task_function=task,
        config_path="configs", config_name="compose", temp_dir=tmp_path / "sweep",
        overrides=["hydra/sweeper=besom", "+a=0,1", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1"],
    )  # fmt: skip
    with pytest.raises(HydraException, match=r"returned 'high' \(str\); return a number"):
        sweep.__enter__()


def test_job_that_failed_raises_where_its_value_is_read(
    hydra_restore_singletons: None, hydra_sweep_runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(config: DictConfig) -> Any:
        return 1.0 / config.a

    monkeypatch.chdir(tmp_path)
    sweep = hydra_sweep_runner(
        calling_file=None, calling_module="hydra.test_utils.a_module", task_function=task,
        config_path="configs", config_name="compose", temp_dir=tmp_path / "sweep",
        overrides=["hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "+a=0,2", "hydra.sweeper.n_jobs=1"],
    )  # fmt: skip
    with sweep:
        (failed,), (complete,) = sweep.returns
        assert complete.return_value == 0.5
        assert failed.overrides == ["+a=0"]
        with pytest.raises(Exception, match="ZeroDivisionError"):
            _ = failed.return_value
        saved = OmegaConf.load(tmp_path / "sweep" / "multirun.yaml")
        assert saved.hydra.overrides.task == ["+a=0,2"]


# Another launcher.


@pytest.mark.parametrize(("launcher", "says"), [("joblib", "Joblib.Parallel"), ("submitit_local", "Submitit 'local'")])
def test_jobs_go_through_the_launcher_that_the_app_chose_and_their_runs_name_the_code_that_they_imported(
    tmp_path: Path, store: Callable[[Path], None], launcher: str, says: str
) -> None:
    config = """\
        defaults: [_self_, {override hydra/sweeper: besom}, {override hydra/sweeper/sampler: grid}]
        x: 0
        y: 0
        hydra:
          sweeper: {n_jobs: 2, tracking: true, params: {x: "choice(0, 1)"}}
        """
    store(tmp_path / "mlruns")
    (tmp_path / "net.py").write_text("SIZE = 3\n", encoding="utf-8")
    script = app(tmp_path, QUADRATIC.replace("return", "import net\n        return net.SIZE * 0 +"), config)
    done = run(script, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    found = trials(tmp_path / "mlruns" / "optuna.db", "theirs")
    assert sorted((trial.params["x"], trial.value) for trial in found) == [(0, 4.0), (1, 1.0)]
    client = connect(Location.of({"uri": None, "directory": tmp_path / "mlruns"}), create=False)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    jobs = [one for one in client.search_runs(experiments) if "besom.trial" in one.data.tags]
    assert [one.data.tags["besom.sources"] for one in jobs] == ["recorded"] * 2
    assert not list(tmp_path.rglob(".besom-sources.json"))
    (listed,) = (tmp_path / "mlruns").rglob("sources.txt")  # kept once, with the study
    entries = SourceEntry.read({listed.name: listed.read_bytes()})
    assert {"net.py", script.name} <= {entry.name for entry in entries}
