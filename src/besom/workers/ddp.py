"""The rank coordinator, one trial trained by several processes, a device each: `python -m besom.workers.ddp FD COUNT`.

To the pool, this process is a worker like any other. It trains nothing itself: it starts one worker per device, sends
all of them the same messages, and forwards the messages of rank 0. It takes part in no collective, so that a rank
which fails or dies cannot make it hang: it ends the other ranks and restarts all of them.
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

from besom.system.processes import GroupLeader, adopt, how_it_ended, kill_session, start
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Logged,
    Message,
    Ready,
    Reported,
    Started,
    State,
    Stop,
    TrialResult,
)
from besom.workers.tasks import Task

_FAILING_S = 3.0
"""Seconds that the other ranks have once one failed: they may fail for the same reason, or die of the actual cause."""

_ENDING_S = 30.0
"""Seconds that the other ranks have once rank 0 finished, or one was pruned: they are about to end as well."""


def main(descriptor: int, count: int) -> None:
    """Serve the pipe at a file descriptor that was inherited from the parent, with `count` ranks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent decides what happens to the trials
    parent = adopt(descriptor)
    group = None
    try:
        group = RankGroup(count, parent.recv())
        Coordinator(parent, group).serve()
    except (EOFError, OSError):
        pass  # the parent process died or closed the pipe
    finally:
        if group is not None:
            group.end()


@dataclass(eq=False)
class Rank:
    """A process of a trial, with the trial's result there."""

    number: int
    process: GroupLeader
    connection: Connection
    result: TrialResult | None = None
    left: str | None = None
    death: str | None = None
    ready: bool = False

    @property
    def failed(self) -> bool:
        """Return whether the rank died or its trial failed there."""
        return self.death is not None or (self.result is not None and self.result.state is State.FAIL)

    @property
    def is_finished(self) -> bool:
        """Return whether the rank has sent its last message about the trial."""
        return self.death is not None or self.result is not None

    def send(self, message: Task | Bundle | Stop) -> None:
        """Send a message; if the rank has just died, `receive` will notice."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def receive(self) -> Message | None:
        """Return the rank's next message, or None when it died."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.kill()  # its child processes outlive it
            code = self.process.wait()
            self.death = f"rank {self.number} (pid {self.process.pid}) {how_it_ended(code)}"
            return None
        if isinstance(message, Finished):
            self.result, self.left = message.result, message.left
        self.ready = True
        return message


class RankGroup:
    """The ranks of a slot: all processes of this session except this one."""

    def __init__(self, count: int, task: Task) -> None:
        self._count = count
        self._task = task
        self._start()

    def _start(self) -> None:
        self._port = _reserve_port()
        self.ranks = [self._start_rank(number) for number in range(self._count)]

    def _start_rank(self, number: int) -> Rank:
        environment = {**os.environ, **_rendezvous_environment(number, self._count, self._port.getsockname()[1])}
        process, connection = start("besom.workers.worker", environment=environment, session=False)
        rank = Rank(number, process, connection)
        rank.send(self._task)
        return rank

    def end(self) -> None:
        """End all ranks with their child processes."""
        for rank in self.ranks:
            rank.connection.close()
            rank.process.kill()
        if os.getsid(0) == os.getpid():
            kill_session(os.getpid(), spare=os.getpid())
        for rank in self.ranks:
            rank.process.wait()
        self._port.close()

    def restart(self) -> None:
        """End all ranks and start new ones, which are warm for the next trial."""
        self.end()
        self._start()

    def start_trial(self, assignment: Assignment) -> None:
        """Start a trial on every rank."""
        for rank in self.ranks:
            rank.result = None
            rank.send(Bundle(assignments=(assignment,)))


