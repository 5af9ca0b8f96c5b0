"""A study's best trial as an experiment: a file for conf/experiment/ that trains exactly the trial's config.

The trial's config is composed again from its sweep file and its overrides. The file contains the differences from
`train.yaml`, and is composed and compared with the trial's config, so that it is exact.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial, TrialState

from besom.config.checks import flatten
from besom.config.hydra_versions import VERSION_BASE
from besom.config.messages import composing, explain
from besom.config.paths import conf_dir, file_name, find_sweep, search_path, sweep_search_path
from besom.config.schema import register_schemas
from besom.errors import ConfigError, RunNotFound
from besom.reports.format import named
from besom.reports.read.summary import about
from besom.reports.read.trials import plain_params
from besom.secrets.masks import hidden
from besom.studies.arguments import Arguments, job_arguments
from besom.studies.cards import StudyCard
from besom.sweep.space.overrides import to_overrides
from besom.tracking.app_command import AppCommand, is_other_app
from besom.tracking.tags import TrialAttribute

Plain = dict[str, Any]

_SHOWN_GROUPS = ("data", "model", "optimizer")  # listed even if they are the defaults of train.yaml
_LEFT_OUT = ("experiment", "tracking")  # the file is the experiment; whoever trains chooses the store


@dataclass(frozen=True, kw_only=True)
class BestConfig:
    """The best trial's config: `text` for a file in conf/experiment/, or only its `overrides` if it has no such form.

    `summary` is the trial and its values in words. `arguments` start one job of another Hydra app. `extra` are
    overrides that `besom train experiment=NAME` needs in addition: keys added or deleted, which such a file cannot
    express. `notes` are warnings for the user, one line each.
    """

    study: str
    trial: int
    summary: str
    overrides: tuple[str, ...]
    text: str | None = None
    arguments: Arguments | None = None
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def best_config(
    card: StudyCard, trial: int | None, *, folders: Sequence[Path], directory: Path, sweep: str | None = None
) -> BestConfig:
    """Return the config of a study's best trial, or of the trial with that number.

    For a study with finalists, it is the winner's, with the overrides of the finalists (`finalists.overrides`).

    `folders` hold the user's own configs, `directory` the studies' files; `sweep` names the sweep file, if it is not
    the one recorded in the study.
    Raises RunNotFound when there is no such trial, ConfigError when its config can no longer be composed.
    """
    chosen = _choose(card, trial)
    on_top = to_overrides(card.on_top) if trial is None and chosen.number == card.winner else []
    summary = _summary(card, chosen, on_top)
    overrides = (*(chosen.user_attrs.get(TrialAttribute.OVERRIDES) or to_overrides(plain_params(chosen))), *on_top)
    file = _sweep_file(card, folders, sweep)
    best = BestConfig(study=card.name, trial=chosen.number, summary=summary, overrides=overrides)
    if is_other_app(card.described) if file is None else not _is_besom_sweep(file, folders):
        return replace(best, arguments=_arguments(card, chosen, overrides, directory))
    if file is None:
        source = card.described.get("source", "its sweep file")
        note = (
            f"{source} was not found here, so these are the trial's overrides alone; add the sweep's --config-dir DIR, "
            "or --sweep FILE"
        )
        return replace(best, notes=(note,))
    target, choices = _compose(sweep_search_path(file, folders), file.stem, overrides)
    text, extra = _experiment(summary, target, choices, folders, overrides)
    return replace(best, text=text, extra=extra, notes=tuple(_changes(card, chosen, target, overrides)))


def _arguments(card: StudyCard, trial: FrozenTrial, overrides: Sequence[str], directory: Path) -> Arguments:
    command = AppCommand.read(card.described.get("command"))
    return job_arguments(
        overrides,
        flags=command.flags if command else (),
        groups=card.described.get("groups", ()),
        folder=directory / "best",
        name=f"besom_best_{file_name(card.name)}_{trial.number}",  # which no config of the app has
        config_name=card.described.get("config_name", str(card.described.get("source", "")).removesuffix(".yaml")),
    )


def command_line(overrides: Sequence[str]) -> str:
    """Return the overrides quoted for a shell."""
    return " ".join(map(shlex.quote, overrides))


def save(best: BestConfig, name: str, conf: Path) -> Path:
    """Write the experiment to experiment/NAME.yaml in the folder `conf`; return the path.

    Raises ConfigError when the file exists, or the config has no form as an experiment.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(f"--save: '{name}' is no name of an experiment; use letters, digits, _ and -")
    if best.arguments is not None:
        raise ConfigError(
            f"--save: study '{best.study}' is of another Hydra app, whose experiments Besom does not know; "
            "leave it out: what is printed are the arguments of a job"
        )
    if best.text is None:
        raise ConfigError(f"--save: study '{best.study}' has no config that could be written; {'; '.join(best.notes)}")
    path = conf / "experiment" / f"{name}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(best.text.replace("experiment=NAME", f"experiment={name}"))
    except FileExistsError as error:
        raise ConfigError(f"--save: {path} exists; choose another name, or move it away") from error
    except OSError as error:
        raise ConfigError(f"--save: {path} cannot be written ({error.strerror}); make its folder writable") from error
    return path


