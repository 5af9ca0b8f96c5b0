"""Secrets in what is to be recorded: found by what the environment and configs hold, and by how they are written.

A text shows `***` in their place. A config, which is to be trained from again, has an interpolation there: of the
variable that a value is from, or of `BESOM_SECRET_KEY`, which whoever trains it again sets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TextIO
from urllib.parse import quote

HIDDEN = "***"
PREFIX = "BESOM_SECRET_"

_SHORTEST = 6
"""How many characters make a secret of a variable; shorter values are on, off and the like."""

_VARIABLE = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_NEVER_A_NUMBER = re.compile(r"PASS|SECRET", re.IGNORECASE)

# Names of keys: tokenizer, token_length, max_tokens, pad_token, sort_key and key are none.
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SURE = re.compile(
    r"passw(?:or)?ds?|passphrase|pwd|secrets?|credentials?|authorization|(?:api|access|secret|private)keys?"
)
_OF_KEYS = ("api", "access", "secret", "private", "auth", "encryption", "signing", "account", "subscription", "license")
_OF_TOKENS = (
    "pad", "cls", "sep", "eos", "bos", "unk", "mask", "start", "end", "stop", "begin", "image", "class", "special",
    "prefix", "suffix", "first", "last", "next", "decoder", "forced", "task", "language", "separator", "per",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z_ ]{0,15}|[<\[].*[>\]]|\S*\s.*", re.DOTALL)
"""What a token is not, where a key is called that: a word, a mark as models have them, a sentence."""

_USER = re.compile(
    r"(?P<scheme>\w[\w+.-]*)?(?P<before>://(?!\[)[^/\s:@\"'<>]*:)(?P<secret>(?:(?!://)[^\s\"'<>])*)(?P<after>@)"
)
_PORT = re.compile(r"\d{1,5}[/?#]")
_ANONYMOUS = re.compile(r"(?P<before>://)(?P<secret>(?=[^@]*\d)[\w-]{20,})(?P<after>@)")
_QUERY = re.compile(r"(?P<before>[?&;](?P<name>[\w.-]+)=)(?P<secret>[^&#\s\"'<>;]+)(?P<after>)")
_SIGNATURES = ("sig", "signature", "x-amz-signature", "x-amz-credential", "x-goog-signature", "x-goog-credential")
_CONNECTION = re.compile(
    r"(?i)(?P<before>(?<![?&;])\b(?:password|pwd)=)(?P<secret>[^\s;\"'(),]+)(?P<after>[ ;]+\w+=)"
    r"|(?P<before_last>\b\w+=[^\s;=,()]+[ ;]+(?:\w+=[^\s;=,()]+[ ;]+)*?(?:password|pwd)=)(?P<secret_last>[^\s;\"'(),]+)"
)

_NAME = r"(?:passw(?:or)?d|passphrase|secret|token|credentials?|(?:api|access|secret|private|auth)[_-]?key)"
_ASSIGNED = rf"(?i:{_NAME})[\"']?[ \t]*(?::[\w .|\[\]]*=|=>|[:=])[ \t]*"
_WRITTEN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<before>{_ASSIGNED}(?P<quote>[\"']))[^\"'\s<>\[\]]{{{_SHORTEST},}}(?=(?P=quote))",
        # Without quotes a name may stand there as well; one with digits in it is rare.
        rf"(?P<before>{_ASSIGNED})(?=\S*\d)(?=\S*[A-Za-z])[\w+/=!@#%^&*~-]{{{_SHORTEST},}}(?=\s*$)",
        r"(?i)(?P<before>\bbearer\s+)[\w.+/=-]{8,}",
    )
)
_SIGNS = ("pass", "pwd", "secret", "token", "credential", "key", "bearer")
"""In a line without any of these, none of those finds anything, and a search for words is cheap."""

_PRIVATE_KEY = re.compile(r"(?s)(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END)")
# As GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS and Google make them.
_KNOWN = re.compile(
    r"\b(?:gh[opusr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[a-z]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35})"
)
_KNOWN_BY = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "AKIA", "AIza")

Put = Callable[[str], str]
"""What stands in the place of a secret."""


# Texts.


def mask(text: str) -> str:
    """Return the text with `***` for the passwords, tokens and signatures of URIs and connection strings in it."""
    return _in_addresses(text, lambda _: HIDDEN)


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the text with `***` for what `mask` finds, for values of environment variables whose names say that they
    are secret, for what configs of this process had under such names, for what is assigned to such a name, and for
    tokens and keys of well-known forms. What a config took from other variables becomes the interpolation.
    """
    for value, instead in _replaced(environment):
        text = text.replace(value, instead)
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(rf"\g<before>{HIDDEN}", text)
    if _has(_SIGNS, text.lower()):
        text = "\n".join(_assigned(line) if _has(_SIGNS, line.lower()) else line for line in text.split("\n"))
    return mask(_KNOWN.sub(HIDDEN, text) if _has(_KNOWN_BY, text) else text)


