"""The worker's own loop: `python -m besom.workers.worker FD` trains what comes over the pipe until it closes.

A worker outlives its trials: imports and data are paid for once. It dies with its parent, because the parent's
end of the pipe closes with it, whatever ended the parent.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from besom.errors import BesomError, DataError
from besom.workers.messages import Assignment, Bundle, Finished, Ready, Reported, Started, State

if TYPE_CHECKING:
    from besom.train import Result


def main(descriptor: int) -> None:
    """Serve the pipe at a file descriptor that was inherited from the parent."""
    # ctrl-C reaches the whole process group; what becomes of the trials is the parent's decision alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    connection: Connection = Connection(descriptor)
    bundles: queue.SimpleQueue[Bundle] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, bundles), daemon=True).start()

    import besom.train  # noqa: F401  (seconds of imports: torch, Lightning)

    connection.send(Ready())
    while True:
        for assignment in bundles.get().assignments:
            connection.send(_run(connection, assignment))


def _listen(connection: Connection, bundles: queue.SimpleQueue[Bundle]) -> None:
    try:
        while True:
            bundles.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone or done with us, in the middle of a step or not


def _run(connection: Connection, assignment: Assignment) -> Finished:
    from besom import train

    began = time.perf_counter()
    trial = assignment.trial

    def started(about: dict[str, object]) -> None:
        connection.send(Started(trial=trial, about=about))

    def report(epoch: int, metrics: dict[str, float]) -> None:
        connection.send(Reported(trial=trial, epoch=epoch, metrics=metrics, time_s=time.time()))

    try:
        result: Result = train.train(assignment.config, started=started, report=report, directory=assignment.directory)
    except Exception as error:
        return Finished(
            trial=trial,
            state=State.FAIL,
            duration_s=time.perf_counter() - began,
            reason=_reason(error),
            traceback=traceback.format_exc(),
            user_error=_user_error(error) is not None,
            data_error=isinstance(_user_error(error), DataError),
        )
    return Finished(
        trial=trial,
        state=State.COMPLETE,
        duration_s=time.perf_counter() - began,
        value=result.value,
        best_epoch=result.best_epoch,
        summary=result.summary,
    )


def _user_error(error: BaseException | None) -> BesomError | None:
    # Hydra's instantiate wraps what a constructor raises: look through to the cause.
    while error is not None and not isinstance(error, BesomError):
        error = error.__cause__
    return error


def _reason(error: Exception) -> str:
    told = _user_error(error)
    if told is not None:
        return str(told)
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    first = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {first[0] if first else 'no message'}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
