"""Several processes that train one trial together, a device each: `python -m besom.workers.ddp FD COUNT`.

To the pool this process is a worker like any other. It trains nothing itself: it starts a worker for each device,
tells all of them the same, and passes on what the first of them, rank 0, says. It takes no part in what they do
together, so that a rank which fails or dies cannot make it hang: it ends the others and starts all of them anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait

from besom.system.processes import Led, adopt, how_it_ended, kill_session, start
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Message,
    Ready,
    Reported,
    Started,
    State,
    Stop,
)
from besom.workers.tasks import Task

_FAILING_S = 3.0
"""How long the others have once a rank failed: they may fail for the same reason, or die of a better one."""

_ENDING_S = 30.0
"""How long the others have once rank 0 is done, or one was told to stop: they are about to end as well."""


def main(descriptor: int, count: int) -> None:
    """Serve the pipe at a file descriptor that was inherited from the parent, with `count` ranks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what becomes of the trials is the parent's decision alone
    parent = adopt(descriptor)
    team = None
    try:
        team = Team(count, parent.recv())
        Head(parent, team).serve()
    except (EOFError, OSError):
        pass  # the parent is gone or done with us
    finally:
        if team is not None:
            team.end()


@dataclass(eq=False)
class Rank:
    """One process of a trial, and how the trial ended there."""

    number: int
    process: Led
    connection: Connection
    finished: Finished | None = None
    death: str | None = None
    ready: bool = False

    @property
    def failed(self) -> bool:
        """Whether it died, or its trial failed there."""
        return self.death is not None or (self.finished is not None and self.finished.state is State.FAIL)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard of the trial."""
        return self.death is not None or self.finished is not None

    def send(self, message: Task | Bundle | Stop) -> None:
        """Tell it something, unless it died just now: then its silence is noticed."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def hear(self) -> Message | None:
        """Return what it said, or None when it died."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.kill()  # what it started outlives it
            code = self.process.wait()
            self.death = f"rank {self.number} (pid {self.process.pid}) {how_it_ended(code)}"
            return None
        if isinstance(message, Finished):
            self.finished = message
        self.ready = True
        return message


class Team:
    """The ranks of a slot, all there is in this process's session but itself."""

    def __init__(self, count: int, task: Task) -> None:
        self._count = count
        self._task = task
        self._start()

    def _start(self) -> None:
        self._port = _reserve_port()
        self.ranks = [self._start_rank(number) for number in range(self._count)]

    def _start_rank(self, number: int) -> Rank:
        environment = {**os.environ, **meeting(number, self._count, self._port.getsockname()[1])}
        process, connection = start("besom.workers.worker", environment=environment, session=False)
        rank = Rank(number, process, connection)
        rank.send(self._task)
        return rank

    def end(self) -> None:
        """End all ranks with whatever they started."""
        for rank in self.ranks:
            rank.connection.close()
            rank.process.kill()
        if os.getsid(0) == os.getpid():
            kill_session(os.getpid(), spare=os.getpid())
        for rank in self.ranks:
            rank.process.wait()
        self._port.close()

    def renew(self) -> None:
        """End all ranks and start others in their place, which are warm for the next trial."""
        self.end()
        self._start()

    def begin(self, assignment: Assignment) -> None:
        """Let every rank run a trial."""
        for rank in self.ranks:
            rank.finished = None
            rank.send(Bundle(assignments=(assignment,)))


