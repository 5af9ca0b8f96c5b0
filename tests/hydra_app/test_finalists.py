"""Finalists of another Hydra app: its best jobs again, with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf

from besom.errors import ConfigError
from besom.hydra_app.finalists import HydraFinalistJobs, RecordedOverrides
from besom.reports.read.finalists import finalist_runs
from besom.reports.read.summary import Row
from besom.sweep.compose import Composer
from besom.sweep.finalists.choose import Entry, Missing
from besom.sweep.spec_parts import FinalistsSpec
from besom.tracking.store import Location, connect
from tests.fakes import cpu_slots
from tests.hydra_app.conftest import App
from tests.hydra_app.test_any_app import app, run

SEEDED = """\
defaults: [_self_, override hydra/sweeper: besom]
x: 0
train: {seed: 3, shape: [1]}
hydra:
  sweeper:
    study_name: noisy
    n_trials: 4
    n_jobs: 1
    tracking: true
    seed_key: train.seed
    finalists: {top: 2, seeds: 2}
    params: {x: "range(0, 4)", train.shape: "choice([4], [8, 4])"}
"""
NOISY = """\
    def main(config):
        return (config.x - 1) ** 2 + len(config.train.shape) + config.train.seed / 1e9
    """


def test_finalists_run_from_their_overrides_with_fresh_seeds_and_more_are_added(
    tmp_path: Path, put_store: Callable[[Path], object]
) -> None:
    put_store(tmp_path / "mlruns")
    script = app(tmp_path, NOISY, SEEDED)
    first = run(script, "hydra.sweep.dir=jobs")
    assert first.returncode == 0, first.stderr
    assert "finalists: the best 2 again, 2 fresh seeds each\n" in first.stdout
    assert "model" not in first.stdout
    assert "test/" not in first.stdout
    assert "the next best" in first.stdout

    again = run(script, "hydra.sweep.dir=jobs", "hydra.sweeper.finalists.seeds=3")
    assert again.returncode == 0, again.stderr
    study = optuna.load_study(study_name="noisy", storage=f"sqlite:///{tmp_path}/mlruns/optuna.db")
    runs = finalist_runs(study.user_attrs)
    assert len(runs) == 6
    assert len({run.seed for run in runs}) == 3
    for found in runs:
        trial = study.trials[found.trial]
        assert trial.value is not None
        assert found.metrics["best/value"] == pytest.approx(trial.value + (found.seed - 3) / 1e9, abs=1e-12)
    assert {path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()} == {str(job) for job in range(10)}

    client = connect(Location.of({"uri": None, "directory": tmp_path / "mlruns"}), create=False)
    recorded = client.get_run(runs[0].run_id).data
    assert recorded.tags["besom.kind"] == "finalist"
    assert recorded.params["train.seed"] == str(runs[0].seed)
    assert f"train.seed={runs[0].seed}" in recorded.tags["besom.overrides"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hydra.sweeper.seed_key=null", "finalists: they run with fresh seeds, .* as in hydra.sweeper.seed_key=seed"),
        ("hydra.sweeper.seed_key=train.sed", r"seed_key: the app's config has no key train.sed; did you mean"),
        ("+hydra.sweeper.finalists.overrides={train.seed: 1}", "overrides: train.seed is what the sweep decides"),
        ("+hydra.sweeper.finalists.overrides={y: 1}", "overrides: there is no key y"),
        ("hydra.sweeper.finalists.register=digits", "register: a job of another app has no model"),
    ],
)
def test_what_finalists_of_an_app_need_is_named_before_any_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hydra_app: Callable[..., App], line: str, told: str
) -> None:
    from besom.hydra_app.app import swept_app

    made = hydra_app(SEEDED, line)
    with pytest.raises(ConfigError, match=told):
        swept_app(made.config, [], made.context, lambda config: 0.0).check()


def row(trial: int, *, config: int = 1) -> Row:
    return Row(trial=trial, values=(0.0,), family="?", params={}, duration_s=0.0, run_id="", config=config)


class Recorded:
    """A study of one trial that was started with lr=0.5 on the command line."""

    def __init__(self, overrides: list[str], config: dict[str, str]) -> None:
        self.study = optuna.create_study()
        self.study.set_user_attr("besom.config", config)
        self.study.add_trial(optuna.create_trial(value=0.0, user_attrs={"besom.overrides": overrides}))


def written(config: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return dict(plain)


def test_a_trial_of_another_command_line_runs_from_its_own_overrides(hydra_app: Callable[..., App]) -> None:
    made = hydra_app()
    composer = Composer(made.context.config_loader, made.config, ["lr=0.7"])

    def configs(*overrides: str, **config: str) -> RecordedOverrides:
        book: Any = Recorded(list(overrides), config)
        return RecordedOverrides(book, composer, written, number=2)

    same = configs("lr=0.5", **{"lr": "0.5", "model.depth": "2"})
    assert (same.concern(row(0)), same.concern(row(0, config=2))) == (True, False)
    assert same.of(row(0)) == ("lr=0.5",)
    with pytest.raises(ConfigError, match=r"the app's configs have changed \(model.depth was 3, is 2\)"):
        configs("lr=0.5", **{"lr": "0.5", "model.depth": "3"}).of(row(0))
    with pytest.raises(ConfigError, match="secrets are not recorded; set BESOM_SECRET_KEY"):
        configs("lr=${oc.env:BESOM_SECRET_KEY}").of(row(0))

    entries = tuple(Entry(number=3 + trial, trial=trial, params={"lr": 0.1}, seed=9) for trial in (0, 1))
    finalists = FinalistsSpec(overrides={"model.depth": 5}, seed_key="seed", tested=False)
    runs = Missing(entries=entries, others={0: ("lr=0.5",)}, left_out=())
    jobs = HydraFinalistJobs(composer, runs, finalists, study_name="theirs", tags={"besom.config": "2"})
    prepared = [jobs.prepare(entry, cpu_slots(1)[0], made.folder) for entry in entries]
    assert [assignment.overrides for assignment, _ in prepared] == [
        ("lr=0.5", "model.depth=5", "seed=9"),
        ("lr=0.7", "lr=0.1", "model.depth=5", "seed=9"),
    ]
    assert prepared[0][1].name == "theirs-0-seed-9"
    assert replace(entries[0], number=1).name == "trial 0 with seed 9"