def _has(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)


def _assigned(line: str) -> str:
    for pattern in _WRITTEN:
        line = pattern.sub(lambda found: f"{found['before']}{HIDDEN}", line)
    return line


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


@cache
def sounds_secret(key: str) -> bool:
    """Whether a key says by its name that whatever it holds is secret."""
    words = [word.lower() for word in _PARTS.findall(key)]
    if not words:
        return False
    *_, before, last = ["", *words]
    return bool(_SURE.fullmatch(last)) or (last in ("key", "keys") and before in _OF_KEYS)


@cache
def may_be_token(key: str) -> bool:
    """Whether a key says that it holds a token, which is a secret unless it is one of a text."""
    words = [word.lower() for word in _PARTS.findall(key)]
    *_, before, last = ["", "", *words]
    return last == "token" and before not in _OF_TOKENS


def is_secret(key: str, value: Any) -> bool:
    """Whether a value is a secret by the name of its key. What is empty, missing or an interpolation is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, str) and (value in ("", "???", HIDDEN) or "${" in value):
        return False
    return sounds_secret(key) or (isinstance(value, str) and may_be_token(key) and not _WORD.fullmatch(value))


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
        sounds = _sounds_secret_variable if path.endswith("env_set") else sounds_secret  # Hydra's, of variables
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
    value = _in_addresses(value, put)
    return _KNOWN.sub(lambda found: put(found[0]), value) if _has(_KNOWN_BY, value) else value


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
    if len(value) >= _SHORTEST and value not in (HIDDEN, instead) and not value.isdecimal():
        _seen.setdefault(value, instead)


@dataclass(frozen=True)
class _Known:
    """What an environment holds: variables that are secret, and passwords in the URIs of others."""

    variables: tuple[tuple[str, str], ...]
    passwords: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> _Known:
        long = [(name, value) for name, value in environment.items() if len(value) >= _SHORTEST]
        secret = [(name, value) for name, value in long if _is_secret_variable(name, value)]
        addresses = [found["secret"] for _, value in long if "://" in value for found in _USER.finditer(value)]
        passwords = [one for one in addresses if len(one) >= _SHORTEST and not _PORT.match(one)]
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
        yield from (line for line in lines if len(line) >= 2 * _SHORTEST)


def _is_secret_variable(name: str, value: str) -> bool:
    return _sounds_secret_variable(name) and not (value.isdecimal() and not _NEVER_A_NUMBER.search(name))


@cache
def _sounds_secret_variable(name: str) -> bool:
    return _VARIABLE.search(name) is not None


# How addresses are written.


def _in_addresses(text: str, put: Put) -> str:
    if "://" in text:
        text = _ANONYMOUS.sub(lambda found: _put(found, put), _USER.sub(lambda found: _user(found, put), text))
    if "=" in text and ("?" in text or "&" in text):
        text = _QUERY.sub(lambda found: _put(found, put) if _signs(found["name"]) else found[0], text)
    if "=" in text and _has(("password=", "pwd="), text.lower()):
        text = _CONNECTION.sub(lambda found: _connection(found, put), text)
    return text


def _put(found: re.Match[str], put: Put) -> str:
    return f"{found['before']}{_once(found['secret'], put)}{found['after']}"


def _user(found: re.Match[str], put: Put) -> str:
    scheme = found["scheme"] or ""
    if _PORT.match(found["secret"]) and scheme in ("http", "https", "ws", "wss", "file"):
        return found[0]
    return f"{scheme}{_put(found, put)}"


def _connection(found: re.Match[str], put: Put) -> str:
    if found["secret"] is not None:
        return _put(found, put)
    return f"{found['before_last']}{_once(found['secret_last'], put)}"


def _once(secret: str, put: Put) -> str:
    """What stands in a secret's place, unless something does so already."""
    hidden = secret.replace("\\", "") == HIDDEN  # as Markdown has it
    return secret if hidden or (secret.startswith("${") and secret.endswith("}")) else put(secret)


def _signs(name: str) -> bool:
    return name.lower() in _SIGNATURES or sounds_secret(name) or may_be_token(name)
