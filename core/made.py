"""How messages and entries are made, and bytes cut: plainly here; compiled, ``_message`` is called by these names."""

from __future__ import annotations

from kshark.api import Entry, Message

entry = Entry


def message(
    kind: int,
    verb: str,
    target: str,
    status: int,
    ok: bool,
    key: int,
    size: int,
    head: bytes,
    body: bytes,
) -> Message:
    """``Message`` with these fields; the others are set afterwards."""
    return Message(kind, verb, target, status, ok, key, size, head, body)


def piece(data: bytes, start: int, end: int) -> bytes:
    """``data[start:end]``; both are within it.

    >>> piece(b"abcd", 1, 3)
    b'bc'
    """
    return data[start:end]
