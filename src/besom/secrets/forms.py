"""The recognition of secrets: by the names of keys and variables, and by their forms in texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

HIDDEN = "***"

SHORTEST = 6
"""The shortest value of a variable that counts as a secret; shorter values are on, off and the like."""

_VARIABLE = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_NEVER_A_NUMBER = re.compile(r"PASS|SECRET", re.IGNORECASE)

# Names of keys. Not secret: tokenizer, token_length, max_tokens, pad_token, sort_key and key.
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
"""Values that are no secrets under a key named token: a word, a special token of a model, a sentence."""

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
        rf"(?P<before>{_ASSIGNED}(?P<quote>[\"']))[^\"'\s<>\[\]]{{{SHORTEST},}}(?=(?P=quote))",
        # Without quotes it may be a name as well; a name with digits is rare.
        rf"(?P<before>{_ASSIGNED})(?=\S*\d)(?=\S*[A-Za-z])[\w+/=!@#%^&*~-]{{{SHORTEST},}}(?=\s*$)",
        r"(?i)(?P<before>\bbearer\s+)[\w.+/=-]{8,}",
    )
)
_SIGNS = ("pass", "pwd", "secret", "token", "credential", "key", "bearer")
"""A line without any of these matches none of those patterns, and a search for words is fast."""

_PRIVATE_KEY = re.compile(r"(?s)(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END)")
# The formats of GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS and Google.
_KNOWN = re.compile(
    r"\b(?:gh[opusr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[a-z]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35})"
)
_KNOWN_BY = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "AKIA", "AIza")

Replace = Callable[[str], str]
"""Returns the replacement of a secret."""


# Names.


@cache
def sounds_secret(key: str) -> bool:
    """Return whether the name of a key shows that any value of it is secret."""
    words = [word.lower() for word in _PARTS.findall(key)]
    if not words:
        return False
    *_, before, last = ["", *words]
    return bool(_SURE.fullmatch(last)) or (last in ("key", "keys") and before in _OF_KEYS)


@cache
def _may_be_token(key: str) -> bool:
    """Return whether the name of a key shows that it holds a token: a secret, unless it is a token of a text."""
    words = [word.lower() for word in _PARTS.findall(key)]
    *_, before, last = ["", "", *words]
    return last == "token" and before not in _OF_TOKENS


def is_secret(key: str, value: Any) -> bool:
    """Return whether a value is a secret by the name of its key; empty, missing and interpolated values are not."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, str) and (value in ("", "???", HIDDEN) or "${" in value):
        return False
    return sounds_secret(key) or (isinstance(value, str) and _may_be_token(key) and not _WORD.fullmatch(value))


def is_secret_variable(name: str, value: str) -> bool:
    """Return whether an environment variable is secret by its name; a number only in one for passwords or secrets."""
    return sounds_secret_variable(name) and not (value.isdecimal() and not _NEVER_A_NUMBER.search(name))


@cache
def sounds_secret_variable(name: str) -> bool:
    """Return whether the name of a variable shows that it may hold a secret."""
    return _VARIABLE.search(name) is not None


# Texts.


def hide_assigned(text: str) -> str:
    """Return a text with `***` for values assigned to the name of a secret, and for private keys."""
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(rf"\g<before>{HIDDEN}", text)
    if _has(_SIGNS, text.lower()):
        text = "\n".join(_assigned(line) if _has(_SIGNS, line.lower()) else line for line in text.split("\n"))
    return text


def replace_tokens(text: str, replace: Replace) -> str:
    """Return a text with replacements for tokens and keys of well-known forms."""
    return _KNOWN.sub(lambda match: replace(match[0]), text) if _has(_KNOWN_BY, text) else text


def _has(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)


def _assigned(line: str) -> str:
    for pattern in _WRITTEN:
        line = pattern.sub(lambda match: f"{match['before']}{HIDDEN}", line)
    return line


# Addresses.


def passwords_in(address: str) -> Iterator[str]:
    """Yield the passwords in URIs; ports are excluded."""
    if "://" in address:
        yield from (match["secret"] for match in _USER.finditer(address) if not _PORT.match(match["secret"]))


def replace_in_addresses(text: str, replace: Replace) -> str:
    """Return a text with replacements for the secrets of URIs and connection strings."""
    if "://" in text:
        text = _USER.sub(lambda match: _user(match, replace), text)
        text = _ANONYMOUS.sub(lambda match: _replaced(match, replace), text)
    if "=" in text and ("?" in text or "&" in text):
        text = _QUERY.sub(lambda match: _replaced(match, replace) if _signs(match["name"]) else match[0], text)
    if "=" in text and _has(("password=", "pwd="), text.lower()):
        text = _CONNECTION.sub(lambda match: _connection(match, replace), text)
    return text


def _replaced(match: re.Match[str], replace: Replace) -> str:
    return f"{match['before']}{_replace_once(match['secret'], replace)}{match['after']}"


def _user(match: re.Match[str], replace: Replace) -> str:
    scheme = match["scheme"] or ""
    if _PORT.match(match["secret"]) and scheme in ("http", "https", "ws", "wss", "file"):
        return match[0]
    return f"{scheme}{_replaced(match, replace)}"


def _connection(match: re.Match[str], replace: Replace) -> str:
    if match["secret"] is not None:
        return _replaced(match, replace)
    return f"{match['before_last']}{_replace_once(match['secret_last'], replace)}"


def _replace_once(secret: str, replace: Replace) -> str:
    """Return a secret's replacement, unless it is already one."""
    hidden = secret.replace("\\", "") == HIDDEN  # escaped in Markdown
    return secret if hidden or (secret.startswith("${") and secret.endswith("}")) else replace(secret)


def _signs(name: str) -> bool:
    return name.lower() in _SIGNATURES or sounds_secret(name) or _may_be_token(name)
