"""A whole sweep, from the app and its request to the leaderboard."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from besom.config.objectives import Objective
from besom.config.snapshot import Snapshot
from besom.errors import BesomError, ConfigError, Interrupted
from besom.reports.read.finalists import Finalists, read_finalists
from besom.reports.read.report import Report
from besom.reports.text.leaderboard import Summary, summarize
from besom.secrets.masks import hidden_override
from besom.sweep.dry_run.show import dry_run
from besom.sweep.finalists.book import FinalistsBook
from besom.sweep.finalists.choose import missing
from besom.sweep.finalists.observer import FinalistsObserver
from besom.sweep.finish import keep_report, register_winner
from besom.sweep.loop import SweepLoop
from besom.sweep.progress.console import announce, print_results, warn_left_out, warn_of_chance, warn_of_changes
from besom.sweep.progress.display import sweep_observer
from besom.sweep.progress.events import Warned
from besom.sweep.progress.log import LogFile
from besom.sweep.space.constraints import parse_constraints
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import FinalistsSpec
from besom.sweep.study.config import following_the_seed
from besom.sweep.study.enqueue import known_good
from besom.sweep.study.recovery import adopt_finalists, adopt_recorded
from besom.sweep.study.samplers import build_pruner, build_sampler
from besom.sweep.study.study import StudyBook, finished_trials, open_study
from besom.sweep.training_app import App
from besom.system.console import plain_console, warn
from besom.system.interrupts import ending_in_order
from besom.system.output import lossy_output
from besom.tracking.provenance import command_tags
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.study_run import Status
from besom.tracking.tags import STUDY, StudyAttribute, Tag
from besom.tracking.ui.views import saved_views, view_key
from besom.tracking.writers.entries import as_markdown
from besom.workers.pool import Pool


@lossy_output()
@ending_in_order()
def run_sweep(app: App) -> Sequence[Sequence[Any]]:
    """Run the missing trials of a sweep and show its results; return the results for Hydra.

    Raises BesomError for a sweep that cannot run as written, or without a complete trial; Interrupted when the user
    stopped it.
    """
    console, spec = plain_console(), app.request.spec
    if spec.dry_run:
        _run_dry(console, app)
        return []
    build_sampler(spec.search, 0, app.request.space)  # before anything is created: they may be invalid
    build_pruner(spec.search)
    app.location.prepare()
    scratch = app.location.directory / "scratch" / spec.folder
    logs = app.location.directory / "logs" / spec.folder
    with ExitStack() as stack:
        configs = stack.enter_context(app.snapshot(scratch.parent))
        # Start the workers first: they import torch for seconds, while the parent prepares the rest.
        pool = stack.enter_context(app.pool(logs))
        app.check()
        if not app.chooses:
            return app.run_once(pool, scratch)
        sweep = _Sweep(app, console, configs, pool, scratch, logs, stack)
        end = _run(sweep)
        app.save_results(sweep.book.study, end.summary)
        with suppress(OSError):
            scratch.rmdir()
    print_results(
        console, end.summary, spec, sweep.book, end.failure,
        location=app.location, logs=logs, finalists=end.finalists, kept=end.kept, registered=end.registered,
        recorded=sweep.recorder.persists,
    )  # fmt: skip
    return app.results()


def _run_dry(console: Console, app: App) -> None:
    """Show what the sweep would do. Raises ConfigError at the end if anything would fail."""
    spec = app.request.spec
    errors = dry_run(
        console, spec=spec, space=app.request.space, composer=app.composer,
        check=app.check_config, inspect_code=app.inspect,
    )  # fmt: skip
    if errors:
        others = f" ({len(errors) - 1} more, marked above)" if len(errors) > 1 else ""
        raise ConfigError(f"{spec.source}: {errors[0]}{others}")


class _Sweep:
    """The open resources of a sweep, among them its study and its recorder, until the stack is closed."""

    def __init__(
        self, app: App, console: Console, configs: Snapshot, pool: Pool, scratch: Path, logs: Path, stack: ExitStack
    ) -> None:
        self.app, self.spec, self.space = app, app.request.spec, app.request.space
        self.console, self.configs, self.pool = console, configs, pool
        self.scratch, self.log = scratch, logs / "sweep.log"
        known = known_good(self.spec, self.space, app.location.directory)
        self.book = stack.enter_context(open_study(self.spec, self.space, app.location.directory))
        self.recorder = stack.enter_context(app.recorder())
        shutil.rmtree(scratch, ignore_errors=True)  # left behind by a killed parent process
        _describe(self.book, app)
        self.book.enqueue(known)
        announce(console, self.spec, self.space, pool.slots, self.book)
        self.config = warn_of_changes(console, app.shared(), self.book)
        if self.book.done < (self.book.total or 1):
            warn_of_chance(console, self.spec, app.limit(app.fidelity))
        self.tags = {Tag.STUDY: self.spec.study_name, Tag.CONFIG: str(self.config), **command_tags()}


@dataclass(frozen=True, kw_only=True)
class _End:
    """The results of a sweep; `kept` is its report and the path, `registered` the winner's name in the registry."""

    summary: Summary
    finalists: Finalists | None
    kept: tuple[Report, Path] | None
    registered: str
    failure: Exception | None


