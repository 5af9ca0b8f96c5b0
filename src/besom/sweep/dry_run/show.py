"""The output of `--dry-run`: what a sweep would do, and its errors and warnings. Nothing is trained or recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import optuna
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from rich.console import Console
from rich.table import Table
from rich.text import Text

from besom.config.checks import recordable
from besom.errors import ConfigError
from besom.secrets.masks import mask
from besom.sweep.compose import Composer
from besom.sweep.dry_run.checks import Check, Lint, lint
from besom.sweep.dry_run.tables import told_of_tables
from besom.sweep.finalists.choose import describe
from besom.sweep.space.overrides import to_text
from besom.sweep.space.search_space import Parameter, Params, SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import FinalistsSpec, SearchSpec
from besom.sweep.study.grid import Grid
from besom.sweep.study.samplers import build_sampler, with_target

_SHOWN = 3


def dry_run(
    console: Console,
    *,
    spec: SweepSpec,
    space: SearchSpace,
    composer: Composer,
    check: Check,
    inspect_code: Callable[[], Sequence[str]] = tuple,
) -> list[str]:
    """Print the search space, the first trials, the errors and the warnings; return the errors.

    `check` raises ConfigError for a composed config that cannot be trained; `inspect_code` returns the errors in the
    code that the configs name.
    """
    objectives = ", ".join(map(str, spec.search.objectives))
    _print(console, f"study {spec.study_name}: {objectives}   (a dry run: nothing is trained)")
    console.print()
    console.print(_table(space))
    console.print()
    for name, text in (*_facts(spec, space), *_data(space, composer)):
        console.print(Text.assemble((f"{name:<12}", "bold"), text), soft_wrap=True)
    for number, params in enumerate(_first_trials(spec.search, space)):
        console.print()
        chosen = "  ".join(composer.overrides(params))
        console.print(Text.assemble((f"trial {number}", "bold"), f"  {chosen}"), soft_wrap=True)
        _print(console, _yaml(composer, params))
    lints = [*(Lint(text=text, is_error=True) for text in inspect_code()), *lint(spec, space, composer, check)]
    console.print()
    _print_lints(console, lints)
    return [found.text for found in lints if found.is_error]


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _table(space: SearchSpace) -> Table:
    table = Table(title="search space", title_justify="left", box=None)
    table.add_column("parameter", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("values", overflow="fold")
    conditional = any(parameter.conditions for parameter in space.parameters)
    if conditional:
        table.add_column("exists where", overflow="fold")
    for parameter in space.parameters:
        where = " and ".join(map(str, parameter.conditions)) or "always"
        cells = [parameter.key, _kind(parameter), _values(parameter), *([where] if conditional else [])]
        table.add_row(*map(Text, cells))
    if space.custom is not None:
        table.add_row(Text("…"), Text("Python"), Text(f"what {space.custom.name} asks for"))
    return table


def _kind(parameter: Parameter) -> str:
    match parameter.distribution:
        case CategoricalDistribution():
            return "choice"
        case IntDistribution(log=log):
            return "whole, log" if log else "whole"
    return "real, log" if parameter.distribution.log else "real"  # type: ignore[attr-defined]


def _values(parameter: Parameter) -> str:
    return parameter.range.removeprefix("choose from ").removeprefix("whole numbers ")


def _facts(spec: SweepSpec, space: SearchSpace) -> Iterator[tuple[str, str]]:
    search, size = spec.search, space.size()
    yield "points", "infinitely many" if size is None else f"{size:,}"
    yield "sampler", _named(with_target(search.sampler), default_seed=search.seed)
    yield "pruner", _named(dict(search.pruner)) if search.pruner else "none"
    yield "budget", _budget(spec, size)
    if spec.finalists is not None:
        yield "finalists", f"{describe(spec.finalists)}: {_runs(spec.finalists)}"
    if search.constraints:
        yield "constraints", "; ".join(search.constraints)
    if search.enqueue or search.enqueue_from:
        other = [f"the best of {search.enqueue_from}"] if search.enqueue_from else []
        own = [f"{len(search.enqueue)} of your own"] if search.enqueue else []
        yield "first", " and ".join([*own, *other])


def _data(space: SearchSpace, composer: Composer) -> Iterator[tuple[str, str]]:
    configs = []
    for params in space.examples(at_least_one=True):
        with suppress(ConfigError):  # `lint` reports it
            configs.append(composer.compose(params))
    for line in dict.fromkeys(told_of_tables(configs)):
        yield "data", line


def _runs(finalists: FinalistsSpec) -> str:
    fewest = finalists.top * finalists.seeds
    if not finalists.tested:
        return f"{fewest} runs"
    return f"{fewest} runs, or {fewest + finalists.seeds} if the baseline is not one of the best {finalists.top}"


def _named(node: dict[str, object], default_seed: int | None = None) -> str:
    """Return a sampler or a pruner as text, with the arguments that differ from the defaults of its class."""
    name = str(node.get("_target_", "")).removeprefix("optuna.samplers.").removeprefix("optuna.pruners.")
    kind = getattr(optuna.samplers, name, None) or getattr(optuna.pruners, name, None)
    arguments = inspect.signature(kind).parameters if kind else {}
    usual = {key: argument.default for key, argument in arguments.items()}
    if default_seed is not None and node.get("seed") is None:
        node = {**node, "seed": default_seed}
    keys = [
        f"{key}={_short(value)}"
        for key, value in node.items()
        if key[0] != "_" and value is not None and value != usual.get(key)
    ]
    return f"{name}({', '.join(keys)})" if keys else name


def _short(value: object) -> str:
    if isinstance(value, dict) and "_target_" in value:
        return _named(value)
    return to_text(value)


def _budget(spec: SweepSpec, size: int | None) -> str:
    budget = spec.budget
    is_grid = str(with_target(spec.search.sampler)["_target_"]).endswith(("GridSampler", "BruteForceSampler"))
    limits = [limit for limit in (budget.n_trials, size if is_grid else None) if limit is not None]
    ends = [f"{min(limits)} trials"] if limits else []
    if budget.timeout_s is not None:
        ends.append(f"{budget.timeout_s:g} s")
    if budget.patience is not None:
        ends.append(f"{budget.patience} trials without a better one")
    limit = "until " + ", or ".join(ends) if ends else "without end"
    each = [f"{budget.trial_timeout_s:g} s for each"] if budget.trial_timeout_s is not None else []
    retries = [f"{budget.retries} more attempts for one that fails"] if budget.retries else []
    return "; ".join([limit, *each, *retries])


def _first_trials(search: SearchSpec, space: SearchSpace) -> Iterator[Params]:
    """Yield the first trials of the sampler, in a temporary study without any results."""
    directions = [StudyDirection[objective.direction.upper()] for objective in search.objectives]
    study = optuna.create_study(directions=directions)
    for params in search.enqueue:
        with suppress(ConfigError):  # `lint` reports it
            study.enqueue_trial(space.to_stored(params), skip_if_exists=True)
    try:
        grid = Grid.of(search, space)
        for number in range(_SHOWN if grid is None else min(_SHOWN, grid.total)):
            study.sampler = build_sampler(search, number, space)
            if grid is not None and number >= len(study.trials):
                study.enqueue_trial(grid.next(study))
            yield space.sample(study.ask())
    except ConfigError:
        return  # `lint` reports it


def _yaml(composer: Composer, params: Params) -> str:
    try:
        config = composer.compose(params)
    except ConfigError as error:
        return f"  cannot be composed: {error}"
    return "\n".join(f"  {line}" for line in _plain(config).splitlines())


def _plain(config: DictConfig) -> str:
    """Return the config as it would be recorded, or unresolved if only a running job can resolve it."""
    try:
        return OmegaConf.to_yaml(OmegaConf.create(recordable(config)))
    except (ConfigError, OmegaConfBaseException):
        return mask(OmegaConf.to_yaml(config))


def _print_lints(console: Console, lints: list[Lint]) -> None:
    if not lints:
        console.print("nothing looks wrong", style="green")
    for found in lints:
        kind, style = ("error", "bold red") if found.is_error else ("warning", "yellow")
        console.print(Text.assemble((kind, style), f": {found.text}"), soft_wrap=True)
