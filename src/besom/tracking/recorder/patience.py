"""Waiting for an unreachable tracking server: for how long, with which messages, and until when."""

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
_POLL_S = 1.0


class StopRequest(Protocol):
    """The user's request to stop: `asked`, and `at_once` or not; whoever acts on it sets `noticed`."""

    asked: bool
    at_once: bool
    noticed: bool


class Patience:
    """Waits for a server, up to `wait_s` per outage; `notice` receives a message when an outage starts and ends."""

    def __init__(self, location: Location, notice: Callable[[str], None], wait_s: float = WAIT_S) -> None:
        self._location = location
        self._notice = notice
        self._wait_s = wait_s
        self._over = threading.Event()
        self._away: StoreError | None = None
        self._notified = False

    @property
    def is_over(self) -> bool:
        """True if waiting has ended for good."""
        return self._over.is_set()

    def end(self) -> None:
        """Stop waiting, now and for any later outage."""
        self._over.set()

    def wait_until_reachable(self) -> None:
        """Return once the server answers. Raises StoreError when it takes too long, or waiting has ended."""
        began = time.monotonic()
        while True:
            if self._away is not None:
                raise self._away  # each further attempt could take long
            try:
                check_reachable(self._location)
                break
            except StoreError as error:
                self._notify()
                if self.is_over or time.monotonic() - began > self._wait_s:
                    self._over.set()
                    self._away = error
                else:
                    self._over.wait(_POLL_S)
        if self._notified:
            self._notified = False
            self._notice(f"{mask(self._location.uri)} answers again")

    def check(self) -> None:
        """Notify the user if the server is unreachable: called when a call takes long, because MLflow retries it."""
        if not self.is_reachable(within_s=_POLL_S):
            self._notify()

    def is_reachable(self, *, within_s: float = REACHABLE_S) -> bool:
        """Return whether the server accepts a connection now."""
        try:
            check_reachable(self._location, within_s=within_s)
        except StoreError:
            return False
        return True

    def is_answering(self, *, within_s: float) -> bool:
        """Return whether the server answers a request: a server that hangs still accepts connections."""
        if not self.is_reachable(within_s=within_s):
            return False
        if not self._location.uri.startswith("http"):
            return True
        try:
            urlopen(f"{self._location.ui}/health", timeout=within_s).close()
        except HTTPError:
            return True  # an error is an answer
        except (OSError, HTTPException):
            return False
        return True

    def _notify(self) -> None:
        if not self._notified and not self.is_over:
            self._notified = True
            self._notice(
                f"{mask(self._location.uri)} does not answer; what is to be recorded waits for it, for up to "
                f"{self._wait_s / 60:g} minutes, and training goes on"
            )


def patient(client: MlflowClient, location: Location, patience: Patience) -> MlflowClient:
    """Return a client whose calls wait for an unreachable server, and are repeated after an outage."""
    return client if location.is_local else cast("MlflowClient", _Patient(client, patience))


class _Patient:
    def __init__(self, client: MlflowClient, patience: Patience) -> None:
        self._client = client
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **more: Any) -> Any:
            while True:
                self._patience.wait_until_reachable()
                try:
                    return attribute(*arguments, **more)
                except Exception as error:
                    if trouble_of(error) is not Trouble.UNREACHABLE or self._patience.is_over:
                        raise

        return call
