"""`besom.report`: reported metrics and stop requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import besom
from besom.hydra_app.report import reporting
from besom.training.progress import Moment


@dataclass
class Listener:
    """A channel that stores reports and requests a stop at a step."""

    stop_at: int | None = None
    heard: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def started(self, about: Mapping[str, Any]) -> None:
        raise AssertionError("only the worker says so")

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        self.heard.append((moment.step, metrics))

    def should_stop(self, *, in_epoch: bool) -> bool:
        assert not in_epoch
        return self.stop_at is not None and self.heard[-1][0] >= self.stop_at


def test_outside_a_sweep_nothing_happens() -> None:
    besom.report(0.5, step=1)
    besom.report(0.5, step=0)


def test_bare_number_is_the_objective_and_a_mapping_names_its_metrics() -> None:
    listener = Listener()
    with reporting(listener, metric="val/acc"):
        besom.report(0.5, step=0)
        besom.report({"loss": 2, "acc": np.float32(0.25)}, step=np.int64(3))
        besom.report({"late": 1.0}, step=3)
    assert listener.heard == [(0, {"val/acc": 0.5}), (3, {"loss": 2.0, "acc": 0.25}), (3, {"late": 1.0})]


def test_sweep_that_says_stop_raises_in_the_job() -> None:
    listener = Listener(stop_at=2)
    with reporting(listener, metric="value"):
        besom.report(0.0, step=0)
        besom.report(0.0, step=1)
        with pytest.raises(besom.TrialPruned):
            besom.report(0.0, step=2)
    assert [step for step, _ in listener.heard] == [0, 1, 2]


def test_listener_is_gone_when_the_job_is_over() -> None:
    listener = Listener()
    with pytest.raises(RuntimeError), reporting(listener, metric="value"):
        raise RuntimeError
    besom.report(1.0, step=1)
    assert listener.heard == []


@pytest.mark.parametrize("step", [1.5, "3", None, True, -1])
def test_step_that_is_no_whole_number_is_refused(step: Any) -> None:
    with reporting(Listener(), metric="value"), pytest.raises(ValueError, match="give a whole number"):
        besom.report(1.0, step=step)


def test_step_that_goes_back_is_refused() -> None:
    with reporting(Listener(), metric="value"):
        besom.report(1.0, step=5)
        with pytest.raises(ValueError, match="step 4 comes after step 5; count upwards"):
            besom.report(1.0, step=4)


@pytest.mark.parametrize("value", [None, "0.5", [1, 2], {"acc": "high"}])
def test_value_that_is_no_number_is_refused(value: Any) -> None:
    with reporting(Listener(), metric="value"), pytest.raises(ValueError, match="give a number"):
        besom.report(value, step=1)


@pytest.mark.parametrize(
    "line",
    [
        "import besom, besom.reports.text.leaderboard; besom.report(1.0, step=1)",
        "import besom.sweep.run; from besom import report; report({'a': 1.0}, step=1)",
        "from besom import TrialPruned, report; report(1.0, step=1)",
    ],
)
def test_report_can_be_called_whatever_was_imported_before(line: str) -> None:
    # The package of reports has the same name.
    subprocess.run([sys.executable, "-c", line], check=True, timeout=120)


def test_face_of_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, besom; besom.report(1.0, step=1); besom.TrialPruned; besom.PruningCallback; "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not set(done.stdout.split()) & {"torch", "pytorch_lightning", "lightning", "optuna", "mlflow", "hydra"}


def test_name_that_besom_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reprot'"):
        _ = besom.reprot
