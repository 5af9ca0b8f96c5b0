"""Waiting for an unreachable tracking server."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from besom.errors import StoreError
from besom.tracking.recorder.patience import Patience
from besom.tracking.store import Location
from tests.running import Gate


@pytest.fixture
def gate() -> Gate:
    return Gate(9)


def location(gate: Gate, folder: Path) -> Location:
    return Location(uri=f"http://127.0.0.1:{gate.port}", directory=folder)


def test_a_server_that_comes_back_was_waited_for_and_who_waits_hears_of_it(gate: Gate, tmp_path: Path):
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        if len(heard) == 1:
            gate.open()

    Patience(location(gate, tmp_path), hear).wait_until_reachable()
    gate.close()
    uri = f"http://127.0.0.1:{gate.port}"
    assert heard == [
        f"{uri} does not answer; what is to be recorded waits for it, for up to 10 minutes, and training goes on",
        f"{uri} answers again",
    ]


def test_that_a_server_is_away_is_said_once_whoever_finds_out(gate: Gate, tmp_path: Path):
    heard: list[str] = []
    patience = Patience(location(gate, tmp_path), heard.append)
    patience.check()
    patience.check()
    assert [text.split("; ")[0] for text in heard] == [f"http://127.0.0.1:{gate.port} does not answer"]
    gate.open()
    patience.check()
    patience.wait_until_reachable()
    gate.close()
    assert len(heard) == 2


def test_nobody_waits_for_longer_than_was_said_and_then_never_again(gate: Gate, tmp_path: Path):
    patience = Patience(location(gate, tmp_path), lambda text: None, wait_s=0)
    with pytest.raises(StoreError, match="no tracking server answers there") as first:
        patience.wait_until_reachable()
    assert patience.is_over
    gate.open()
    with pytest.raises(StoreError) as second:
        patience.wait_until_reachable()
    gate.close()
    assert second.value is first.value


def test_who_waits_can_be_told_to_wait_no_more(gate: Gate, tmp_path: Path):
    waiting = threading.Event()
    patience = Patience(location(gate, tmp_path), lambda text: waiting.set())
    raised: list[StoreError] = []

    def wait() -> None:
        with pytest.raises(StoreError) as error:
            patience.wait_until_reachable()
        raised.append(error.value)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(20)
    patience.end()
    thread.join(20)
    assert [error.trouble for error in raised] == ["unreachable"]


def test_a_server_that_hangs_is_there_and_answers_nothing(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        there = Location(uri=f"http://127.0.0.1:{hanging.getsockname()[1]}", directory=tmp_path)
        patience = Patience(there, lambda text: None)
        assert patience.is_reachable()
        assert not patience.is_answering(within_s=0.1)