class Coordinator:
    """Runs trials one by one, between the parent process, which sees one worker, and the ranks."""

    def __init__(self, parent: Connection, group: RankGroup) -> None:
        self._parent = parent
        self._group = group
        self._bundles: deque[Bundle] = deque()
        self._stops: dict[int, Stop] = {}
        self._trial: int | None = None

    def serve(self) -> None:
        """Run the bundles that the parent process sends. Raises EOFError or OSError when it is gone.

        Exits with code 1, with the reason on stderr, when a rank dies before it is ready.
        """
        while not all(rank.ready for rank in self._group.ranks):
            self._wait_idle()
        self._parent.send(Ready())
        while True:
            while not self._bundles:
                self._wait_idle()
                if any(rank.death for rank in self._group.ranks):
                    self._group.restart()
            for assignment in self._bundles.popleft().assignments:
                self._parent.send(self._run(assignment))

    def _wait_idle(self) -> None:
        for rank, _ in self._receive(None):
            if rank.death is not None and not rank.ready:
                # A new rank would die again: exit, so that the pool reports it, instead of starting ranks forever.
                print(f"{rank.death} before it was ready", file=sys.stderr, flush=True)
                sys.exit(1)

    def _run(self, assignment: Assignment) -> Finished:
        self._trial = assignment.trial
        began = time.perf_counter()
        self._group.start_trial(assignment)
        if stop := self._stops.pop(assignment.trial, None):
            self._group.ranks[0].send(stop)
        ended: list[Rank] = []  # in the order of ending
        until: float | None = None
        while len(ended) < len(self._group.ranks):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            for rank, message in self._receive(left):
                if rank.is_finished and rank not in ended:
                    ended.append(rank)
                elif rank.number == 0 and isinstance(message, Started | Reported | Logged):
                    self._parent.send(message)
            until = _earlier(until, patience_s(ended))
        self._trial = None
        result = combined_result(self._group.ranks, ended, duration_s=time.perf_counter() - began)
        if not ended_alike(self._group.ranks) or any(rank.left for rank in self._group.ranks):
            self._group.restart()
        return Finished(trial=assignment.trial, result=result)

    def _receive(self, timeout_s: float | None) -> list[tuple[Rank, Message | None]]:
        """Dispatch the parent's messages; return those of the ranks, with None for a rank that died."""
        by_connection = {rank.connection: rank for rank in self._group.ranks if rank.death is None}
        received = []
        for connection in wait([self._parent, *by_connection], timeout=timeout_s):
            if connection is self._parent:
                self._dispatch(self._parent.recv())
            else:
                rank = by_connection[connection]  # type: ignore[index]
                received.append((rank, rank.receive()))
        return received

    def _dispatch(self, message: Bundle | Stop) -> None:
        if isinstance(message, Bundle):
            for trial in message.trials:
                self._stops.pop(trial, None)  # from an earlier attempt
            self._bundles.append(message)
        elif message.trial == self._trial:
            self._group.ranks[0].send(message)  # which broadcasts it to the other ranks
        else:
            self._stops[message.trial] = message


def patience_s(ended: Sequence[Rank]) -> float | None:
    """Return how many seconds to wait for the other ranks, given those that finished; None for no limit."""
    if any(rank.failed for rank in ended):
        return _FAILING_S
    pruned = any(rank.result is not None and rank.result.state is State.PRUNED for rank in ended)
    return _ENDING_S if pruned or any(rank.number == 0 for rank in ended) else None


def _earlier(until: float | None, left_s: float | None) -> float | None:
    if left_s is None:
        return until
    moment = time.monotonic() + left_s
    return moment if until is None else min(until, moment)


def combined_result(ranks: Sequence[Rank], ended: Sequence[Rank], *, duration_s: float) -> TrialResult:
    """Return the trial's result from those of its ranks; `ended` are the ranks that finished, in order.

    The death of a rank takes precedence over exceptions, which it causes in the others; a user error or too little
    memory takes precedence over any other exception.
    """
    if dead := next((rank.death for rank in ended if rank.death), None):
        return _failed(Failure(reason=dead), duration_s)
    failures = [(rank, rank.result.failure) for rank in ended if rank.result and rank.result.failure]
    for rank, failure in sorted(failures, key=lambda pair: (pair[1].blame is Blame.CODE, pair[0].number)):
        shown = failure if rank.number == 0 else replace(failure, reason=f"rank {rank.number}: {failure.reason}")
        return _failed(shown, duration_s)
    if (first := ranks[0].result) is not None:
        return first
    reason = f"rank {ended[0].number} stopped and rank 0 went on; report on every rank, and agree on when to stop"
    return _failed(Failure(reason=reason), duration_s)


def _failed(failure: Failure, duration_s: float) -> TrialResult:
    return TrialResult(state=State.FAIL, failure=failure, duration_s=duration_s, ended_s=time.time())


def ended_alike(ranks: Sequence[Rank]) -> bool:
    """Return whether all ranks ended alike, so that none still waits in a collective and all can take the next trial.

    An exception leaves some collectives unfinished, unless all ranks raise it at the same place.
    """
    ends = [rank.result for rank in ranks]
    if any(rank.death for rank in ranks) or not all(ends):
        return False
    alike = {(end.state, end.failure and (end.failure.reason, end.failure.blame)) for end in ends if end}
    blames = {end.failure.blame for end in ends if end and end.failure}
    return len(alike) == 1 and blames <= {Blame.USER, Blame.DATA}


def _rendezvous_environment(number: int, count: int, port: int) -> Mapping[str, str]:
    """Return the environment in which a rank finds the others, by the names of torch, Lightning and Besom.

    The ranks connect over the loopback interface, unless the user named another one.
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
    # Bound but not listening: no other process gets the port, and rank 0, which may reuse the address, can listen on
    # it.
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("127.0.0.1", 0))
    return port


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
