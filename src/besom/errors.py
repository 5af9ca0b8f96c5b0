"""The exceptions that a user of Besom can meet.

    BesomError
    ├── ConfigError      a config, a sweep file or an override that cannot be used as written
    ├── DataError        a data set is missing, torn, or unfit for the task
    ├── DeviceError      a device that was asked for is not there
    ├── StoreError       a database under mlruns/ or a tracking server cannot be used
    ├── RunNotFound      no run, study or artifact by that name
    └── TrialFailed      a trial without a usable result (a loss that is not finite, say)
    TrialPruned          a trial was stopped early: no failure
    TrainingCrashed      training raised another exception, whose traceback helps
    Interrupted          ctrl-C or SIGTERM: everything is saved, and the same command resumes

Each message of a `BesomError` is one line that says where, what and the remedy: `besom` prints it without a
traceback and exits with 2. A `TrialFailed` costs its trial; the sweep goes on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class BesomError(Exception):
    """An error that the user can fix; its message is one line: where, what, the remedy."""


class ConfigError(BesomError):
    """A config, a sweep file or an override cannot be used as written."""


class DataError(BesomError):
    """A data set is missing, damaged, or unsuitable for the task."""


class DeviceError(BesomError):
    """A requested device does not exist on this machine."""


class StoreError(BesomError):
    """A database under mlruns/ or a tracking server cannot be used; `trouble` is the kind of problem, if known.

    The kinds are those of besom.system.store_errors.
    """

    def __init__(self, message: str, *, trouble: str = "") -> None:
        super().__init__(message)
        self.trouble = trouble


class RunNotFound(BesomError):
    """No run, study or artifact by that name."""


class TrialFailed(BesomError):
    """A trial has no usable result: its loss was not finite, or its objective was never logged."""


class TrialPruned(Exception):
    """The sweep stops this trial early; let the exception pass, it is no failure."""


class TrainingCrashed(Exception):
    """Training raised an exception that is not a user error; `traceback` is the worker's."""

    def __init__(self, reason: str, traceback: str) -> None:
        super().__init__(reason)
        self.traceback = traceback

    def __reduce__(self) -> tuple[object, ...]:
        return TrainingCrashed, (str(self), self.traceback)  # for pickling between processes


class Interrupted(Exception):
    """The user stopped the run or the sweep; everything is saved, and the same command resumes."""


_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal, in messages of torch and of compilers


def _message(error: BaseException) -> str:
    return _STYLE.sub("", str(error)).strip()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if that is empty."""
    return (_message(error) or type(error).__name__).splitlines()[0]


def in_one_line(error: BaseException) -> str:
    """Return an error's message with its lines joined, or its type if that is empty."""
    return " ".join(_message(error).split()) or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message: `ValueError: no luck`.

    Of an error that tells that of another process, such as torch's, it is the last line.
    """
    first, *others = (_message(error) or "no message").splitlines()
    return f"{type(error).__name__}: {others[-1] if others and first.endswith('following error:') else first}"


def one_of(wrong: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown name: the probably intended one, and the existing ones."""
    names = list(known)
    listed = f"use one of {', '.join(names)}" if names else "there are none"
    close = closest(wrong, names)
    return f"did you mean {close}? ({listed})" if close else listed


def first_few(names: Sequence[str], count: int = 8) -> str:
    """Return the first names, and how many more there are: `a, b and 3 more`."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")


def closest(wrong: str, known: Sequence[str]) -> str | None:
    """Return the name that was probably intended, or None."""
    begun = [name for name in known if wrong and name.startswith(wrong)]
    return next(iter([*begun, *difflib.get_close_matches(wrong, known, n=1)]), None)
