"""By what a secret is told: the names that keys and variables have, and the forms in which a text holds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

HIDDEN = "***"

SHORTEST = 6
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
        rf"(?P<before>{_ASSIGNED}(?P<quote>[\"']))[^\"'\s<>\[\]]{{{SHORTEST},}}(?=(?P=quote))",
        # Without quotes a name may stand there as well; one with digits in it is rare.
        rf"(?P<before>{_ASSIGNED})(?=\S*\d)(?=\S*[A-Za-z])[\w+/=!@#%^&*~-]{{{SHORTEST},}}(?=\s*$)",
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
"""Makes of a secret what stands in its place."""


# Names.


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


def is_secret_variable(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret, by its name; a number is none, but of a password or a secret."""
    return sounds_secret_variable(name) and not (value.isdecimal() and not _NEVER_A_NUMBER.search(name))


@cache
def sounds_secret_variable(name: str) -> bool:
    """Whether a variable says by its name that it may hold a secret."""
    return _VARIABLE.search(name) is not None


# Texts.


def hide_assigned(text: str) -> str:
    """Return a text with `***` for what is assigned to the name of a secret, and for private keys."""
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(rf"\g<before>{HIDDEN}", text)
    if _has(_SIGNS, text.lower()):
        text = "\n".join(_assigned(line) if _has(_SIGNS, line.lower()) else line for line in text.split("\n"))
    return text


def replace_tokens(text: str, put: Put) -> str:
    """Return a text with something else in the place of tokens and keys of well-known forms."""
    return _KNOWN.sub(lambda found: put(found[0]), text) if _has(_KNOWN_BY, text) else text


def _has(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)


def _assigned(line: str) -> str:
    for pattern in _WRITTEN:
        line = pattern.sub(lambda found: f"{found['before']}{HIDDEN}", line)
    return line


# Addresses.


def passwords_in(address: str) -> Iterator[str]:
    """Yield the passwords in URIs; a port is none."""
    if "://" in address:
        yield from (found["secret"] for found in _USER.finditer(address) if not _PORT.match(found["secret"]))


def replace_in_addresses(text: str, put: Put) -> str:
    """Return a text with something else in the place of what URIs and connection strings have of secrets."""
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
