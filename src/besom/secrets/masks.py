"""Secrets in what is to be recorded: found by what the environment and configs hold, and by their names and forms.

A text shows `***` in their place. A config, which is to be trained from again, has an interpolation there: of the
variable that a value is from, or of `BESOM_SECRET_KEY`, which whoever trains it again sets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import quote

from besom.secrets.forms import (
    HIDDEN,
    SHORTEST,
    hide_assigned,
    is_secret,
    is_secret_variable,
    passwords_in,
    replace_in_addresses,
    replace_tokens,
    sounds_secret,
    sounds_secret_variable,
)

PREFIX = "BESOM_SECRET_"

# Texts.


def mask(text: str) -> str:
    """Return the text with `***` for the passwords, tokens and signatures of URIs and connection strings in it."""
    return replace_in_addresses(text, _stars)


def _stars(_: str) -> str:
    return HIDDEN


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the text with `***` for the secrets in it. What a config took from a variable becomes the interpolation.

    They are: what `mask` finds; values of environment variables whose names say that they are secret, and what configs
    of this process had under such names; what is assigned to such a name; tokens and keys of well-known forms.
    """
    for value, instead in _replaced(environment):
        text = text.replace(value, instead)
    return mask(replace_tokens(hide_assigned(text), _stars))


def all_without_secrets(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts by their names as `without_secrets` does, in the time of one where nothing is found."""
    joined = "\n".join(texts.values())
    if without_secrets(joined) == joined:
        return dict(texts)
    return {name: without_secrets(text) for name, text in texts.items()}


def hide_in_output(stream: TextIO) -> None:
    """Let what a process prints to a stream from now on go there without secrets."""
    write = stream.write

    def written(text: str) -> int:
        write(without_secrets(text))
        return len(text)

    stream.write = written  # type: ignore[method-assign]


# Configs.


def hidden(key: str, value: Any) -> Any:
    """Return the value of a dotted key as it may be recorded.

    What is hidden is remembered: `without_secrets` finds it in texts.
    """
    return _hidden_in(value, key, _Known.of_process(), secret=sounds_secret(key.rpartition(".")[2]))


def hidden_in(config: Any) -> Any:
    """Return a plain config as it may be recorded. What lies under a key such as `credentials` is secret as well."""
    return _hidden_in(config, "", _Known.of_process(), secret=False)


def remember_secrets_of(config: Any) -> None:
    """Let `without_secrets` find in texts, from now on, what is secret in a plain config."""
    hidden_in(config)


def _hidden_in(config: Any, path: str, known: _Known, *, secret: bool) -> Any:
    if isinstance(config, Mapping):
        inner = ((str(key), f"{path}.{key}" if path else str(key), value) for key, value in config.items())
        sounds = sounds_secret_variable if path.endswith("env_set") else sounds_secret  # Hydra's, of variables
        return {key: _hidden_in(value, at, known, secret=secret or sounds(key)) for key, at, value in inner}
    if isinstance(config, list | tuple):
        return [_hidden_in(value, path, known, secret=secret) for value in config]
    return _hidden(path, config, known, secret=secret and is_secret("secret", config))


def _hidden(key: str, value: Any, known: _Known, *, secret: bool) -> Any:
    if secret or is_secret(key.rpartition(".")[2], value):
        remember(str(value), HIDDEN)
        written = f"${{oc.env:{_variable(key)}}}"
        return written if isinstance(value, str) else f"${{oc.decode:{written}}}"
    if not isinstance(value, str):
        return value
    for name, one in known.variables:
        value = value.replace(one, f"${{oc.env:{name}}}")
    count = 0

    def put(found: str) -> str:
        nonlocal count
        if found in ("", HIDDEN) or (found.startswith("${") and found.endswith("}")):
            return found
        count += 1
        remember(found, HIDDEN)
        return f"${{oc.env:{_variable(key)}{f'_{count}' if count > 1 else ''}}}"

    for password in known.passwords:
        if password in value:
            value = value.replace(password, put(password))
    return replace_tokens(replace_in_addresses(value, put), put)


def _variable(key: str) -> str:
    """The variable that gives back what a key held."""
    return PREFIX + re.sub(r"\W", "_", key.lstrip("+~")).upper()


def hidden_override(override: str) -> str:
    """Return an override as it may be recorded, also one whose value is a mapping."""
    return _override(override, hidden)


def masked_override(override: str) -> str:
    """Return an override, or any argument, with `***` for what is secret by the name of its key."""
    return _override(override, lambda key, value: HIDDEN if is_secret(key.rpartition(".")[2], value) else value)


def _override(override: str, recordable: Callable[[str, str], Any]) -> str:
    key, equals, value = override.partition("=")
    path = key.lstrip("+~").partition("@")[0]
    bare = value.strip("\"'")
    if equals and is_secret(path.rpartition(".")[2], bare):
        return f"{key}={recordable(path, bare)}"

    def pair(found: re.Match[str]) -> str:
        name, told = found["name"], found["value"].strip("\"'")
        inner = f"{path}.{name}" if equals else name
        return f"{name}{found['between']}{recordable(inner, told)}" if is_secret(name, told) else found[0]

    return f"{key}={recordable(path, _PAIR.sub(pair, value))}" if equals else _PAIR.sub(pair, override)


_PAIR = re.compile(r"(?P<name>[\w-]+)(?P<between>[\"']?\s*[:=]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^,{}\[\]\s\"']+)")


def lacking(config: Any, path: str = "") -> dict[str, str]:
    """Return the variables that a recorded config has in the place of secrets and that are not set, with their keys."""
    if isinstance(config, Mapping):
        inner = ((f"{path}.{key}" if path else str(key), value) for key, value in config.items())
        return {name: key for one, value in inner for name, key in lacking(value, one).items()}
    if isinstance(config, list | tuple):
        return {name: key for value in config for name, key in lacking(value, path).items()}
    names = re.findall(rf"\$\{{oc\.env:({PREFIX}\w+)\}}", config) if isinstance(config, str) else []
    return {name: path for name in names if name not in os.environ}


# What is known.


_seen: dict[str, str] = {}
"""What configs of this process hold, by what stands in its place."""


def remember(value: str, instead: str) -> None:
    """Let `without_secrets` put something else in the place of a value, from now on, in this process."""
    if len(value) >= SHORTEST and value not in (HIDDEN, instead) and not value.isdecimal():
        _seen.setdefault(value, instead)


@dataclass(frozen=True)
class _Known:
    """What an environment holds: variables that are secret, and passwords in the URIs of others."""

    variables: tuple[tuple[str, str], ...]
    passwords: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> _Known:
        long = [(name, value) for name, value in environment.items() if len(value) >= SHORTEST]
        secret = [(name, value) for name, value in long if is_secret_variable(name, value)]
        passwords = [one for _, value in long for one in passwords_in(value) if len(one) >= SHORTEST]
        return cls(tuple(sorted(secret, key=lambda one: -len(one[1]))), tuple(passwords))

    @classmethod
    def of_process(cls) -> _Known:
        # Reading them one by one takes a hundred times as long as seeing that none has changed.
        return _of_process(frozenset(getattr(os.environ, "_data", os.environ).items()))


@lru_cache(maxsize=4)
def _of_process(_: frozenset[Any]) -> _Known:
    return _Known.of(os.environ)


def _replaced(environment: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    known = _Known.of_process() if environment is None else _Known.of(environment)
    values = (*(value for _, value in known.variables), *known.passwords)
    return _replacements(values, tuple(_seen.items()) if environment is None else ())


@lru_cache(maxsize=16)
def _replacements(values: tuple[str, ...], seen: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What to replace, the longest first: each value as it is, and as Python, JSON and a URI write it."""
    found = {form: HIDDEN for value in values for form in _forms(value)}
    for value, instead in seen:
        for form in _forms(value):
            found.setdefault(form, instead)
    return tuple(sorted(found.items(), key=lambda one: -len(one[0])))


def _forms(value: str) -> Iterator[str]:
    yield from (value, repr(value)[1:-1], quote(value, safe=""))
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= 2 * SHORTEST)
