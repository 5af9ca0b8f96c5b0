"""A report as one self-contained HTML file, without network access, other files or libraries.

Jinja escapes all data of the study, the plots escape their labels, and the page's content security policy allows no
script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from besom.config.paths import file_name
from besom.reports.format import named, short
from besom.reports.html.sections import sections
from besom.reports.read.failures import numbered
from besom.reports.read.report import Report, TrialPoint
from besom.reports.text.headline import answer, facts
from besom.reports.times import offset
from besom.tracking.ui.views import run_link

if TYPE_CHECKING:
    from jinja2 import Template

_WEB = Path(__file__).with_name("web")


def page(report: Report) -> str:
    """Return the page's HTML."""
    script, record = _read("report.js"), report.record
    return _template().render(
        report=report,
        sections=sections(report),
        answer=answer(report),
        facts=facts(report),
        numbered=numbered,
        quoted=shlex.quote(report.study),
        made=f"{report.made:%Y-%m-%d %H:%M} {offset(report.made)}",
        run_link=lambda run_id: run_link(report.base, record.experiment_id, run_id) if record else "",
        trials_json=_trials(report),
        style=_read("report.css"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def page_path(study: str, directory: Path) -> Path:
    """Return the default path of a study's page."""
    return directory / "reports" / f"{file_name(study)}.html"


def write(text: str, path: Path) -> None:
    """Write a page atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined).get_template(
        "report.html"
    )


@cache
def _read(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _trials(report: Report) -> str:
    """Return the tooltip of each trial, as JSON that is safe inside HTML."""
    tooltips = {str(point.number): _tooltip(report, point) for point in report.trials}
    return json.dumps(tooltips, separators=(",", ":")).replace("<", "\\u003c")


def _tooltip(report: Report, point: TrialPoint) -> str:
    state = "" if point.complete else f", {_STATES.get(point.state.name, point.state.name.lower())}"
    after = " after {} {}".format(*point.reached) if state and point.reached and point.reached[1] else ""
    lines = [f"trial {point.number}{state}{after}"]
    lines += named(report.objectives, point.values)
    lines += [f"{key} {short(value)}" for key, value in point.params.items()]
    lines += [f"config {point.config or '?'}"] if report.summary.has_configs else []
    lines += [f"code {point.code}"] if point.code else []
    return "\n".join(lines)


_STATES = {"FAIL": "failed"}
