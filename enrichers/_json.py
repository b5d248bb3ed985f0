"""JSON in bodies that may be cut: what is whole is read, nothing is guessed."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = " \t\r\n"
LONGEST: Final = 160
"""Characters of what a row says beside the path."""


class Read(msgspec.Struct):
    """What a text holds. ``whole`` is false where it ends too soon, or is no JSON."""

    value: Any = None
    whole: bool = False


def read(text: str) -> Read:
    """The value of a text; of an object that is cut, the members that are not.

    >>> read('{"a": 1, "b": [2, {"c": 3')
    Read(value={'a': 1}, whole=False)
    """
    try:
        return Read(msgspec.json.decode(text), True)
    except (ValueError, RecursionError):  # UnicodeEncodeError too
        pass
    return Read(members(text))


def members(text: str) -> dict[str, Any] | None:
    """The whole members at the beginning of an object; None where there is no object."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        return None
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    try:
        while text[at : at + 1] == '"':
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                break
            value, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if text[at : at + 1] not in (",", "}"):  # a number may go on
                break
            found[name] = value
            at = _skip(text, at + 1)
    except (ValueError, RecursionError):
        pass
    return found


def _skip(text: str, at: int) -> int:
    """The offset of what is no white space."""
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def dump(value: Any) -> str:
    """A value as JSON, whatever its strings hold; "" where it is nested too deeply."""
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        return json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        return ""


def shorter(text: str, most: int = LONGEST) -> str:
    """One line of at most so many characters."""
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else text[: most - 1] + "…"
