"""Secrets in a text that is to be recorded: found by what the environment holds, and by how they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from besom.config import mask

_SHORTEST = 6
"""How many characters make a secret; shorter values of variables are on, off and the like."""

_VARIABLE = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")

_NAME = r"(?:passw(?:or)?d|passphrase|secret|token|credentials?|(?:api|access|secret|private|auth)[_-]?key)"
_ASSIGNED = rf"(?i:{_NAME})[\"']?[ \t]*(?::[\w .|\[\]]*=|=>|[:=])[ \t]*"
_WRITTEN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<before>{_ASSIGNED}(?P<quote>[\"']))[^\"'\s<>\[\]]{{{_SHORTEST},}}(?=(?P=quote))",
        # Without quotes a name may stand there as well; one with digits in it is rare.
        rf"(?m)(?P<before>{_ASSIGNED})(?=\S*\d)(?=\S*[A-Za-z])[\w+/=!@#%^&*~-]{{8,}}(?=\s*$)",
        r"(?i)(?P<before>\bbearer\s+)[\w.+/=-]{8,}",
        # As GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS and Google make them.
        r"\b(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[a-z]-[\w-]{10,}"
        r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35})",
        r"(?s)(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END)",
    )
)


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the text with `***` for passwords in URIs, for values of environment variables whose names say that
    they are secret, for what is assigned to such a name, and for tokens and keys of well-known forms.
    """
    for value in sorted(set(_values(os.environ if environment is None else environment)), key=len, reverse=True):
        text = text.replace(value, "***")
    for pattern in _WRITTEN:
        text = pattern.sub(lambda found: f"{found.groupdict().get('before') or ''}***", text)
    return mask(text)


def _values(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _VARIABLE.search(name) and len(value) >= _SHORTEST:
            yield value
        yield from (password for password in _PASSWORD.findall(value) if len(password) >= _SHORTEST)
