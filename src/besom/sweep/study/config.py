"""The numbered configs of a study: each trial has the number of the config that it was composed from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.config.checks import flatten
from besom.reports.read.configs import OF_A_CHOICE, configs_of, differences
from besom.sweep.compose import Composer
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.study.study import StudyBook
from besom.tracking.tags import StudyAttribute, Tag

_REFERENCE = re.compile(r"\$\{\.*[\w.\[\]-]+\}")


def shared_by(
    space: SearchSpace, composer: Composer, plain: Callable[[DictConfig], Mapping[str, Any]], *, without: str = ""
) -> dict[str, Any]:
    """Return the flattened config of all trials without the sampled keys, and without the config group `without`.

    A value that another choice of a config group changes has that choice in its key, as in
    `model=mlp_classifier: model.width`. `plain` converts a config to a mapping.
    """
    sampled = {key.lstrip("+") for key in space.keys}
    first: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for choice, config in _of_each_choice(space, composer):
        values = {
            key: value
            for key, value in flatten(plain(config))
            if key not in sampled and not (without and key.startswith(f"{without}."))
        }
        if not first:
            first, shared = values, dict(values)
        different = {key: value for key, value in values.items() if key not in first or first[key] != value}
        shared |= {f"{choice}{OF_A_CHOICE}{key}": value for key, value in different.items()}
    return shared


def following_the_seed(space: SearchSpace, composer: Composer) -> dict[str, str]:
    """Return the interpolations that depend on the config's seed, such as `${seed}`, by dotted key."""
    interpolations: dict[str, str] = {}
    for _, config in _of_each_choice(space, composer):
        other = config.copy()
        other.seed = config.seed + 1
        for key, text in flatten(OmegaConf.to_container(config, resolve=False)):  # type: ignore[arg-type]
            if not (isinstance(text, str) and refers_to_keys_alone(text)):
                continue
            now, then = OmegaConf.select(config, key), OmegaConf.select(other, key)
            if now != then and not OmegaConf.is_config(now):
                interpolations[key] = text
    return interpolations


def refers_to_keys_alone(text: str) -> bool:
    """Return whether a text references keys of its config, and has no other interpolation."""
    return "${" in text and "${" not in _REFERENCE.sub("", text)


def _of_each_choice(space: SearchSpace, composer: Composer) -> Iterator[tuple[str, DictConfig]]:
    """Yield each combination of config group choices, as text, and its config."""
    known: set[str] = set()
    for params in composer.at_first(space.examples(at_least_one=True)):
        choice = " ".join(f"{key}={value}" for key, value in params.items() if composer.chooses(key))
        if choice not in known:
            known.add(choice)
            yield choice, composer.compose(params)


def number_of(book: StudyBook, shared: Mapping[str, Any], *, keep: bool) -> int:
    """Return the number of a config in its study, from 1; with `keep`, a new config is stored."""
    now = {key: str(value) for key, value in shared.items()}
    known = configs_of(book.study.user_attrs)
    if not known:
        book.set_user_attr(StudyAttribute.CONFIG, now)
        return 1
    first = known[1]
    if not any(OF_A_CHOICE in key for key in first):  # an earlier version stored the first choices only
        now = {key: value for key, value in now.items() if OF_A_CHOICE not in key}
    for number, config in known.items():
        if not differences(config, now):
            return number
    if keep:
        changed = {key: now.get(key) for key in sorted({*first, *now}) if first.get(key) != now.get(key)}
        book.set_user_attr(StudyAttribute.CONFIGS, [*book.study.user_attrs.get(StudyAttribute.CONFIGS, []), changed])
    return len(known) + 1


def changes_since_it_began(book: StudyBook, shared: Mapping[str, Any], number: int) -> list[str]:
    """Return the differences between the config with this number and the first one of its study."""
    if number == 1:
        return []
    known = configs_of(book.study.user_attrs)
    return differences(known[1], known.get(number) or {key: str(value) for key, value in shared.items()})


def origin(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the numbers of a trial's config and of its code, from its run's tags, for the report."""
    numbers: dict[str, Any] = {"config": int(tags[Tag.CONFIG])} if Tag.CONFIG in tags else {}
    return numbers | ({"code": tags[Tag.CODE_DIFFERS]} if Tag.CODE_DIFFERS in tags else {})
