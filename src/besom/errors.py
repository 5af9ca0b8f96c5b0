"""The exceptions that a user of Besom can meet.

    BesomError
    ├── ConfigError      a config, a sweep file or an override cannot be used as it is written
    ├── DataError        a data set is missing, torn, or unfit for the task
    ├── DeviceError      a device that was asked for is not there
    ├── StoreError       a database under mlruns/ or a tracking server cannot be used
    ├── RunNotFound      no run, study or artifact by that name
    └── TrialFailed      a trial trained and came to nothing (a loss that is not finite, say)
    TrialPruned          a trial was told to stop early: no failure
    TrainingCrashed      training raised something else: its traceback is what helps
    Interrupted          ctrl-C or SIGTERM: everything is in order, the same command goes on from there

Each message of a `BesomError` is one line that says where, what and the remedy: `besom` prints it without a
traceback and exits with 2. A `TrialFailed` costs its trial; the sweep goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class BesomError(Exception):
    """A mistake that the user can mend; its message is one line: where, what, the remedy."""


class ConfigError(BesomError):
    """A config, a sweep file or an override cannot be used as it is written."""


class DataError(BesomError):
    """A data set is missing, torn, or unfit for the task."""


class DeviceError(BesomError):
    """A device that was asked for is not on this machine."""


class StoreError(BesomError):
    """A database under mlruns/ or a tracking server cannot be used; `trouble` is what kind it is, where that is known.

    The kinds are those of besom.system.store_errors.
    """

    def __init__(self, message: str, *, trouble: str = "") -> None:
        super().__init__(message)
        self.trouble = trouble


class RunNotFound(BesomError):
    """No run, study or artifact by that name."""


class TrialFailed(BesomError):
    """A trial came to nothing: its loss was not finite, or its objective was never logged."""


class TrialPruned(Exception):
    """The sweep told this trial to stop early; let it pass, it is no failure."""


class TrainingCrashed(Exception):
    """Training raised something that is no plain mistake of the config; `traceback` is the worker's."""

    def __init__(self, reason: str, traceback: str) -> None:
        super().__init__(reason)
        self.traceback = traceback

    def __reduce__(self) -> tuple[object, ...]:
        return TrainingCrashed, (str(self), self.traceback)  # from one process to another


class Interrupted(Exception):
    """The user stopped the run or the sweep; everything is in order, and the same command goes on from there."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; of one that says nothing, its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_one_line(error: BaseException) -> str:
    """Return all that an error says, its lines joined; of one that says nothing, its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says: `ValueError: no luck`."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def one_of(wrong: str, known: Iterable[str]) -> str:
    """Return the remedy for a name that does not exist: what was probably meant, and what else there is."""
    names = list(known)
    listed = f"use one of {', '.join(names)}" if names else "there are none"
    close = closest(wrong, names)
    return f"did you mean {close}? ({listed})" if close else listed


def closest(wrong: str, known: Sequence[str]) -> str | None:
    """Return the name that was probably meant, if there is one."""
    begun = [name for name in known if wrong and name.startswith(wrong)]
    return next(iter([*begun, *difflib.get_close_matches(wrong, known, n=1)]), None)
