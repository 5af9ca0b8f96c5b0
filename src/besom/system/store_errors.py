"""The errors of databases and tracking servers: their kind, in one line, with a remedy that loses nothing.

SQLite, SQLAlchemy, Optuna, MLflow and requests report the same few problems in different words, one wrapped in the
other; for a server, only the words are left. They are distinguished here, without importing any of these libraries.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from besom.errors import StoreError
from besom.secrets.masks import mask

_LONGEST = 300  # characters of a cause


class Trouble(StrEnum):
    """The kinds of problems with a store."""

    FULL = "full"
    LOCKED = "locked"
    READ_ONLY = "read-only"
    NO_DRIVER = "no driver"
    OTHER_SCHEMA = "other schema"
    DAMAGED = "damaged"
    DELETED = "deleted"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store in its error messages: its location, its role, the setting that chooses another, and the time-outs.

    `where` is a URI or the path of a file. Passwords in it are masked.
    """

    where: str
    role: str
    choose: str
    locked_s: float
    unreachable_s: float = 0.0

    def error(self, error: BaseException) -> StoreError:
        """Return the StoreError for an exception of the store."""
        trouble, cause = trouble_of(error), mask(cause_of(error))
        what = f"cannot be used as {self.role} ({cause})"
        return StoreError(f"{mask(self.where)}: {what}; {self._remedy(trouble, error)}", trouble=trouble)

    def _remedy(self, trouble: Trouble, error: BaseException) -> str:
        again = "run the same command again"
        match trouble:
            case Trouble.FULL:
                return f"the disk is full: make room on it, and {again}; what was recorded is kept"
            case Trouble.LOCKED:
                waited = f" (it was waited for, {self.locked_s:g} s)" if self.locked_s else ""
                return f"another program writes to it{waited}: end that one, or let it finish, and {again}"
            case Trouble.READ_ONLY:
                return f"make it and its folder writable, or choose another with {self.choose}"
            case Trouble.NO_DRIVER:
                return _driver(error, self.choose)
            case Trouble.OTHER_SCHEMA:
                return _schema(error, self.where)
            case Trouble.DAMAGED:
                return (
                    "it is damaged, and was left as it is: get back what is in it with sqlite3's .recover, "
                    f"or choose another with {self.choose}"
                )
            case Trouble.DELETED:
                return (
                    "it was deleted in MLflow, which keeps it: restore it there (in the UI, State: Deleted), "
                    f"and {again}"
                )
            case Trouble.UNREACHABLE:
                waited = f", which was waited for, {self.unreachable_s:g} s" if self.unreachable_s else ""
                return f"start its server{waited}, or check {self.choose}, and {again}"
            case Trouble.UNAUTHORIZED if _is_http(self.where):
                return (
                    "the server asks who you are: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
                    "or MLFLOW_TRACKING_TOKEN"
                )
            case Trouble.UNAUTHORIZED:
                return f"check the user and the password in {self.choose}"
            case Trouble.REFUSED:
                return "it takes no such value; change it, and what was recorded is kept"
        return f"check {self.choose}"


def trouble_of(error: BaseException) -> Trouble:
    """Return the kind of an error: by the codes of its causes, by their words, by MLflow's own code."""
    causes = list(_causes(error))
    for classify in (_by_code, _by_words, _by_mlflow):
        for cause in causes:
            if (trouble := classify(cause)) is not None:
                return trouble
    return Trouble.OTHER


def is_absent(error: BaseException) -> bool:
    """Return whether a working store has answered that there is no such object."""
    return trouble_of(error) in (Trouble.ABSENT, Trouble.REFUSED, Trouble.OTHER)


def cause_of(error: BaseException) -> str:
    """Return the first cause of an error, in one line."""
    first = next(_causes(error))
    text = _WRAPPED.sub(r"\1", str(first).strip())
    if isinstance(first, OSError) and first.strerror:
        text = first.strerror
    # requests prints a host, a URL and an object's address before the actual error.
    network = re.search(r"\[Errno -?\d+\] ([\w ,]+)", text) if "HTTP" in text else None
    message = network[1] if network else re.split(r"\n|\. (?=[A-Z])", text)[0]
    return message[:_LONGEST] or type(first).__name__


_WRAPPED = re.compile(r"^\((?:\w+\.)+\w+\) (.*)", re.DOTALL)  # "(sqlite3.OperationalError) database is locked"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error's causes, the earliest first."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        driver = getattr(following, "orig", None)  # what SQLAlchemy wraps
        following = driver if isinstance(driver, BaseException) else following.__cause__
    yield from reversed(chain)


_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_FULL_DISK_WORDS = r"No space left on device|os error 28\b|Disk quota exceeded"


def says_disk_is_full(error: BaseException) -> bool:
    """Return whether an error itself, not its causes, reports a full disk.

    By its code, or only in words, as safetensors does when it writes weights.
    """
    return getattr(error, "errno", None) in _FULL_DISK or bool(re.search(_FULL_DISK_WORDS, str(error)))


