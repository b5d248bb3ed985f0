"""Secrets in what people and servers write: texts of errors, lines of a log, chat. No form is to be relied on.

Hidden is what follows a secret name and "=", or a quotation mark after ":"; after a bare ":" only what has a digit
or is long, since "invalid token: expired" is said more often than a token. Likewise what follows "Bearer" or "Basic".
Linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import Final

from kshark.secret_names import REDACTED, secret_parameter

LONG: Final = 20
"""Characters of a word that is more likely a secret than a word of a language."""

_NAMED = re.compile(
    r"(?<![\w.-])([\w.-]{1,128})(?:\\*[\"'])?\s*([=:])\s*(?:((?:bearer|basic)\s+)|token\s+)?(\\*[\"']?)",
    re.IGNORECASE,
)
_VALUE = re.compile(r"[^\s\"'\\&;,(){}\[\]<>]+")
_SCHEME = re.compile(
    r"\b(?:bearer|basic|negotiate|ntlm)\s+([\w.~+/-]{8,}=*)(?![\w.~+/=-])", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")


def text(said: str, *, within_json: bool = False) -> str:
    """Hide what looks like a secret. `within_json`: where ":" has a meaning of its own.

    >>> text("bad login: password=abc, Authorization: Bearer e30.e30x")
    'bad login: password=REDACTED, Authorization: Bearer REDACTED'
    >>> text("invalid token: expired")
    'invalid token: expired'
    >>> text('data: {"output_tokens": 5}')
    'data: {"output_tokens": 5}'
    """
    if "=" in said or (":" in said and not within_json):
        said = _hidden(said, within_json)
    if "e" in said or "E" in said:
        said = _SCHEME.sub(_credentials, said)
    return said


def _hidden(said: str, within_json: bool) -> str:
    """Values of secret names."""
    parts: list[str] = []
    kept = 0
    found = _NAMED.search(said)
    while found is not None:
        at = found.end(1)
        value = _VALUE.match(said, found.end()) if secret_parameter(found[1]) else None
        if (
            value is not None
            and (found[2] == "=" or (not within_json and _follows(found, value[0])))
            and not _counts(found[1], value[0])
        ):
            parts += (said[kept : value.start()], REDACTED)
            kept = at = value.end()
        found = _NAMED.search(said, at)
    parts.append(said[kept:])
    return "".join(parts)


def _follows(found: re.Match[str], word: str) -> bool:
    """Whether that is a secret though only ":" says so: after a scheme, in quotation marks, or by its looks."""
    return bool(found[3] or found[4]) or _telling(word)


def _counts(name: str, word: str) -> bool:
    """How many tokens a model read or wrote: no secret."""
    return name.lower().endswith("tokens") and word.isdigit()


def _telling(word: str) -> bool:
    return len(word) >= LONG or _DIGIT.search(word) is not None


def _credentials(found: re.Match[str]) -> str:
    if not _telling(found[1]):
        return found[0]
    return found[0][: found.start(1) - found.start()] + REDACTED
