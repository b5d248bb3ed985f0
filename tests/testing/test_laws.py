"""The laws bite: each broken dissector is caught by the law that it breaks, and the good ones pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from dissectors import (
    COUNTED_TALK,
    FRAME_ROWS,
    FRAME_TALK,
    LINE_ROWS,
    LINE_TALK,
    C,
    Counted,
    Frames,
    Line,
    S,
    frame,
    spec,
)

from kshark.api import Details, DissectError, Framed, Kind, Message, ProtocolSpec, Side
from kshark.testing import LAWS, LawBroken, check_laws

# What no dissector can help: see the two tests that are expected to fail.
ENGINE = ("pairs", "packets")


def test_a_line_protocol_by_framed_keeps_the_laws() -> None:
    check_laws(spec(Line), LINE_TALK, LINE_ROWS, skip=ENGINE, examples=15)


def test_a_length_prefixed_protocol_by_framed_keeps_the_laws() -> None:
    check_laws(spec(Frames), FRAME_TALK, FRAME_ROWS, examples=15)


def test_a_dissector_by_hand_keeps_the_laws() -> None:
    check_laws(spec(Counted), COUNTED_TALK, skip=ENGINE, examples=15)


def test_without_pipelines_pairs_keep_too() -> None:
    talk = [LINE_TALK[0], LINE_TALK[1], (C, b">get two\n"), (S, b"<ok 2\n")]
    check_laws(spec(Line), talk, LINE_ROWS[:2], skip=["packets"], examples=15)


def test_datagrams_are_not_cut() -> None:
    class Datagram(Counted):
        """One message a datagram; what follows its body is wrong."""

        def feed(self, side: Side, data: bytes) -> list[Message]:
            out = super().feed(side, data)
            left, self.held[side] = self.held[side], bytearray()
            if left:
                raise DissectError("not whole")
            return out

    check_laws(spec(Datagram, transport="udp"), COUNTED_TALK, skip=ENGINE, examples=15)


class ForgetsSplits(Counted):
    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        if not out:
            self.held[side].clear()
        return out


class DeafAfterGap(Counted):
    def hunt(self, side: Side) -> None:
        self.held[side].clear()


class IgnoresGaps(Counted):
    def gap(self, side: Side, missing: int) -> list[Message]:
        return []


class GapIsEnd(Counted):
    """Gives what it holds when a hole comes, as if it were whole."""

    def gap(self, side: Side, missing: int) -> list[Message]:
        held = bytes(self.held[side])
        super().gap(side, missing)
        name, _, body = held.partition(b"\n")
        return (
            [Message(Kind(1 + side), name.partition(b" ")[0].decode("latin-1"), body=body)]
            if body
            else []
        )


class Hoards(Counted):
    limit = 10**9


class HoardsRequests(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Message] = []

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        if side == Side.CLIENT:
            self.waiting += out
        return out


class SearchesAgain(Counted):
    """Looks through everything that it holds at each byte."""

    limit = 100_000

    def feed(self, side: Side, data: bytes) -> list[Message]:
        held = bytes(self.held[side]) + data
        if b"\n" not in held:
            self.held[side] = bytearray(held)
            if len(held) > self.limit:
                raise DissectError("long")
            return []
        return super().feed(side, data)


class CopiesTheRest(Counted):
    """Cuts each message off the front of an immutable chunk."""

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out: list[Message] = []
        rest = bytes(self.held[side]) + data
        self.held[side].clear()
        while len(rest) > 4_096:
            name, _, size = rest[: rest.find(b"\n")].partition(b" ")
            if not size.isdigit():
                raise DissectError("no size")
            length = len(name) + 2 + len(size) + int(size[:9])
            out += super().feed(side, rest[:length])
            rest = bytes(bytearray(rest[length:]))  # twice, so that no quick machine hides it
        return out + super().feed(side, rest)


class Careless(Counted):
    def head(self, line: bytes) -> tuple[str, int]:
        name, _, size = line.partition(b" ")
        if len(size) > 4:
            raise DissectError("long")
        return name.decode(), int(size)


class SizesOfBodies(Counted):
    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            message.size = len(message.body)
        return out


class SizesAhead(Counted):
    """The first message of each side counts a byte of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.given = [0, 0]

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            self.given[side] += 1
            message.size += {1: 1, 2: -1}.get(self.given[side], 0)
        return out


