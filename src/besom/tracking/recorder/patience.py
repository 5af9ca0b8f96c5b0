"""Waiting for a tracking server that is away: for how long, who hears of it, and how it is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.error import HTTPError
from urllib.request import urlopen

from besom.errors import StoreError
from besom.secrets.masks import mask
from besom.system.store_errors import Trouble, trouble_of
from besom.tracking.store import REACHABLE_S, Location, check_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

WAIT_S = 600.0
_LOOK_EVERY_S = 1.0


class Wish(Protocol):
    """Whether the user asked to stop, and whether at once; `noticed` is set by who acts on it."""

    asked: bool
    at_once: bool
    noticed: bool


class Patience:
    """Waits for a server, up to `wait_s` in all that it is away at once; `notice` hears when it begins and ends."""

    def __init__(self, location: Location, notice: Callable[[str], None], wait_s: float = WAIT_S) -> None:
        self._location = location
        self._notice = notice
        self._wait_s = wait_s
        self._over = threading.Event()
        self._away: StoreError | None = None
        self._told = False

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self._over.is_set()

    def end(self) -> None:
        """Wait no more, neither now nor later."""
        self._over.set()

    def until_there(self) -> None:
        """Return once the server answers. Raises StoreError when it is away for too long, or nobody waits any more."""
        began = time.monotonic()
        while True:
            if self._away is not None:
                raise self._away  # each further try could take its time
            try:
                check_reachable(self._location)
                break
            except StoreError as error:
                self._tell()
                if self.is_over or time.monotonic() - began > self._wait_s:
                    self._over.set()
                    self._away = error
                else:
                    self._over.wait(_LOOK_EVERY_S)
        if self._told:
            self._told = False
            self._notice(f"{mask(self._location.uri)} answers again")

    def look(self) -> None:
        """Say that the server is away if it is: for who sees that a call, which MLflow repeats, does not come back."""
        if not self.is_there(within_s=_LOOK_EVERY_S):
            self._tell()

    def is_there(self, *, within_s: float = REACHABLE_S) -> bool:
        """Whether the server answers now."""
        try:
            check_reachable(self._location, within_s=within_s)
        except StoreError:
            return False
        return True

    def is_answering(self, *, within_s: float) -> bool:
        """Whether the server answers a question: one that hangs can be connected to all the same."""
        if not self.is_there(within_s=within_s):
            return False
        if not self._location.uri.startswith("http"):
            return True
        try:
            urlopen(f"{self._location.ui}/health", timeout=within_s).close()
        except HTTPError:
            return True  # it has answered
        except (OSError, HTTPException):
            return False
        return True

    def _tell(self) -> None:
        if not self._told and not self.is_over:
            self._told = True
            self._notice(
                f"{mask(self._location.uri)} does not answer; what is to be recorded waits for it, for up to "
                f"{self._wait_s / 60:g} minutes, and training goes on"
            )


def patient(client: MlflowClient, location: Location, patience: Patience) -> MlflowClient:
    """Return a client whose calls wait for a server that is away, and are made again where it went away meanwhile."""
    return client if location.is_local else cast("MlflowClient", _Patient(client, patience))


class _Patient:
    def __init__(self, client: MlflowClient, patience: Patience) -> None:
        self._client = client
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            while True:
                self._patience.until_there()
                try:
                    return found(*arguments, **more)
                except Exception as error:
                    if trouble_of(error) is not Trouble.UNREACHABLE or self._patience.is_over:
                        raise

        return call
