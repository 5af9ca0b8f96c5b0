"""A whole sweep, from Hydra's config to the leaderboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from besom.config import check, flatten, recordable, require_groups
from besom.errors import BesomError, ConfigError, Interrupted
from besom.report.leaderboard import Summary, next_steps, render, summarize
from besom.sweep.compose import Composer
from besom.sweep.loop import SweepLoop
from besom.sweep.progress import LiveBoard
from besom.sweep.space import SearchSpace, SpaceParser
from besom.sweep.spec import SweepSpec
from besom.sweep.study import StudyBook, build_sampler, config_changes, finished_trials, open_study
from besom.tracking.nothing import NoRecorder
from besom.tracking.provenance import code_tags
from besom.tracking.recorder import Recorder, Status
from besom.tracking.store import Location
from besom.tracking.views import runs_table, saved_view, view_key
from besom.workers.devices import Slot, find_slots
from besom.workers.pool import Launcher, WorkerPool, launch

_RUN_ID = "besom.run_id"


def run_sweep(
    config: DictConfig,
    arguments: Sequence[str],
    loader: ConfigLoader,
    task: TaskFunction,
    *,
    launcher: Launcher = launch,
) -> Sequence[Sequence[Any]]:
    """Run what is missing of a sweep and show what it came to.

    Raises BesomError for a sweep that cannot be run as it is written, Interrupted when the user stopped it.
    """
    if not getattr(task, "trains_besom_config", False):
        raise ConfigError("hydra/sweeper: besom trains Besom's own configs; start it with: besom sweep NAME")
    require_groups(config, f"{config.hydra.job.config_name}.yaml")
    spec = SweepSpec.read(config)
    parser = SpaceParser(loader, source=spec.source, arguments=arguments)
    sweeper = OmegaConf.to_container(config.hydra.sweeper)
    assert isinstance(sweeper, dict)
    space, fixed = parser.space(sweeper["params"], sweeper["when"])
    if not space.parameters:
        raise ConfigError(
            f"{spec.source}: hydra.sweeper.params: there is nothing to choose from; add a parameter, "
            "such as optimizer.lr: tag(log, interval(1e-4, 1e-1))"
        )
    build_sampler(spec, 0)  # before anything is made: it may not exist
    location = Location.of(config.tracking)
    location.prepare()
    slots = find_slots(spec.devices, per_device=spec.trials_per_device, limit=spec.n_jobs or spec.n_trials)
    scratch = location.directory / "scratch" / spec.folder

    console = Console()
    with ExitStack() as stack:
        # First of all, since torch takes a worker seconds to import, while the rest takes us seconds as well.
        logs = location.directory / "logs" / spec.folder
        pool = stack.enter_context(WorkerPool(slots, logs=logs, launcher=launcher))
        composer = Composer(loader, config, fixed)
        _check_examples(space, composer, spec)
        book = stack.enter_context(open_study(spec, space, location.directory))
        recorder = stack.enter_context(
            Recorder(location, config.tracking.experiment or spec.study_name)
            if config.tracking.enabled
            else NoRecorder()
        )
        shutil.rmtree(scratch, ignore_errors=True)  # what a parent that was killed left behind
        _announce(console, spec, space, slots, book)
        _warn_of_changes(console, space, composer, book)
        failure: Exception | None = None
        try:
            with _board(console, spec, slots, book) as board:
                _open_parent(recorder, book, spec, space)  # seconds, on the first use of a store
                loop = SweepLoop(
                    spec=spec, book=book, composer=composer, pool=pool, recorder=recorder, board=board,
                    scratch=scratch, tags={"besom.study": spec.study_name, **code_tags()},
                )  # fmt: skip
                loop.run()
                failure = loop.gave_up
        except Interrupted as stopped:
            failure = stopped
        except BaseException as error:
            recorder.close_study(Status.KILLED if isinstance(error, KeyboardInterrupt) else Status.FAILED, {}, {})
            raise
        summary = summarize(book.study, finished_trials(book.study), spec.objective, recorder.run_ids())
        _close_parent(recorder, summary, spec, failure)
        with suppress(OSError):
            scratch.rmdir()
    _tell(console, summary, spec, failure)
    return []


def _check_examples(space: SearchSpace, composer: Composer, spec: SweepSpec) -> None:
    """Compose every parameter and every choice once, so that a wrong key fails before anything is recorded."""
    for params in space.examples():
        try:
            config = composer.compose(params)
            check(config)
        except ConfigError as error:
            raise ConfigError(f"{spec.source}: {error}") from error


def _announce(console: Console, spec: SweepSpec, space: SearchSpace, slots: Sequence[Slot], book: StudyBook) -> None:
    left = max(0, spec.n_trials - book.done)
    todo = f"{left} of {spec.n_trials} trials to go" if left else f"all {spec.n_trials} trials are done"
    devices = f"{len(slots)} x {slots[0].device}, {slots[0].threads} thread(s) each"
    console.print(f"study [bold]{spec.study_name}[/]: {spec.direction} {spec.objective}; {todo}", highlight=False)
    console.print(f"devices: {devices}", highlight=False, markup=False)
    console.print(f"search space: {', '.join(space.keys)}", highlight=False, markup=False, soft_wrap=True)


def _warn_of_changes(console: Console, space: SearchSpace, composer: Composer, book: StudyBook) -> None:
    """Say what the trials to come do not share with those that are done: the leaderboard will not tell them apart."""
    start = dict(flatten(recordable(composer.compose(next(space.examples())))))
    shared = {key: value for key, value in start.items() if key not in space.keys and not key.startswith("tracking.")}
    changes = config_changes(book.study, shared)
    if changes and book.done:
        console.print(
            f"warning: since the study began, {', '.join(changes)}; trials that are done keep what they had "
            "(a study of its own: hydra.sweeper.study_name=NAME)",
            style="yellow", highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def _open_parent(recorder: Recorder, book: StudyBook, spec: SweepSpec, space: SearchSpace) -> None:
    tags = {
        "besom.kind": "study",
        "besom.study": spec.study_name,
        "besom.objective": spec.objective,
        "besom.direction": spec.direction,
        **code_tags(),
    }
    note = f"Besom sweep **{spec.study_name}**: {spec.direction} `{spec.objective}` over {', '.join(space.keys)}."
    parent = recorder.open_study(spec.study_name, run_id=book.study.user_attrs.get(_RUN_ID), tags=tags, note=note)
    if parent and parent != book.study.user_attrs.get(_RUN_ID):
        book.study.set_user_attr(_RUN_ID, parent)
    table = runs_table(
        study=spec.study_name,
        parent_run_id=parent,
        objective=spec.objective,
        direction=spec.direction,
        examples=list(space.examples()),
    )
    recorder.view(view_key(spec.study_name), saved_view(spec.study_name, table))


def _board(console: Console, spec: SweepSpec, slots: Sequence[Slot], book: StudyBook) -> LiveBoard:
    board = LiveBoard(
        console, title=spec.study_name, objective=spec.objective, direction=spec.direction,
        total=spec.n_trials, done=book.done, slots=len(slots),
    )  # fmt: skip
    known = summarize(book.study, finished_trials(book.study), spec.objective, {}).best
    if known is not None:
        board.best_known(known.value, known.trial)
    return board


def _close_parent(recorder: Recorder, summary: Summary, spec: SweepSpec, failure: Exception | None) -> None:
    best = summary.best
    metrics = {f"best/{spec.objective}": best.value} if best else {}
    tags = {"besom.best_run": best.run_id, "besom.best_params": json.dumps(best.params)} if best else {}
    status = Status.FINISHED if best and failure is None else Status.FAILED
    status = Status.KILLED if isinstance(failure, Interrupted) else status
    recorder.close_study(status, metrics, tags)


def _tell(console: Console, summary: Summary, spec: SweepSpec, failure: Exception | None) -> None:
    console.print(render(summary, console))
    best = summary.best
    missing = spec.n_trials - len(summary.rows) - sum(summary.failures.values())
    if missing > 0:
        console.print(f"stopped: {missing} of {spec.n_trials} trials are to come; the same command goes on from there")
    if failure is not None:
        raise failure
    if best is None:
        reason = next(iter(summary.failures), "none was run")
        raise BesomError(
            f"study {spec.study_name}: no trial is complete ({reason}); mend it, "
            "and start anew with hydra.sweeper.study_name=NAME"
        )
    next_steps(console, best)
    console.print(f"study {spec.study_name}", highlight=False)
    console.print(f"best run {best.run_id or 'none (tracking=none)'}", highlight=False)
