"""Fields of a `Message`, read and written where it costs: the plain twin of ``_message.pyx``.

A struct field through CPython's attribute machinery costs some 170 instructions, by its offset 10; the
engine touches some forty of them for each pair.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from kshark.api import Message

kind: Callable[[Message], int] = attrgetter("kind")
side: Callable[[Message], int] = attrgetter("side")
key: Callable[[Message], int] = attrgetter("key")
first: Callable[[Message], int] = attrgetter("first_ns")
last: Callable[[Message], int] = attrgetter("last_ns")
gap_bytes: Callable[[Message], int] = attrgetter("gap_bytes")
truncated: Callable[[Message], bool] = attrgetter("truncated")
cut: Callable[[Message], bool] = attrgetter("cut")
ok: Callable[[Message], bool] = attrgetter("ok")
notes: Callable[[Message], tuple[str, ...]] = attrgetter("notes")


def date(message: Message, first_ns: int, last_ns: int) -> int:
    """Set the times that are still 0; gives the message's size."""
    if not message.first_ns:
        message.first_ns = first_ns
    if not message.last_ns:
        message.last_ns = last_ns
    return message.size


def weight(message: Message) -> int:
    """Bytes that it keeps."""
    return len(message.head) + len(message.body)