_SQLITE = {
    "SQLITE_FULL": Trouble.FULL,
    "SQLITE_BUSY": Trouble.LOCKED,
    "SQLITE_LOCKED": Trouble.LOCKED,
    "SQLITE_READONLY": Trouble.READ_ONLY,
    "SQLITE_CANTOPEN": Trouble.READ_ONLY,
    "SQLITE_PERM": Trouble.READ_ONLY,
    "SQLITE_CORRUPT": Trouble.DAMAGED,
    "SQLITE_NOTADB": Trouble.DAMAGED,
    "SQLITE_FORMAT": Trouble.DAMAGED,
}
_ERRNO = {
    **dict.fromkeys(_FULL_DISK, Trouble.FULL),
    errno.EROFS: Trouble.READ_ONLY,
    errno.EACCES: Trouble.READ_ONLY,
    errno.EPERM: Trouble.READ_ONLY,
    errno.ECONNREFUSED: Trouble.UNREACHABLE,
    errno.ECONNRESET: Trouble.UNREACHABLE,
    errno.EHOSTUNREACH: Trouble.UNREACHABLE,
    errno.ENETUNREACH: Trouble.UNREACHABLE,
    errno.ETIMEDOUT: Trouble.UNREACHABLE,
}
# In this order: a driver's connection errors contain many other words.
_WORDS = (
    (Trouble.FULL, rf"disk is full|disk full|{_FULL_DISK_WORDS}"),
    (Trouble.LOCKED, r"database( table| schema)? is locked"),
    (Trouble.READ_ONLY, r"readonly database|read-only (file system|transaction)|unable to open database file"),
    (Trouble.DAMAGED, r"malformed|file is not a database"),
    (
        Trouble.OTHER_SCHEMA,
        r"out-of-date database schema|Can't locate revision|the table schema|no such (table|column)"
        r"|has no column named|duplicate column name|table \w+ already exists|relation \S+ does not exist",
    ),
    (
        Trouble.NO_DRIVER,
        r"Can't load plugin: sqlalchemy\.dialects|Failed to import DB access module|Could not parse SQLAlchemy URL"
        r"|unsupported URI|unavailable registered data stores|No module named",
    ),
    (
        Trouble.UNAUTHORIZED,
        r"error code 40[13]\b|password authentication failed|Access denied for user|no password sup",
    ),
    (
        Trouble.UNREACHABLE,
        r"Connection refused|Max retries exceeded|timed out|Name or service not known|could not translate host"
        r"|Temporary failure in name resolution|[Cc]onnection (reset|aborted|broken)|Response ended prematurely"
        r"|No route to host|Network is unreachable"
        r"|server closed the connection|error code 50[234]\b|too many 50[0234] error",
    ),
    (Trouble.DELETED, r"must be in the 'active' state|in the 'deleted' state|deleted state"),
)


def _by_code(error: BaseException) -> Trouble | None:
    name = str(getattr(error, "sqlite_errorname", ""))
    for known, trouble in _SQLITE.items():
        if name == known or name.startswith(f"{known}_"):
            return trouble
    if isinstance(error, ModuleNotFoundError):
        return Trouble.NO_DRIVER
    if isinstance(error, ConnectionError | TimeoutError):
        return Trouble.UNREACHABLE
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    return None


_MLFLOW = {
    "RESOURCE_DOES_NOT_EXIST": Trouble.ABSENT,
    "INVALID_PARAMETER_VALUE": Trouble.REFUSED,
    "UNAUTHENTICATED": Trouble.UNAUTHORIZED,
    "CUSTOMER_UNAUTHORIZED": Trouble.UNAUTHORIZED,
    "PERMISSION_DENIED": Trouble.UNAUTHORIZED,
}


def _by_words(error: BaseException) -> Trouble | None:
    text = str(error)
    return next((trouble for trouble, words in _WORDS if re.search(words, text)), None)


def _by_mlflow(error: BaseException) -> Trouble | None:
    return _MLFLOW.get(str(getattr(error, "error_code", "")))


_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}


def _driver(error: BaseException, choose: str) -> str:
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return f"its driver is not installed: pip install '{_PACKAGES.get(cause.name, cause.name)}'"
    return f"no such kind of database is known here: check {choose}"


def _schema(error: BaseException, where: str) -> str:
    message = " ".join(map(str, _causes(error)))
    if "out-of-date database schema" in message:
        return (
            "another MLflow made it, and it is left as it is: use it with that version, "
            f"or copy it and then run: mlflow db upgrade {mask(where)}"
        )
    if "storage upgrade" in message:
        return f"an older Optuna made it: copy it, and then run: optuna storage upgrade --storage {mask(where)}"
    which = "Optuna" if "optuna" in message else "program"
    return f"another {which} made it, a newer one most likely, and it is left as it is: use it with that version"


def _is_http(where: str) -> bool:
    return urlsplit(where).scheme in ("http", "https")