class GlobalState(Counted):
    count = 0

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            GlobalState.count += 1
            message.target = str(GlobalState.count)
        return out


class SharedBuffer(Counted):
    """Starts over by emptying what all flows share: right alone, wrong with two."""

    shared = [bytearray(), bytearray()]

    def __init__(self) -> None:
        super().__init__()
        for buffer in self.shared:
            buffer.clear()
        self.held = self.shared


class ClosesAsWhole(Counted):
    def close(self) -> list[Message]:
        return [
            Message(Kind(1 + side), "rest", body=bytes(held), size=len(held))
            for side, held in enumerate(self.held)
            if held
        ]


class CountsForKeys(Counted):
    """Pairs the n-th request with the n-th response by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.number = [0, 0]

    def feed(self, side: Side, data: bytes) -> list[Message]:
        out = super().feed(side, data)
        for message in out:
            self.number[side] += 1
            message.key = self.number[side]
        return out


class DiesOfAnError(Counted):
    dead = False

    def feed(self, side: Side, data: bytes) -> list[Message]:
        if self.dead:
            return []
        try:
            return super().feed(side, data)
        except DissectError:
            self.dead = True
            raise


class WrongTypes(Counted):
    def head(self, line: bytes) -> tuple[str, int]:
        name, size = super().head(line)
        return name.encode(), size  # type: ignore[return-value]


BROKEN = [
    (ForgetsSplits, "splits", "cut in the client's piece 0 at byte 1 "),
    (GlobalState, "repeatable", "target '1' became '"),
    (SharedBuffer, "repeatable", "with two flows dissected in turns"),
    (SizesOfBodies, "sizes", "the client sent 31 bytes, its messages count"),
    (SizesAhead, "sizes", "counts 1 bytes more than had come"),
    (ClosesAsWhole, "close", "set cut=True"),
    (Careless, "garbage", "which is no DissectError"),
    (DeafAfterGap, "gaps", "1 bytes of the client lost at 0, the client is not understood again"),
    (IgnoresGaps, "gaps", "as if it were whole"),
    (GapIsEnd, "gaps", "as if it were whole"),
    (CountsForKeys, "gaps", "as if it were whole"),
    (DiesOfAnError, "prefix", "not understood again"),
    (Hoards, "memory", "the dissector keeps "),
    (HoardsRequests, "memory", "the dissector keeps "),
    (SearchesAgain, "time", "byte by byte: the last quarter takes"),
    (CopiesTheRest, "time", "in one chunk of 512 KiB"),
    (WrongTypes, "whole", "whose verb is bytes, not str"),
]


@pytest.mark.parametrize(("dissector", "law", "text"), BROKEN, ids=[b[0].__name__ for b in BROKEN])
def test_a_law_catches(dissector: Callable[[], Any], law: str, text: str) -> None:
    slow = {"memory", "time"} - {law}
    with pytest.raises(LawBroken, match=re.escape(text)) as caught:
        check_laws(spec(dissector), COUNTED_TALK, skip=[*ENGINE, *slow], examples=15)
    assert caught.value.law == law
    assert len(str(caught.value)) < 700


def test_every_law_is_proven_to_bite() -> None:
    elsewhere = {"packets", "pairs"}
    assert {law for _, law, _ in BROKEN} | elsewhere == {*LAWS, "whole"}


def test_wrong_pairs_are_caught() -> None:
    """A dissector that counts requests and responses itself is one off after a loss."""
    talk = [(C, b"Aone 0\n"), (S, b"Auno 0\n"), (C, b"Atwo 0\n"), (S, b"Adue 0\n")]
    others = [law for law in LAWS if law != "pairs"]
    with pytest.raises(LawBroken, match="is paired with"):
        check_laws(spec(CountsForKeys), talk, skip=others)


def test_packets_are_checked() -> None:
    """A dissector that takes a chunk for a message lives until segments are cut otherwise."""

    class ChunkIsMessage(Counted):
        def feed(self, side: Side, data: bytes) -> list[Message]:
            return [Message(Kind(1 + side), "chunk", body=data, size=len(data))]

    others = [law for law in LAWS if law != "packets"]
    with pytest.raises(LawBroken, match="law 'packets'"):
        check_laws(spec(ChunkIsMessage), COUNTED_TALK, skip=others)


def test_details_that_raise_are_caught() -> None:
    def details(message: Message) -> Details:
        raise KeyError(message.verb)

    with pytest.raises(LawBroken, match=r"KeyError: 'Aask' .*for the message Message\(kind="):
        check_laws(spec(Counted, details=details), COUNTED_TALK)


def test_an_unexpected_entry_is_told() -> None:
    with pytest.raises(LawBroken, match=r"entry 1 is Amore -> Ano \[ok\], not nothing"):
        check_laws(spec(Counted), COUNTED_TALK, ["Aask -> Ayes [ok]", "nothing"])


def test_a_conversation_must_be_understood() -> None:
    with pytest.raises(LawBroken, match=r"raises DissectError\(\"head b'x'"):
        check_laws(spec(Counted), [(C, b"x\n")])
    with pytest.raises(LawBroken, match="gives no message at all"):
        check_laws(spec(Counted), [(C, b"A 3")])


def test_an_unknown_law_cannot_be_skipped() -> None:
    with pytest.raises(ValueError, match="no law 'split'; there are repeatable, splits, "):
        check_laws(spec(Counted), COUNTED_TALK, skip=["split"])


def test_a_framed_without_resync_need_not_recover_unless_told_to() -> None:
    class Plain(Line):
        resync = Framed.resync

    check_laws(spec(Plain), LINE_TALK, skip=ENGINE, examples=5)
    with pytest.raises(LawBroken, match="is not understood again"):
        check_laws(spec(Plain), LINE_TALK, recovers=True, skip=ENGINE, examples=5)


def test_again_is_what_may_follow_a_loss() -> None:
    """A greeting comes once: it is no part of a fresh exchange."""

    class Greets(Line):
        def parse(self, side: Side) -> Any:
            if side == Side.CLIENT and not getattr(self, "greeted", False):
                hello = yield 6
                if hello != b"HELLO\n":
                    raise DissectError("no greeting")
                self.greeted = True
            yield from super().parse(side)

        def resync(self, side: Side, data: bytes) -> int:
            self.greeted = True
            return super().resync(side, data)

    talk: Sequence[tuple[Side, bytes]] = [(C, b"HELLO\n>get one\n"), (S, b"<ok 1\n")]
    check_laws(spec(Greets), talk, again=[(C, b">get two\n"), (S, b"<ok 2\n")], examples=10)


def test_a_hole_in_the_first_pipeline() -> None:
    """Requests 2 and 3 go out together, 2 is lost: its answer must not be given to 3."""
    others = [law for law in LAWS if law != "pairs"]
    check_laws(spec(Line), LINE_TALK, skip=others)


def test_an_answer_captured_before_its_question() -> None:
    """The wire gives them in the right order, with their own times: the pair must stand."""
    others = [law for law in LAWS if law != "packets"]
    check_laws(spec(Line), LINE_TALK, skip=others, examples=200)


def test_frames_with_long_bodies_skip_a_gap() -> None:
    """More than Framed.limit; the laws' holes lie within the body."""
    talk = [(C, frame(7, b"q" * 70_000)), (S, frame(7, b"short"))]
    protocol: ProtocolSpec = spec(Frames)
    check_laws(protocol, talk, ["frame -> frame [ok]"], examples=5, skip=["splits", "packets"])


def test_a_long_conversation_is_cut_at_fewer_places_without_a_rhythm() -> None:
    from kshark.testing._case import FEWEST, HEARD, make_case
    from kshark.testing._holes import HOLES, holes
    from kshark.testing.laws import POINTS, single_cuts

    short = make_case(spec(Frames), FRAME_TALK, None, None, 1)
    places = [*range(10_000)]
    assert short.spread(places[:50], 300) == places[:50]
    long = make_case(spec(Frames), FRAME_TALK * 50, None, None, 1)
    assert sum(len(data) for _, data in long.talk) > 1_000
    cuts = len(list(single_cuts(long)))
    assert cuts == max(FEWEST, min(POINTS, HEARD // len(long.whole)))
    assert len(list(holes(long))) <= 2 * 3 * max(FEWEST, HOLES // 3)
    chosen = long.spread(places, POINTS)
    assert chosen[: cuts // 2] == places[: cuts // 2]
    assert chosen == sorted(set(chosen))
    assert len({place % 12 for place in chosen[cuts // 2 :]}) > 3
    assert max(chosen) > 9_500 - 10_000 // cuts
