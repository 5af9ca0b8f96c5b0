"""The masking of secrets before anything is recorded, found by their values, names and forms.

The values are those of the environment and of configs. A text gets `***` in place of a secret. A config, which is to be
trained again, gets an interpolation: of the variable that the value comes from, or of `BESOM_SECRET_KEY`, which the
user sets to train it again.
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
    """Return the text with `***` for the secrets in it; a value from a variable becomes the config's interpolation.

    The secrets are: those of `mask`; values of environment variables with secret names, and values of this process's
    configs under such names; values assigned to such a name; tokens and keys of well-known forms.
    """
    for value, replacement in _replaced(environment):
        text = text.replace(value, replacement)
    return mask(replace_tokens(hide_assigned(text), _stars))


def all_without_secrets(texts: Mapping[str, str]) -> dict[str, str]:
    """Apply `without_secrets` to texts by name, in the time of one text if there are no secrets."""
    joined = "\n".join(texts.values())
    if without_secrets(joined) == joined:
        return dict(texts)
    return {name: without_secrets(text) for name, text in texts.items()}


def hide_in_output(stream: TextIO) -> None:
    """Mask the secrets in everything that this process writes to a stream from now on."""
    write = stream.write

    def written(text: str) -> int:
        write(without_secrets(text))
        return len(text)

    stream.write = written  # type: ignore[method-assign]


# Configs.


def hidden(key: str, value: Any) -> Any:
    """Return the value of a dotted key as it may be recorded.

    A hidden value is remembered: `without_secrets` finds it in texts.
    """
    return _hidden_in(value, key, _EnvironmentSecrets.of_process(), secret=sounds_secret(key.rpartition(".")[2]))


def hidden_in(config: Any) -> Any:
    """Return a plain config as it may be recorded; all values below a key such as `credentials` are secret too."""
    return _hidden_in(config, "", _EnvironmentSecrets.of_process(), secret=False)


def remember_secrets_of(config: Any) -> None:
    """Let `without_secrets` mask the secrets of a plain config from now on."""
    hidden_in(config)


def _hidden_in(config: Any, path: str, known: _EnvironmentSecrets, *, secret: bool) -> Any:
    if isinstance(config, Mapping):
        inner = ((str(key), f"{path}.{key}" if path else str(key), value) for key, value in config.items())
        sounds = sounds_secret_variable if path.endswith("env_set") else sounds_secret  # Hydra's env_set has variables
        return {key: _hidden_in(value, at, known, secret=secret or sounds(key)) for key, at, value in inner}
    if isinstance(config, list | tuple):
        return [_hidden_in(value, path, known, secret=secret) for value in config]
    return _hidden(path, config, known, secret=secret and is_secret("secret", config))


def _hidden(key: str, value: Any, known: _EnvironmentSecrets, *, secret: bool) -> Any:
    if secret or is_secret(key.rpartition(".")[2], value):
        remember(str(value), HIDDEN)
        written = f"${{oc.env:{_variable(key)}}}"
        return written if isinstance(value, str) else f"${{oc.decode:{written}}}"
    if not isinstance(value, str):
        return value
    for name, secret_value in known.variables:
        value = value.replace(secret_value, f"${{oc.env:{name}}}")
    count = 0

    def replace(secret: str) -> str:
        nonlocal count
        if secret in ("", HIDDEN) or (secret.startswith("${") and secret.endswith("}")):
            return secret
        count += 1
        remember(secret, HIDDEN)
        return f"${{oc.env:{_variable(key)}{f'_{count}' if count > 1 else ''}}}"

    for password in known.passwords:
        if password in value:
            value = value.replace(password, replace(password))
    return replace_tokens(replace_in_addresses(value, replace), replace)


def _variable(key: str) -> str:
    """Return the variable that supplies the hidden value of a key."""
    return PREFIX + re.sub(r"\W", "_", key.lstrip("+~")).upper()


def hidden_override(override: str) -> str:
    """Return an override as it may be recorded, including one whose value is a mapping."""
    return _override(override, hidden)


def masked_override(override: str) -> str:
    """Return an override, or any argument, with `***` for values that are secret by the name of their key."""
    return _override(override, lambda key, value: HIDDEN if is_secret(key.rpartition(".")[2], value) else value)


def _override(override: str, recordable: Callable[[str, str], Any]) -> str:
    key, equals, value = override.partition("=")
    path = key.lstrip("+~").partition("@")[0]
    bare = value.strip("\"'")
    if equals and is_secret(path.rpartition(".")[2], bare):
        return f"{key}={recordable(path, bare)}"

    def pair(match: re.Match[str]) -> str:
        name, bare_value = match["name"], match["value"].strip("\"'")
        inner = f"{path}.{name}" if equals else name
        return f"{name}{match['between']}{recordable(inner, bare_value)}" if is_secret(name, bare_value) else match[0]

    return f"{key}={recordable(path, _PAIR.sub(pair, value))}" if equals else _PAIR.sub(pair, override)


_PAIR = re.compile(r"(?P<name>[\w-]+)(?P<between>[\"']?\s*[:=]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^,{}\[\]\s\"']+)")


def missing_variables(config: Any, path: str = "") -> dict[str, str]:
    """Return the unset variables that a recorded config has in place of secrets, with their keys."""
    if isinstance(config, Mapping):
        inner = ((f"{path}.{key}" if path else str(key), value) for key, value in config.items())
        return {name: key for place, value in inner for name, key in missing_variables(value, place).items()}
    if isinstance(config, list | tuple):
        return {name: key for value in config for name, key in missing_variables(value, path).items()}
    names = re.findall(rf"\$\{{oc\.env:({PREFIX}\w+)\}}", config) if isinstance(config, str) else []
    return {name: path for name in names if name not in os.environ}


# Known secrets.


_seen: dict[str, str] = {}
"""The secrets of this process's configs, with their replacements."""


