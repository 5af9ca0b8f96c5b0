from __future__ import annotations

from pathlib import Path

import pytest

from besom.errors import RunNotFound
from besom.system.interrupts import Stop
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status


def test_nothing_is_kept_and_the_trials_folder_is_removed(tmp_path: Path):
    directory = tmp_path / "0"
    directory.mkdir()
    (directory / "model.json").touch()
    with Recorder(None, "digits") as recorder:
        assert recorder.open_study("digits", token="digits", tags={}, note="") == ""
        recorder.start(0, RunCard(name="run", config={}, tags={}, directory=directory), {})
        recorder.report(0, 0, {"val/loss": 1.0}, 1000.0)
        recorder.finish(0, Status.FAILED, last=False)
        assert not directory.exists()
        assert recorder.ended() == []
        directory.mkdir()
        recorder.start(0, RunCard(name="run", config={}, tags={}, directory=directory, attempt=1), {})
        recorder.finish(0, Status.FINISHED)
        assert recorder.ended() == [0]
        assert recorder.ended() == []
        assert recorder.ends([0]) == {}
        assert recorder.run_id(0) == ""
        assert recorder.run_ids() == {}
        assert recorder.finalists() == []
        assert recorder.record_kept() == []
        assert not recorder.wait(Stop(), pytest.fail).trials
        with pytest.raises(RunNotFound, match="nothing is recorded"):
            recorder.config("")
        recorder.view("key", {})
        recorder.close_study(Status.FINISHED, {}, {})
    assert list(tmp_path.iterdir()) == []
