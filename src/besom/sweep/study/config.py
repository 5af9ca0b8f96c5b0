"""Which of its study's configs a trial has: the number under which the study keeps it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.config.checks import flatten, resolved
from besom.reports.read.configs import FIRST, LATER, OF_A_CHOICE, configs_of, differences
from besom.sweep.compose import Composer
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.study.study import StudyBook
from besom.tracking.sources import CODE_DIFFERS

CONFIG = "besom.config"
"""The tag of a trial's run that says which of its study's configs it has."""

SEEDED = "besom.seeded"
"""The attribute of a study that has what `following_the_seed` returned for any of its configs."""

_REFERENCE = re.compile(r"\$\{\.*[\w.\[\]-]+\}")


def shared_by(
    space: SearchSpace, composer: Composer, plain: Callable[[DictConfig], Mapping[str, Any]], *, without: str = ""
) -> dict[str, Any]:
    """Return what trials start from: the flattened config less what is sampled, and less a group that does not count.

    What another choice of a config group gives than the first one stands under that choice, as in
    `model=mlp_classifier: model.width`. `plain` makes a mapping of a config.
    """
    sampled = {key.lstrip("+") for key in space.keys}
    first: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for choice, config in _of_each_choice(space, composer):
        found = {
            key: value
            for key, value in flatten(plain(config))
            if key not in sampled and not (without and key.startswith(f"{without}."))
        }
        if not first:
            first, shared = found, dict(found)
        different = {key: value for key, value in found.items() if key not in first or first[key] != value}
        shared |= {f"{choice}{OF_A_CHOICE}{key}": value for key, value in different.items()}
    return shared


def following_the_seed(space: SearchSpace, composer: Composer) -> dict[str, str]:
    """Return what is written where a config has a value that follows its seed, such as `${seed}`, by dotted key."""
    found: dict[str, str] = {}
    for _, config in _of_each_choice(space, composer):
        written = dict(flatten(OmegaConf.to_container(config, resolve=False)))  # type: ignore[arg-type]
        other = config.copy()
        other.seed = config.seed + 1
        now, then = (dict(flatten(resolved(one))) for one in (config, other))
        for key, text in written.items():
            if now.get(key) != then.get(key) and isinstance(text, str) and refers_to_keys_alone(text):
                found[key] = text
    return found


def refers_to_keys_alone(text: str) -> bool:
    """Whether a text has references to keys of its config and no other interpolation."""
    return "${" in text and "${" not in _REFERENCE.sub("", text)


def _of_each_choice(space: SearchSpace, composer: Composer) -> Iterator[tuple[str, DictConfig]]:
    """Yield a config for each combination of choices of config groups, and what was chosen."""
    known: set[str] = set()
    for params in space.examples(at_least_one=True):
        choice = " ".join(f"{key}={value}" for key, value in params.items() if composer.chooses(key))
        if choice not in known:
            known.add(choice)
            yield choice, composer.compose(params)


def number_of(book: StudyBook, shared: Mapping[str, Any], *, keep: bool) -> int:
    """Return the number of a config in its study, from 1; one that is new is kept if `keep` says so."""
    now = {key: str(value) for key, value in shared.items()}
    known = configs_of(book.study.user_attrs)
    if not known:
        book.set_user_attr(FIRST, now)
        return 1
    first = known[1]
    if not any(OF_A_CHOICE in key for key in first):  # an earlier Besom kept the first choices alone
        now = {key: value for key, value in now.items() if OF_A_CHOICE not in key}
    for number, config in known.items():
        if not differences(config, now):
            return number
    if keep:
        changed = {key: now.get(key) for key in sorted({*first, *now}) if first.get(key) != now.get(key)}
        book.set_user_attr(LATER, [*book.study.user_attrs.get(LATER, []), changed])
    return len(known) + 1


def changes_since_it_began(book: StudyBook, shared: Mapping[str, Any], number: int) -> list[str]:
    """Return what differs between a config of that number and the one that its study began with."""
    if number == 1:
        return []
    known = configs_of(book.study.user_attrs)
    return differences(known[1], known.get(number) or {key: str(value) for key, value in shared.items()})


def origin(tags: Mapping[str, str]) -> dict[str, Any]:
    """Which of its study's configs, and which state of the code, a trial has by its run's tags, for the report."""
    found: dict[str, Any] = {"config": int(tags[CONFIG])} if CONFIG in tags else {}
    return found | ({"code": tags[CODE_DIFFERS]} if CODE_DIFFERS in tags else {})