def _run(sweep: _Sweep) -> _End:
    """Run the search, train the finalists, and record the results."""
    spec, book, recorder, location = sweep.spec, sweep.book, sweep.recorder, sweep.app.location
    with _closed_on_error(recorder):
        failure = _search(sweep)
        summary = summarize(book.study, finished_trials(book.study), spec.search.objectives, recorder.run_ids())
        if spec.finalists is not None and failure is None:
            failure = _retrain(sweep, spec.finalists, summary)
    finalists = read_finalists(book.study, summary) if spec.finalists is not None and failure is None else None
    _publish_view(recorder, spec, sweep.space, important=list(summary.importances.shares))
    _close_parent(recorder, summary, finalists, spec.search.objective, failure)
    kept = keep_report(sweep.console, recorder, book, summary, spec.search.objectives, location)
    registered = ""
    try:
        name = spec.finalists.register if spec.finalists else None
        registered = register_winner(recorder, finalists, name, location)
    except BesomError as error:
        failure = BesomError(f"{spec.source}: hydra.sweeper.finalists.register: {error}")
    for notice in recorder.notices():
        warn(sweep.console, notice)
    return _End(summary=summary, finalists=finalists, kept=kept, registered=registered, failure=failure)


def _search(sweep: _Sweep) -> Exception | None:
    """Run the missing trials; return the exception that ended the search early, if any."""
    spec, book, recorder, slots = sweep.spec, sweep.book, sweep.recorder, sweep.pool.slots
    try:
        with sweep_observer(
            sweep.console, spec, slots, book.study, total=book.total, log=sweep.log, axis=sweep.app.axis,
            limit=sweep.app.limit(sweep.app.axis),
        ) as observer:  # fmt: skip
            if notice := _open_parent(recorder, book, spec, sweep.space):  # seconds, on the first use of a store
                observer(Warned(text=notice))
            if recorded := recorder.record_kept():
                notice = f"recorded {len(recorded)} of its runs, which the tracking server had missed"
                observer(Warned(text=notice))
            adopt_recorded(recorder, book, spec.search)
            recorder.keep_code()
            loop = SweepLoop(
                spec=spec, book=book, jobs=sweep.app.jobs(sweep.tags), pool=sweep.pool, recorder=recorder,
                observer=observer, scratch=sweep.scratch, warnings=sweep.configs.warnings,
                members=spec.devices.members(slots, spec.budget, learns=spec.search.learns),
                constraints=parse_constraints(spec.search.constraints, spec.source),
            )  # fmt: skip
            loop.run()
    except Interrupted as stopped:
        return stopped
    if loop.was_stopped and spec.finalists is not None:
        return Interrupted()  # the last trials still ended; the user wants no finalists any more
    return loop.gave_up


def _retrain(sweep: _Sweep, finalists: FinalistsSpec, summary: Summary) -> Exception | None:
    """Run the missing runs of the finalists; return Interrupted if the user stopped it."""
    spec, book, recorder = sweep.spec, sweep.book, sweep.recorder
    adopt_finalists(recorder, book, spec.search.objectives)
    choose = partial(missing, finalists, sweep.space, book, summary, seed=spec.search.seed)
    runs, jobs = sweep.app.finalist_jobs(recorder, book, choose, sweep.tags, number=sweep.config)
    for row, why in runs.left_out:
        warn_left_out(sweep.console, row, why)
    if not runs.entries:
        return None
    log, objectives = LogFile(sweep.log), spec.search.objectives
    try:
        with FinalistsObserver(sweep.console, log, objectives, runs.entries, quiet=spec.quiet) as observer:
            SweepLoop(
                spec=replace(spec, budget=replace(spec.budget, timeout_s=None, max_failure_rate=1.0)),
                book=FinalistsBook(runs.entries, book, recorder, objectives), jobs=jobs, pool=sweep.pool,
                recorder=recorder, observer=observer, scratch=sweep.scratch, finish_epochs=False,
            ).run()  # fmt: skip
    except Interrupted as stopped:
        return stopped
    return None


