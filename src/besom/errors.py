"""The exceptions that a user of Besom can meet.

    BesomError
    ├── ConfigError      a config, a sweep file or an override cannot be used as it is written
    ├── DataError        a data set is missing, torn, or unfit for the task
    ├── DeviceError      a device that was asked for is not there
    ├── StoreError       a database under mlruns/ or a tracking server cannot be used
    ├── RunNotFound      no run, study or artifact by that name
    └── TrialFailed      a trial trained and came to nothing (a loss that is not finite, say)

Each message is one line that says where, what and the remedy: `besom` prints it without a traceback
and exits with 2. A `TrialFailed` costs its trial; the sweep goes on.
"""

from __future__ import annotations


class BesomError(Exception):
    """A mistake that the user can mend; its message is one line: where, what, the remedy."""


class ConfigError(BesomError):
    """A config, a sweep file or an override cannot be used as it is written."""


class DataError(BesomError):
    """A data set is missing, torn, or unfit for the task."""


class DeviceError(BesomError):
    """A device that was asked for is not on this machine."""


class StoreError(BesomError):
    """A database under mlruns/ or a tracking server cannot be used."""


class RunNotFound(BesomError):
    """No run, study or artifact by that name."""


class TrialFailed(BesomError):
    """A trial came to nothing: its loss was not finite, or its objective was never logged."""
