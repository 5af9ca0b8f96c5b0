"""A whole sweep, from Hydra's config to the leaderboard."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from besom.errors import ConfigError, Interrupted
from besom.reports.leaderboard import Summary, summarize
from besom.sweep.announce import announce, tell_end, warn_of_changes
from besom.sweep.app import App, TrainingApp
from besom.sweep.closing import keep_report
from besom.sweep.constraints import parse_constraints
from besom.sweep.dry_run import dry_run
from besom.sweep.foreign import ForeignApp
from besom.sweep.known import known_good
from besom.sweep.launcher_pool import uses_launcher
from besom.sweep.loop import SweepLoop
from besom.sweep.progress import make_boards
from besom.sweep.recovery import adopt_recorded
from besom.sweep.samplers import build_pruner, build_sampler
from besom.sweep.space import SearchSpace, SpaceParser
from besom.sweep.spec import SweepSpec
from besom.sweep.study import StudyBook, finished_trials, open_study
from besom.tracking.provenance import code_tags
from besom.tracking.recorder import Recorder
from besom.tracking.study_runs import Status
from besom.tracking.views import runs_table, saved_view, view_key
from besom.workers.pool import Launcher, launch

_TOKEN = "besom.token"


def run_sweep(
    config: DictConfig,
    arguments: Sequence[str],
    context: HydraContext,
    task: TaskFunction,
    *,
    launcher: Launcher = launch,
) -> Sequence[Sequence[Any]]:
    """Run what is missing of a sweep and show what it came to.

    Returns what Hydra is given back. Raises BesomError for a sweep that cannot be run as it is written, or that came
    to nothing; Interrupted when the user stopped it.
    """
    spec = SweepSpec.read(config, foreign=not getattr(task, "trains_besom_config", False))
    parser = SpaceParser(context.config_loader, source=spec.source, arguments=arguments)
    keys = OmegaConf.to_container(config.hydra.sweeper)
    assert isinstance(keys, dict)
    space, line = parser.space(keys["params"], keys["when"], custom=spec.custom_search_space, config=config)
    app: App
    if getattr(task, "trains_besom_config", False) and not uses_launcher(config):
        app = TrainingApp(config, context, spec, space, line, launcher)
    else:
        app = ForeignApp(config, context, task, spec, space, line, launcher)
    console = Console()
    if spec.dry_run:
        if dry_run(console, spec=spec, space=space, composer=app.composer, check=app.check_config):
            raise ConfigError(f"{spec.source}: a dry run found what would fail; it is marked above")
        return []
    build_sampler(spec, 0, space)  # before anything is made: it may not exist
    build_pruner(spec)
    app.location.prepare()
    scratch = app.location.directory / "scratch" / spec.folder
    logs = app.location.directory / "logs" / spec.folder
    with ExitStack() as stack:
        # First of all, since torch takes a worker seconds to import, while the rest takes us seconds as well.
        pool = stack.enter_context(app.pool(logs))
        app.check()
        if not app.chooses:
            return app.run_once(pool, scratch)
        known = known_good(spec, space, app.location.directory)
        book = stack.enter_context(open_study(spec, space, app.location.directory))
        recorder = stack.enter_context(app.recorder())
        shutil.rmtree(scratch, ignore_errors=True)  # what a parent that was killed left behind
        _describe(book, spec, line.fixed, app=app.kind)
        book.enqueue(known)
        announce(console, spec, space, pool.slots, book)
        warn_of_changes(console, app.shared(), book)
        failure: Exception | None = None
        try:
            with make_boards(
                console, spec, pool.slots, book.study,
                total=book.total, log=logs / "sweep.log", max_epochs=app.max_epochs,
            ) as board:  # fmt: skip
                _open_parent(recorder, book, spec, space)  # seconds, on the first use of a store
                adopt_recorded(recorder, book, spec)
                loop = SweepLoop(
                    spec=spec, book=book, jobs=app.jobs({"besom.study": spec.study_name, **code_tags()}), pool=pool,
                    recorder=recorder, board=board, scratch=scratch, lanes=spec.lanes(pool.slots),
                    constraints=parse_constraints(spec.constraints, spec.source),
                )  # fmt: skip
                loop.run()
                failure = loop.gave_up
        except Interrupted as stopped:
            failure = stopped
        except BaseException as error:
            recorder.close_study(Status.KILLED if isinstance(error, KeyboardInterrupt) else Status.FAILED, {}, {})
            raise
        summary = summarize(book.study, finished_trials(book.study), spec.objectives, recorder.run_ids())
        _close_parent(recorder, summary, spec, failure)
        kept = keep_report(console, recorder, book, summary, spec, app.location)
        with suppress(OSError):
            scratch.rmdir()
    tell_end(console, summary, spec, book, failure, location=app.location, logs=logs, kept=kept)
    return app.results()


def _describe(book: StudyBook, spec: SweepSpec, fixed: Sequence[str], *, app: str) -> None:
    """Write with the study what `besom studies` and `besom best` tell of it."""
    objectives = [[one.name, one.direction] for one in spec.objectives]
    described = {"objectives": objectives, "fixed": list(fixed), "source": spec.source, "app": app}
    for key, value in (("besom.spec", described), ("besom.n_trials", book.total)):
        if book.study.user_attrs.get(key) != value:
            book.set_user_attr(key, value)


def _open_parent(recorder: Recorder, book: StudyBook, spec: SweepSpec, space: SearchSpace) -> None:
    token = book.study.user_attrs.get(_TOKEN)
    if token is None:
        token = uuid.uuid4().hex
        book.set_user_attr(_TOKEN, token)
    goal, leader = ", ".join(map(str, spec.objectives)), spec.objective
    tags = {
        "besom.kind": "study",
        "besom.study": spec.study_name,
        "besom.objective": leader.name,
        "besom.direction": leader.direction,
        **code_tags(),
    }
    note = f"Besom sweep **{spec.study_name}**: {goal} over {', '.join(space.keys)}."
    parent = recorder.open_study(spec.study_name, token=token, tags=tags, note=note)
    table = runs_table(
        study=spec.study_name,
        parent_run_id=parent,
        objective=leader.name,
        direction=leader.direction,
        examples=list(space.examples()),
    )
    recorder.view(view_key(spec.study_name), saved_view(spec.study_name, table))


def _close_parent(recorder: Recorder, summary: Summary, spec: SweepSpec, failure: Exception | None) -> None:
    best = summary.best
    metrics = {f"best/{spec.objective.name}": best.value} if best else {}
    tags = {"besom.best_run": best.run_id, "besom.best_params": json.dumps(best.params)} if best else {}
    status = Status.FINISHED if best and failure is None else Status.FAILED
    status = Status.KILLED if isinstance(failure, Interrupted) else status
    recorder.close_study(status, metrics, tags)
