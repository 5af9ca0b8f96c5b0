"""What a trial's logger receives, on its way to the trial's run."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from besom.config.extras.logged import Log, Point
from besom.errors import ConfigError
from besom.training.progress import Channel

_FLUSH_EVERY_S = 1.0
"""Each message costs the parent process time, and a run is written every few seconds only."""


class TrialLog:
    """Collects metrics by step, params and tags, and passes them on: before each report, and at most once a second.

    The `objectives` are recorded by report. Where one of them is logged by step as well, those values are recorded as
    `NAME_step`, as Lightning names a metric that it logs by step and by epoch.
    """

    def __init__(self, channel: Channel, objectives: Collection[str] = ()) -> None:
        self._channel = channel
        self._objectives = frozenset(objectives)
        self._points: list[Point] = []
        self._params: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._last_steps: dict[str, int] = {}
        self._flushed = time.monotonic()

    def add(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add the metrics of a step; `{"a": {"b": 1}}` is the metric a/b. Raises ConfigError for one of no number."""
        values = {self._recorded_name(name): value for name, value in _numbers(metrics).items()}
        self._points.append(Point(step=step, metrics=values, time_s=time.time()))
        self._last_steps.update(dict.fromkeys(values, step))
        if time.monotonic() - self._flushed > _FLUSH_EVERY_S:
            self.flush()

    def has(self, name: str, step: int) -> bool:
        """Return whether the last value of a metric is that of this step."""
        return self._last_steps.get(self._recorded_name(name)) == step

    def describe(self, *, params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None) -> None:
        """Add params and tags of the run; Lightning logs the params again for the test part."""
        texts = {name: str(value) for name, value in (params or {}).items()}
        self._params.update({name: text for name, text in texts.items() if self._known.get(name) != text})
        self._known.update(texts)
        self._tags.update(tags or {})

    def flush(self) -> None:
        """Pass on what was added since the last time."""
        self._flushed = time.monotonic()
        if self._points or self._params or self._tags:
            log = Log(points=tuple(self._points), params=self._params, tags=self._tags)
            self._points, self._params, self._tags = [], {}, {}
            self._channel.log(log)

    def _recorded_name(self, name: str) -> str:
        return f"{name}_step" if name in self._objectives else name


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            numbers |= _numbers(value, f"{prefix}{name}/")
            continue
        try:
            numbers[f"{prefix}{name}"] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:  # torch raises RuntimeError for several numbers
            raise ConfigError(
                f"self.logger: the metric '{prefix}{name}' is no number but a {type(value).__name__}; log a text by "
                "self.logger.experiment.log_text"
            ) from error
    return numbers