def train_command(name: str, extra: Sequence[str], conf: Path) -> str:
    """Return the command that trains an experiment saved in the folder `conf`."""
    shipped = conf.resolve() == conf_dir().resolve()
    folder = [] if shipped else ["--config-dir", str(conf)]
    return f"besom train {command_line([*folder, f'experiment={name}', *extra])}"


def _choose(card: StudyCard, number: int | None) -> FrozenTrial:
    if number is None:
        if card.chosen is None:
            raise RunNotFound(f"study '{card.name}' has no complete trial yet; name any other with --trial N")
        return card.chosen
    for trial in card.trials:
        if trial.number == number and (trial.params or trial.user_attrs.get(TrialAttribute.OVERRIDES)):
            return trial
    raise RunNotFound(f"study '{card.name}' has no trial {number} with parameters; it has {len(card.trials)} trials")


def _summary(card: StudyCard, trial: FrozenTrial, on_top: Sequence[str]) -> str:
    subject = f"trial {trial.number} of study {card.name}"
    if trial.state is not TrialState.COMPLETE:
        return f"{subject}: {trial.state.name}"
    added = f", with {' '.join(on_top)}" if on_top else ""
    won = f"; it won among the finalists{added}" if trial.number == card.winner else ""
    return f"{subject}: {', '.join(named(card.objectives, trial.values))}{won}"


def _sweep_file(card: StudyCard, folders: Sequence[Path], sweep: str | None) -> Path | None:
    if sweep is not None:
        return find_sweep(sweep, folders)
    try:
        return find_sweep(str(card.described.get("source", "")).removesuffix(".yaml"), folders)
    except ConfigError:
        return None


def _is_besom_sweep(file: Path, folders: Sequence[Path]) -> bool:
    try:
        config, _ = _compose(sweep_search_path(file, folders), file.stem, ())
    except ConfigError:
        return True  # composing the trial's config will raise the error
    return {"data", "model", "optimizer", "trainer"} <= config.keys()


