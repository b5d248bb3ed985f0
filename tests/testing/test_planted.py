"""Mistakes that authors make: `assert_dissector` finds each, in words that a newcomer understands."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from dissectors import COUNTED_TALK, C, Counted, Line, S, spec

from kshark.api import DissectError, Framed, Message, ProtocolSpec, Side, Step
from kshark.testing import LawBroken, assert_dissector

ENGINE = ("pairs", "packets")  # what no dissector of this talk can help: see test_laws
ROWS = ["Aask -> Ayes [ok]", "Amore -> Ano [ok]", "Amost -> Awell [ok]"]


def test_what_is_right_passes() -> None:
    toy = spec(Counted, magic=(b"A",))
    assert_dissector(toy, COUNTED_TALK, ROWS, skip=ENGINE, pipelined=True, fuzz=5_000, examples=10)


class ForgetsWhatWasCut(Counted):
    """State across splits: a message that comes in two chunks is lost."""

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        if not out:
            self.held[side].clear()
        return out


class SwallowsAfterAGap(Counted):
    """The first message behind a gap goes, too, and with it every one that follows a further gap."""

    def hunt(self, side: Side) -> None:
        super().hunt(side)
        if not self.hunting[side]:
            self.held[side].clear()
            self.hunting[side] = True


class KeepsEverything(Counted):
    """An unbounded buffer: the limit of a message is a gigabyte."""

    limit = 10**9


class SearchesFromTheStart(Counted):
    """A quadratic scan: with each byte, all bytes again."""

    limit = 100_000

    def feed(self, side: Side, data: bytes) -> list[Message]:
        held = bytes(self.held[side]) + data
        if b"\n" not in held:
            self.held[side] = bytearray(held)
            if len(held) > self.limit:
                raise DissectError("long")
            return []
        return super().feed(side, data)


class BelievesDigits(Counted):
    """An exception on garbage: a length that is no number."""

    def head(self, line: bytes) -> tuple[str, int]:
        name, _, size = line.partition(b" ")
        if len(size) > 4:
            raise DissectError("long")
        return name.decode(), int(size)


class AnswersTheLatest(Counted):
    """A wrong pair under pipelining: an answer gets the key of the latest request."""

    def __init__(self) -> None:
        super().__init__()
        self.latest = 0

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            if side == Side.CLIENT:
                self.latest += 1
            message.key = self.latest
        return out


LOCKSTEP = [
    (C, b"Aone 3\nab\n"),
    (S, b"Auno 2\nx\n"),
    (C, b"Atwo 3\ncd\n"),
    (S, b"Adue 2\ny\n"),
]

PLANTED = [
    (ForgetsWhatWasCut, "law 'splits' is broken: cut in the client's piece 0 at byte 1"),
    (SwallowsAfterAGap, "the client is not understood again: two fresh exchanges later"),
    (KeepsEverything, "is too much: raise DissectError where a piece gets too long"),
    (SearchesFromTheStart, "do not search or copy again what was there before"),
    (BelievesDigits, "ValueError: invalid literal for int() with base 10"),
]


@pytest.mark.parametrize(("dissector", "text"), PLANTED, ids=[p[0].__name__ for p in PLANTED])
def test_it_is_found(dissector: Callable[[], Any], text: str) -> None:
    with pytest.raises(LawBroken, match=re.escape(text)):
        assert_dissector(spec(dissector), COUNTED_TALK, ROWS, skip=ENGINE)


def test_a_wrong_pair_under_pipelining_is_found() -> None:
    toy: ProtocolSpec = spec(AnswersTheLatest)
    skip = [*ENGINE, "gaps", "prefix", "memory", "time"]  # it would be found there, too
    assert_dissector(
        toy, LOCKSTEP, recognised=False, skip=skip, fuzz=0
    )  # who never pipelines does not notice
    with pytest.raises(AssertionError, match=r"when the client does not wait for answers") as error:
        assert_dissector(toy, LOCKSTEP, pipelined=True, skip=skip, fuzz=0)
    assert "- Aone -> Auno [ok]" in str(error.value)
    assert "+ Atwo -> Auno [ok]" in str(error.value)
    with pytest.raises(AssertionError, match="other entries than expected"):
        assert_dissector(toy, COUNTED_TALK, ROWS, skip=skip)


def test_wrong_pairs_after_a_loss_are_found() -> None:
    class NumbersBoth(Counted):
        """Its own count of requests and of answers is one off after a loss."""

        def __init__(self) -> None:
            super().__init__()
            self.count = [0, 0]

        def feed(self, side: Side, data: bytes) -> list[Message]:
            out = super().feed(side, data)
            for message in out:
                self.count[side] += 1
                message.key = self.count[side]
            return out

    with pytest.raises(LawBroken, match="is paired with"):
        assert_dissector(spec(NumbersBoth), LOCKSTEP, skip=["gaps"], fuzz=0)


class Spins(Framed):
    """Turns without reading."""

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        yield b"\n"
        while True:
            yield b""


class GivesRubbish(Line):
    """Not messages."""

    def feed(self, side: Side, data: bytes) -> Iterable[Any]:
        return [data]


@pytest.mark.parametrize(
    ("dissector", "text"),
    [
        (Spins, "Spins.parse() turns without reading"),
        (GivesRubbish, "AttributeError: 'bytes' object has no attribute"),
    ],
    ids=["spins", "rubbish"],
)
def test_other_mistakes_are_found(dissector: Callable[[], Any], text: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(text)):
        assert_dissector(spec(dissector), [(C, b">a\n"), (S, b"<b\n")])