@contextmanager
def _closed_on_error(recorder: Recorder) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        recorder.close_study(Status.KILLED if isinstance(error, KeyboardInterrupt) else Status.FAILED, {}, {})
        raise


def _describe(book: StudyBook, app: App) -> None:
    """Store the study attributes that `besom studies`, `besom best` and the finalists need."""
    spec, space = app.request.spec, app.request.space
    objectives = [[objective.name, objective.direction] for objective in spec.search.objectives]
    described = {
        "objectives": objectives,
        "fixed": [hidden_override(override) for override in app.request.line.fixed],
        "source": spec.source,
        "app": app.kind,
        **app.described(),
    }
    attrs = {StudyAttribute.SPEC: described, StudyAttribute.N_TRIALS: book.total}
    if app.kind == "besom":
        before = book.study.user_attrs.get(StudyAttribute.SEEDED, {})
        attrs[StudyAttribute.SEEDED] = {**before, **following_the_seed(space, app.composer)}
    for key, value in attrs.items():
        if book.study.user_attrs.get(key) != value:
            book.set_user_attr(key, value)


def _open_parent(recorder: Recorder, book: StudyBook, spec: SweepSpec, space: SearchSpace) -> str | None:
    """Create or resume the study's run; return a warning if its former run was deleted from MLflow."""
    token = book.study.user_attrs.get(StudyAttribute.TOKEN)
    if token is None:
        token = uuid.uuid4().hex
        book.set_user_attr(StudyAttribute.TOKEN, token)
    goal, leader = ", ".join(map(str, spec.search.objectives)), spec.search.objective
    tags = {
        Tag.KIND: STUDY,
        Tag.STUDY: spec.study_name,
        Tag.OBJECTIVE: leader.name,
        Tag.DIRECTION: leader.direction,
        **command_tags(),
    }
    keys = ", ".join(space.keys)
    note = f"Besom sweep **{as_markdown(spec.study_name)}**: {as_markdown(goal)} over {as_markdown(keys)}."
    parents = list(book.study.user_attrs.get(StudyAttribute.PARENT_RUNS, ()))
    parent = recorder.open_study(spec.study_name, token=token, tags=tags, note=note, former=parents)
    _publish_view(recorder, spec, space)
    if not parent or parent in parents:
        return None
    book.set_user_attr(StudyAttribute.PARENT_RUNS, [*parents, parent])
    if not parents:
        return None
    return (
        f"the study's run {parents[-1]} is not in MLflow any more; it has a new one, {parent}; its trials keep theirs"
    )


def _publish_view(recorder: Recorder, spec: SweepSpec, space: SearchSpace, *, important: Sequence[str] = ()) -> None:
    views = saved_views(
        spec.study_name,
        parent_run_id=recorder.parent_run_id(),
        objective=spec.search.objective.name,
        direction=spec.search.objective.direction,
        examples=list(space.examples()),
        important=important,
    )
    recorder.view(view_key(spec.study_name), *views)


def _close_parent(
    recorder: Recorder, summary: Summary, finalists: Finalists | None, objective: Objective, failure: Exception | None
) -> None:
    best = summary.best
    metrics = {objective.best_metric: best.value} if best else {}
    tags = {Tag.BEST_RUN: best.run_id, Tag.BEST_PARAMS: json.dumps(best.params)} if best else {}
    if finalists is not None:
        metrics, tags = {**metrics, **_tested(finalists)}, {**tags, **_winner(finalists)}
    status = Status.FINISHED if best and failure is None else Status.FAILED
    status = Status.KILLED if isinstance(failure, Interrupted) else status
    recorder.close_study(status, metrics, tags)


def _tested(finalists: Finalists) -> dict[str, float]:
    """Return the winner's metrics on the test part: the mean, and its 95 % confidence interval."""
    test = finalists.winner.test if finalists.winner else None
    if test is None:
        return {}
    name = finalists.objective.test_metric
    metrics = {name: test.mean, f"{name}_low": test.low, f"{name}_high": test.high}
    return {name: value for name, value in metrics.items() if value is not None}


def _winner(finalists: Finalists) -> dict[str, str]:
    """Return the tags for the winning trial, and for the best of its runs."""
    best = finalists.winner.best if finalists.winner else None
    return {Tag.WINNER: str(best.trial), Tag.WINNER_RUN: best.run_id} if best else {}