def _compose(folders: Sequence[Path], name: str, overrides: Sequence[str]) -> tuple[Plain, Mapping[str, Any]]:
    """Return the unresolved config without its `hydra` and `tracking` nodes, and the choice of each config group."""
    register_schemas()
    first, *others = dict.fromkeys(folder.resolve() for folder in folders)
    try:
        with (
            composing(f"{name}.yaml"),
            search_path(others),
            initialize_config_dir(config_dir=str(first), **VERSION_BASE),
        ):
            config = hydra.compose(name, overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{name}.yaml: {explain(error)}") from error
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        for node in ("hydra", "tracking"):
            config.pop(node, None)
    return _plain(config), choices


def _plain(config: DictConfig) -> Plain:
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _experiment(
    summary: str, target: Plain, choices: Mapping[str, Any], folders: Sequence[Path], overrides: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """Return the text of an experiment with that config, and the overrides that it needs in addition.

    Raises ConfigError when there is none.
    """
    usual_config, usual = _compose([*folders, conf_dir()], "train", ())
    groups = {name: choices[name] for name in usual_config if name in usual and choices.get(name) is not None}
    groups = {name: choice for name, choice in groups.items() if name not in _LEFT_OUT}
    base, _ = _compose([*folders, conf_dir()], "train", to_overrides(groups))
    shown = {name: choice for name, choice in groups.items() if name in _SHOWN_GROUPS or choice != usual[name]}
    changed, added = _difference(target, base)
    deleted = tuple(f"~{key}" for key in _missing(base, target))
    in_file = (_with(changed, added), deleted)
    beside = (changed, (*deleted, *to_overrides({f"+{key}": value for key, value in added.items()})))
    for body, extra in (in_file, beside) if added else (beside,):
        text = _written(summary, shown, body, extra)
        if _trains(text, extra, target, folders):
            return text, extra
    raise ConfigError(
        f"{summary}: its config has no form as an experiment; besom train needs: {command_line(overrides)}"
    )


def _written(summary: str, groups: Mapping[str, Any], body: Plain, extra: Sequence[str]) -> str:
    command = " ".join(["besom train experiment=NAME", *([command_line(extra)] if extra else [])])
    head = ["# @package _global_", f"# {command}        {summary}", "defaults:"]
    head += [f"  - override /{group}: {choice}" for group, choice in groups.items()]
    dumped = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110) if body else ""
    return "\n".join([*head, "", dumped.rstrip()]).rstrip() + "\n"


def _trains(text: str, extra: Sequence[str], target: Plain, folders: Sequence[Path]) -> bool:
    """Return whether an experiment with that text and these extra overrides composes to exactly the target config."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "experiment").mkdir()
        (folder / "experiment" / "besom_best.yaml").write_text(text, encoding="utf-8")
        try:
            composed, _ = _compose([folder, *folders, conf_dir()], "train", ["experiment=besom_best", *extra])
        except ConfigError:
            return False
    return _comparable(composed) == _comparable(target)


def _comparable(config: Plain) -> dict[str, str]:
    # As text, so that 1, 1.0 and True differ, and NaN equals itself.
    return {key: repr(value) for key, value in flatten(config)}


def _difference(target: Plain, base: Plain, prefix: str = "") -> tuple[Plain, Plain]:
    """Return the values that differ from `base`, as a tree, and the keys missing in `base`, by dotted key."""
    changed: Plain = {}
    added: Plain = {}
    for key, value in target.items():
        if key not in base:
            added[f"{prefix}{key}"] = value
        elif isinstance(value, dict) and isinstance(base[key], dict):
            inner, more = _difference(value, base[key], f"{prefix}{key}.")
            changed |= {key: inner} if inner else {}
            added |= more
        elif repr(base[key]) != repr(value):
            changed[key] = value
    return changed, added


def _missing(base: Plain, target: Plain, prefix: str = "") -> list[str]:
    """Return the dotted keys of `base` that `target` lacks."""
    found: list[str] = []
    for key, value in base.items():
        if key not in target:
            found.append(f"{prefix}{key}")
        elif isinstance(value, dict) and isinstance(target[key], dict):
            found += _missing(value, target[key], f"{prefix}{key}.")
    return found


def _with(tree: Plain, values: Plain) -> Plain:
    """Return a copy of a tree with values set at dotted keys."""
    tree = deepcopy(tree)
    for key, value in values.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def _changes(card: StudyCard, trial: FrozenTrial, target: Plain, overrides: Sequence[str]) -> list[str]:
    """Return a note for each value of the sweep file that has changed since, unless the trial's overrides set it."""
    chosen = [name.partition(" ")[0] for name in trial.params] + [override.partition("=")[0] for override in overrides]
    keys = [key.lstrip("+~").partition("@")[0] for key in chosen]
    if "experiment" in keys:
        return []
    now = {key: str(hidden(key, value)) for key, value in flatten(target)}
    config = about(trial).get("config") or 1
    when = "the study began" if config == 1 else "the trial was trained"
    return [
        f"its sweep file has changed since {when}: {key} was {before}, is {now[key]}"
        for key, before in card.configs.get(config, {}).items()
        if key in now and "${" not in now[key] and now[key] != before
        if not any(f"{key}.".startswith(f"{prefix}.") for prefix in keys)
    ]