class Head:
    """Runs trial after trial: between the parent, which sees one worker, and the ranks."""

    def __init__(self, parent: Connection, team: Team) -> None:
        self._parent = parent
        self._team = team
        self._bundles: deque[Bundle] = deque()
        self._stops: dict[int, Stop] = {}
        self._trial: int | None = None

    def serve(self) -> None:
        """Run what the parent hands over. Raises EOFError or OSError when the parent is gone.

        Exits with code 1, having said why, when a rank dies before it was ready.
        """
        while not all(rank.ready for rank in self._team.ranks):
            self._rest()
        self._parent.send(Ready())
        while True:
            while not self._bundles:
                self._rest()
                if any(rank.death for rank in self._team.ranks):
                    self._team.renew()
            for assignment in self._bundles.popleft().assignments:
                self._parent.send(self._run(assignment))

    def _rest(self) -> None:
        for rank, _ in self._hear(None):
            if rank.death is not None and not rank.ready:
                # Another one would die again: instead of starting ranks for ever, let the pool see it.
                print(f"{rank.death} before it was ready", file=sys.stderr, flush=True)
                sys.exit(1)

    def _run(self, assignment: Assignment) -> Finished:
        self._trial = assignment.trial
        began = time.perf_counter()
        self._team.begin(assignment)
        if stop := self._stops.pop(assignment.trial, None):
            self._team.ranks[0].send(stop)
        over: list[Rank] = []  # in the order in which they ended
        until: float | None = None
        while len(over) < len(self._team.ranks):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            for rank, message in self._hear(left):
                if rank.over and rank not in over:
                    over.append(rank)
                elif rank.number == 0 and isinstance(message, Started | Reported):
                    self._parent.send(message)
            until = _earlier(until, patience_s(over))
        self._trial = None
        finished = verdict(assignment.trial, self._team.ranks, over, duration_s=time.perf_counter() - began)
        if not in_step(self._team.ranks):
            self._team.renew()
        return finished

    def _hear(self, timeout_s: float | None) -> list[tuple[Rank, Message | None]]:
        """Sort what the parent says; return what the ranks say, None for one that died."""
        by_connection = {rank.connection: rank for rank in self._team.ranks if rank.death is None}
        heard = []
        for connection in wait([self._parent, *by_connection], timeout=timeout_s):
            if connection is self._parent:
                self._listen(self._parent.recv())
            else:
                rank = by_connection[connection]  # type: ignore[index]
                heard.append((rank, rank.hear()))
        return heard

    def _listen(self, message: Bundle | Stop) -> None:
        if isinstance(message, Bundle):
            for trial in message.trials:
                self._stops.pop(trial, None)  # of an earlier attempt
            self._bundles.append(message)
        elif message.trial == self._trial:
            self._team.ranks[0].send(message)  # it tells the others
        else:
            self._stops[message.trial] = message


def patience_s(over: Sequence[Rank]) -> float | None:
    """How long to wait for the other ranks, given those whose trial is over; None: for as long as it takes."""
    if any(rank.failed for rank in over):
        return _FAILING_S
    pruned = any(rank.finished is not None and rank.finished.state is State.PRUNED for rank in over)
    return _ENDING_S if pruned or any(rank.number == 0 for rank in over) else None


def _earlier(until: float | None, left_s: float | None) -> float | None:
    if left_s is None:
        return until
    moment = time.monotonic() + left_s
    return moment if until is None else min(until, moment)


def verdict(trial: int, ranks: Sequence[Rank], over: Sequence[Rank], *, duration_s: float) -> Finished:
    """How a trial ended, from how it ended on its ranks; `over` are those where it did, the first one first.

    A rank that died counts before one that raised something, since the others raise because of it; a mistake of
    the user's, or too little memory, counts before any other error.
    """
    if dead := next((rank.death for rank in over if rank.death), None):
        return _failed(trial, Failure(reason=dead), duration_s)
    failures = [(rank, rank.finished.failure) for rank in over if rank.finished and rank.finished.failure]
    for rank, failure in sorted(failures, key=lambda one: (one[1].blame is Blame.CODE, one[0].number)):
        told = failure if rank.number == 0 else replace(failure, reason=f"rank {rank.number}: {failure.reason}")
        return _failed(trial, told, duration_s)
    if (first := ranks[0].finished) is not None:
        return first
    reason = f"rank {over[0].number} stopped and rank 0 went on; report on every rank, and agree on when to stop"
    return _failed(trial, Failure(reason=reason), duration_s)


def _failed(trial: int, failure: Failure, duration_s: float) -> Finished:
    return Finished(trial=trial, state=State.FAIL, duration_s=duration_s, failure=failure)


def in_step(ranks: Sequence[Rank]) -> bool:
    """Whether all ranks ended alike, so that none of them still waits for another and all can go on together.

    An error leaves some of what they do together half done, unless it is one that all of them raise in one place.
    """
    ends = [rank.finished for rank in ranks]
    if any(rank.death for rank in ranks) or not all(ends):
        return False
    alike = {(end.state, end.failure and (end.failure.reason, end.failure.blame)) for end in ends if end}
    blames = {end.failure.blame for end in ends if end and end.failure}
    return len(alike) == 1 and blames <= {Blame.USER, Blame.DATA}


def meeting(number: int, count: int, port: int) -> Mapping[str, str]:
    """The environment by which a rank finds the others, by the names that torch and Lightning know, and by ours.

    They meet on the loopback interface, unless the user named another one.
    """
    interface = {name: os.environ.get(name, "lo") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    return {
        **interface,
        "BESOM_RANKS": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }


def _reserve_port() -> socket.socket:
    # Bound, but not listening: nobody else is given the port, and rank 0, which may reuse the address, can listen.
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("127.0.0.1", 0))
    return port


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
