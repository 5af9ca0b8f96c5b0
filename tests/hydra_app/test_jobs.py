"""The JobReturns of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus

from besom.errors import TrialFailed, TrialPruned
from besom.hydra_app.job import pack_job
from besom.hydra_app.jobs import HydraJobs
from besom.sweep.compose import Composer
from besom.sweep.study.book import Asked
from besom.workers.messages import Failure, TrialResult
from tests.fakes import cpu_slots
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]


def jobs_of(app: App, *extra: str) -> HydraJobs:
    composer = Composer(app.context.config_loader, app.config, ["model.depth=3"])
    return HydraJobs(composer, study_name="theirs", tags={"besom.study": "theirs"}, extra=extra)


def asked(number: int, **params: float) -> Asked:
    return Asked(number=number, params=params)


def complete(jobs: HydraJobs, trial: int, value: float) -> None:
    job = JobReturn(overrides=[f"lr={value}"], status=JobStatus.COMPLETED, _return_value=value)
    jobs.ended(trial, TrialResult(values=(value,), job=pack_job(job)))


def test_worker_gets_the_overrides_and_the_run_their_text(hydra_app: MakeApp, tmp_path: Path) -> None:
    jobs = jobs_of(hydra_app(), "test=false")
    assignment, card = jobs.prepare(asked(2, lr=0.5), cpu_slots(1)[0], tmp_path)
    assert assignment.trial == 2
    assert assignment.overrides == ("model.depth=3", "lr=0.5", "test=false")
    assert card.name == "theirs-2"
    assert card.params == {"lr": 0.5}
    assert card.tags == {
        "besom.study": "theirs",
        "besom.trial": "2",
        "besom.overrides": "model.depth=3 lr=0.5 test=false",
        "besom.device": "cpu (a CPU)",
    }


def test_jobs_come_back_in_the_order_of_their_trials_as_many_as_ran_at_a_time(
    hydra_app: MakeApp, tmp_path: Path
) -> None:
    jobs = jobs_of(hydra_app())
    slots = cpu_slots(2)
    for trial in (1, 0, 2):
        jobs.prepare(asked(trial, lr=trial), slots[trial % 2], tmp_path)
        complete(jobs, trial, float(trial))
    batches = jobs.returns()
    assert [[job.return_value for job in batch] for batch in batches] == [[0.0, 1.0], [2.0]]
    assert batches[0][1].overrides == ["lr=1.0"]
    assert [job.return_value for job in batches[0][1:]] == [1.0]


def test_job_that_did_not_return_says_why_on_access(hydra_app: MakeApp, tmp_path: Path) -> None:
    jobs = jobs_of(hydra_app())
    for trial in range(3):
        jobs.prepare(asked(trial, lr=trial), cpu_slots(1)[0], tmp_path)
    jobs.ended(0, TrialResult().failed(Failure(reason="no luck")))
    jobs.ended(1, TrialResult().pruned())
    failed, pruned, unknown = (batch[0] for batch in jobs.returns())
    with pytest.raises(TrialFailed, match="no luck"):
        _ = failed.return_value
    with pytest.raises(TrialPruned):
        _ = pruned.return_value
    with pytest.raises(TrialFailed, match="trial 2 did not end"):
        _ = unknown.return_value
    assert failed.overrides == ["model.depth=3", "lr=0"]
