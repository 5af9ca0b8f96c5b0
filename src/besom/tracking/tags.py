"""The names of what is recorded: tags of runs in MLflow, attributes of studies and trials in Optuna.

Recorded runs and studies have them, so a name never changes.
"""

from __future__ import annotations


class Tag:
    """The names of a run's tags."""

    # Every run.
    STATE = "besom.state"
    REASON = "besom.reason"
    FAMILY = "besom.family"
    OVERRIDES = "besom.overrides"
    BEST_EPOCH = "besom.best_epoch"
    BEST_STEP = "besom.best_step"
    AXIS = "besom.axis"  # what MLflow's steps are: step or fold; without this tag, the epoch
    DEVICE = "besom.device"
    LOOP = "besom.loop"
    LOOP_BECAUSE = "besom.loop_because"
    TUNED = "besom.tuned"  # as JSON: the key, its value, the Tuner's method
    BY_STEP = "besom.by_step"  # the metrics that are recorded by training step, as a JSON list
    THREADS = "besom.threads"
    PARAMETERS = "besom.parameters"
    OUTPUT = "besom.output"
    COLUMNS = "besom.columns"
    CUDA = "besom.cuda"  # as JSON, like the next
    DETERMINISM = "besom.determinism"
    VERSION = "besom.version"  # of Besom; with a dot and a package's name, of that
    COMMAND = "mlflow.source.name"
    FOLDER = "besom.folder"
    CODE = "besom.code"  # the folder of the code in the artifacts of the study's run
    COMMIT = "mlflow.source.git.commit"
    DIRTY = "besom.git.dirty"
    DIFF = "besom.git.diff"
    SOURCES = "besom.sources"
    APP = "besom.app"  # how another Hydra app is started, as JSON
    NOTE = "mlflow.note.content"

    # A trial of a study.
    STUDY = "besom.study"
    PARENT_RUN = "mlflow.parentRunId"
    TRIAL = "besom.trial"
    ATTEMPT = "besom.attempt"
    FIRST_RUN = "besom.first_run"  # of a trial that was tried again
    BUNDLE = "besom.bundle"
    CONFIG = "besom.config"  # its number
    CODE_DIFFERS = "besom.code_differs"
    CONSTRAINTS = "besom.constraints"  # their values, as JSON
    FEASIBLE = "besom.feasible"

    # A finalist.
    FINALIST = "besom.finalist"  # the trial that it trains again
    SEED = "besom.seed"

    # A study.
    KIND = "besom.kind"
    TOKEN = "besom.token"
    OBJECTIVE = "besom.objective"
    DIRECTION = "besom.direction"
    BEST_RUN = "besom.best_run"
    BEST_PARAMS = "besom.best_params"
    WINNER = "besom.winner"
    WINNER_RUN = "besom.winner_run"

    # A run that was trained again.
    REPRODUCES = "besom.reproduces"
    VERDICT = "besom.verdict"
    REPRODUCED = "besom.reproduced"  # the verdict, on the first run
    REPRODUCED_BY = "besom.reproduced_by"

    # A version of a registered model.
    LOADER = "besom.loader"


STUDY, FINALIST = "study", "finalist"
"""The values of Tag.KIND: a study's run, and a run that trains a trial's config again. Trials have no such tag."""

INTERRUPTED, RETRIED = "INTERRUPTED", "RETRIED"
"""The values of Tag.STATE of a run that did not end its trial; otherwise it is the trial's state."""


class StudyAttribute:
    """The names of a study's user attributes."""

    SPEC = "besom.spec"
    SPACE = "besom.space"
    OBJECTIVE = "besom.objective"
    FIDELITY = "besom.fidelity"  # what its pruner counts; without this attribute, epochs
    N_TRIALS = "besom.n_trials"
    TOKEN = "besom.token"  # also a tag of its run
    PARENT_RUNS = "besom.parent_runs"  # former ones, and the present one last
    CONFIG = "besom.config"  # the flattened first config
    CONFIGS = "besom.configs"  # the values in which each later config differs from the first
    SEEDED = "besom.seeded"  # interpolations that depend on the seed, by key
    SOURCES = "besom.sources"
    FINALISTS = "besom.finalists"  # the `trials`, the `seeds` of each, and common `overrides`
    FINALIST = "besom.finalist "  # of a finalist's run, followed by the trial and the seed


class TrialAttribute:
    """The names of a trial's user attributes."""

    ABOUT = "besom"  # facts for the report
    OVERRIDES = "besom.overrides"


def short(tag: str) -> str:
    """Return a tag's name without its prefix: `device` for `besom.device`."""
    return tag.removeprefix("besom.")