def remember(value: str, replacement: str) -> None:
    """Let `without_secrets` replace a value from now on, in this process."""
    if len(value) >= SHORTEST and value not in (HIDDEN, replacement) and not value.isdecimal():
        _seen.setdefault(value, replacement)


@dataclass(frozen=True)
class _EnvironmentSecrets:
    """The secrets of an environment: secret variables, and passwords in the URIs of others."""

    variables: tuple[tuple[str, str], ...]
    passwords: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> _EnvironmentSecrets:
        long = [(name, value) for name, value in environment.items() if len(value) >= SHORTEST]
        secret = [(name, value) for name, value in long if is_secret_variable(name, value)]
        passwords = [word for _, value in long for word in passwords_in(value) if len(word) >= SHORTEST]
        return cls(tuple(sorted(secret, key=lambda pair: -len(pair[1]))), tuple(passwords))

    @classmethod
    def of_process(cls) -> _EnvironmentSecrets:
        # Reading all variables takes a hundred times as long as checking that none has changed.
        return _of_process(frozenset(getattr(os.environ, "_data", os.environ).items()))


@lru_cache(maxsize=4)
def _of_process(_: frozenset[Any]) -> _EnvironmentSecrets:
    return _EnvironmentSecrets.of(os.environ)


def _replaced(environment: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    known = _EnvironmentSecrets.of_process() if environment is None else _EnvironmentSecrets.of(environment)
    values = (*(value for _, value in known.variables), *known.passwords)
    return _replacements(values, tuple(_seen.items()) if environment is None else ())


@lru_cache(maxsize=16)
def _replacements(values: tuple[str, ...], seen: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the values to replace, the longest first: each as it is, and as Python, JSON and a URI write it."""
    replacements = {form: HIDDEN for value in values for form in _forms(value)}
    for value, replacement in seen:
        for form in _forms(value):
            replacements.setdefault(form, replacement)
    return tuple(sorted(replacements.items(), key=lambda pair: -len(pair[0])))


def _forms(value: str) -> Iterator[str]:
    yield from (value, repr(value)[1:-1], quote(value, safe=""))
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= 2 * SHORTEST)
