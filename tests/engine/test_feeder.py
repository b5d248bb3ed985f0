"""A dissector by `Feeder.take`: what it found before an error counts, as what a generator gave does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kshark.api import DissectError, Kind, Message, ProtocolSpec, Side, Switch
from kshark.feeder import Feeder, Found
from kshark.testing import converse, rows


def line(side: int, text: bytes) -> Message:
    if text == b"boom":
        raise DissectError("boom")
    return Message(Kind(1 + side), text.decode(), size=len(text) + 1)


class Given:
    """Whole lines, by a generator."""

    def feed(self, side: Side, data: bytes) -> Iterator[Message | Switch]:
        for text in data.splitlines():
            yield line(side, text)

    def gap(self, side: Side, missing: int) -> list[Message | Switch]:
        return []

    def close(self) -> list[Message | Switch]:
        return []


class Taken(Feeder):
    """The same by the other door."""

    def take(self, side: int, data: bytes, found: Found) -> None:
        for text in data.splitlines():
            found.append(line(side, text))

    def gap(self, side: Side, missing: int) -> list[Message | Switch]:
        return []

    def close(self) -> list[Message | Switch]:
        return []


C, S = Side.CLIENT, Side.SERVER
TALK = [
    *[(C, b"HI %d\n" % n) if side == C else (S, b"ok %d\n" % n) for n in range(4) for side in (C, S)],
    (C, b"last\nboom\n"),
    (S, b"yes\n"),
]  # fmt: skip


def test_what_comes_before_an_error_counts() -> None:
    given, taken = (
        converse(ProtocolSpec(name="toy", dissector=d, magic=(b"HI",)), TALK)
        for d in (Given, Taken)
    )
    assert rows(given) == rows(taken)
    assert rows(given)[-1] == "last -> yes [ok]"


def test_by_hand_the_error_follows_what_was_found() -> None:
    found = iter(Taken().feed(C, b"one\nboom\n"))
    assert getattr(next(found), "verb", "") == "one"
    with pytest.raises(DissectError, match="boom"):
        next(found)
