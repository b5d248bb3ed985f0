"""The fuzzer finds what is wrong, says it once, makes it small, and is the same each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from dissectors import COUNTED_TALK, FRAME_TALK, C, Counted, Frames, Line, S, spec

from kshark import talk
from kshark.api import DissectError, Message, Side
from kshark.testing import _atheris, _mutate
from kshark.testing.fuzz import INPUT, Fuzzer, Report


def fuzzed(dissector: Callable[[], Any], pieces: Any = COUNTED_TALK, **more: Any) -> Report:
    return Fuzzer(spec(dissector), [list(pieces)], **more).run(size=300_000)


def test_a_good_one_stands_it() -> None:
    report = fuzzed(Frames, FRAME_TALK)
    assert report.findings == []
    assert report.bytes >= 300_000
    assert report.corpus > 10


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = (
        fuzzed(Line, [(C, b">a\n"), (S, b"<b\n")]),
        fuzzed(Line, [(C, b">a\n"), (S, b"<b\n")]),
    )
    assert (one.inputs, one.bytes, one.corpus) == (other.inputs, other.bytes, other.corpus)
    third = fuzzed(Line, [(C, b">a\n"), (S, b"<b\n")], seed=1)
    assert (third.inputs, third.bytes) != (one.inputs, one.bytes)


class Raises(Counted):
    def head(self, line: bytes) -> tuple[str, int]:
        if b"z" in line:
            raise KeyError("z")
        return super().head(line)


class Forgets(Counted):
    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        if not out:
            self.held[side].clear()
        return out


class Overcounts(Counted):
    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            message.size *= 3 if message.verb == "Aask" else 1
        return out


class GapIsNothing(Counted):
    def gap(self, side: Side, missing: int) -> list[Message]:
        return []


class Hoards(Counted):
    hoard: list[bytes]

    def feed(self, side: Side, data: bytes) -> list[Message]:
        self.hoard = [*getattr(self, "hoard", []), data * 200]
        return super().feed(side, data)


class Sleeps(Counted):
    def head(self, line: bytes) -> tuple[str, int]:
        if line.startswith(b"Aas") and len(line) != 6:
            time.sleep(30)
        return super().head(line)


@pytest.mark.parametrize(
    ("dissector", "kind", "text"),
    [
        (Raises, "exception", "KeyError: 'z'"),
        (Forgets, "cuts", "others when the bytes are cut otherwise"),
        (Overcounts, "sizes", "bytes more than came"),
        (GapIsNothing, "gaps", "given as if it were whole"),
        (Hoards, "memory", "the dissector keeps"),
    ],
)
def test_it_finds(dissector: Callable[[], Any], kind: str, text: str) -> None:
    found = {one.kind: one for one in fuzzed(dissector, memory=256 * 1024).findings}
    assert text in found[kind].text
    assert talk.parse(talk.show(found[kind].pieces)).pieces == found[kind].pieces


def test_what_takes_too_long_is_interrupted() -> None:
    report = fuzzed(Sleeps, patience=0.05, skip=["gaps", "pairs"])
    assert "slow" in [one.kind for one in report.findings]


def test_a_mistake_is_told_once_and_made_small() -> None:
    [found] = [one for one in fuzzed(Raises).findings if one.kind == "exception"]
    assert sum(len(piece) for _, piece in found.pieces if isinstance(piece, bytes)) <= 2
    assert "exception: KeyError: 'z'" in str(found)


def test_what_the_dissector_raises_on_purpose_is_no_finding() -> None:
    class Refuses(Counted):
        def feed(self, side: Side, data: bytes) -> list[Message]:
            raise DissectError("no")

    assert fuzzed(Refuses).findings == []


def test_without_seeds_it_begins_with_what_the_spec_says() -> None:
    fuzzer = Fuzzer(spec(Line, magic=(b">get",), replies=(b"<ok",)))
    assert fuzzer.corpus == [[(C, b">get")], [(S, b"<ok")]]
    assert Fuzzer(spec(Line)).corpus == [[(C, b"\0")]]


def test_a_run_has_a_bound() -> None:
    with pytest.raises(ValueError, match="a bound is needed"):
        Fuzzer(spec(Line)).run()
    seen: list[int] = []
    report = Fuzzer(spec(Line)).run(seconds=0.05, progress=lambda r: seen.append(r.inputs))
    assert seen == list(range(1, report.inputs + 1))


def test_mutants_are_bounded_and_differ() -> None:
    random = Random(7)
    parent: _mutate.Input = [(C, b"x" * INPUT), (S, 5)]
    for _ in range(300):
        child = _mutate.mutated(random, parent, parent, [b"word"], INPUT)
        assert sum(len(p) for _, p in child if isinstance(p, bytes)) <= INPUT


def test_pieces_for_atheris_are_packed_and_unpacked() -> None:
    pieces: _mutate.Input = [(C, b"a"), (S, b"b" * 127), (C, b"cd")]
    assert _atheris.unpack(_atheris.pack(pieces)) == pieces
    assert _atheris.pack([(S, b"x" * 300), (C, 5)]).count(b"x") == 300
    for data in (b"", b"\0", b"\xff", bytes(range(256))):
        assert all(piece for _, piece in _atheris.unpack(data))
