"""The laws of loss: a hole never passes unnoticed, never makes a wrong pair, never silences a side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from kshark.api import Side
from kshark.testing._case import NAMES, Case, Face, Talk, brief, face, fail, guarded, short, tell
from kshark.testing._cost import drop
from kshark.testing.play import Piece, converse
from kshark.testing.strategies import explore, garbage, hypothesis

HOLES = 120
"""Places of a hole that are tried a side; see `kshark.testing._case.HEARD`."""

JOINS = 300
"""Places at which a capture begins that are tried."""


@dataclass(slots=True)
class Hole:
    """`size` bytes of one side that are lost from `start` on."""

    side: Side
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.size} bytes of the {NAMES[self.side]} lost at {self.start}"

    def punch(self, talk: Talk) -> list[Piece]:
        """The conversation without these bytes."""
        pieces: list[Piece] = []
        at = 0
        for side, data in talk:
            if side != self.side:
                pieces.append((side, data))
                continue
            first = min(max(self.start - at, 0), len(data))
            last = min(max(self.start + self.size - at, 0), len(data))
            at += len(data)
            if first == last:
                pieces.append((side, data))
                continue
            parts: list[Piece] = [(side, data[:first]), (side, last - first), (side, data[last:])]
            pieces += [part for part in parts if part[1]]
        return pieces


def length(talk: Talk, side: Side) -> int:
    return sum(len(data) for who, data in talk if who == side)


def holes(case: Case) -> Iterator[Hole]:
    """One byte, a few, and all the rest of a piece, at every offset (or at HOLES of them)."""
    for side in Side:
        total = length(case.talk, side)
        for number, start in enumerate(case.spread(range(total), HOLES, times=9)):
            for size in {1, 2 + number % 7, max(1, total // 3)}:
                yield Hole(side, start, min(size, total - start))


def law_gaps(case: Case) -> None:
    """No message spans a hole silently, none is invented, and later ones are found again."""
    for hole in holes(case):
        check_gap(case, hole)


def check_gap(case: Case, hole: Hole) -> None:
    follow = [*case.again, *case.again]
    lossless = case.kept("lossless", [*case.talk, *follow], "gaps")
    if unfound(case, lossless[len(case.whole) :], "gaps") is not None:
        follow, lossless = [], case.whole  # nothing can follow: a switch, a body that the end ends
    pieces = [*hole.punch(case.talk), *follow]
    heard = guarded("gaps", lambda: case.hear(pieces), pieces)
    found = case.faces(heard, "gaps")
    sent = Counter(f.core for f in lossless)
    spans = {} if hole.side in overlapping(case) else spanning(case.whole, hole)
    keys = {f.key for f in lossless}
    whole: dict[tuple[Any, ...], list[Face]] = {}
    for one in found:
        if one.flagged:
            own = one.key in keys  # else it was given a key that pairs with nobody
            if not any(one.may_be(w if own else w._replace(key=one.key)) for w in lossless):
                fail("gaps", f"with {hole}, {brief(one)} is given, which nobody sent")
        else:
            whole.setdefault(one.core, []).append(one)
    for core, given in whole.items():
        if len(given) > sent[core]:
            told = f"{brief(given[0])} is given as if it were whole; nobody sent it"
            fail("gaps", f"with {hole}, {told}")
        check_spans(given, sent[core], sorted(spans.get(core, ())), hole)
    if case.recovers and heard.switch is None and follow:
        check_recovery("gaps", case, found, f"with {hole}")


def check_spans(given: list[Face], sent: int, rests: list[int], hole: Hole) -> None:
    """Of messages that are alike, those that had bytes in the hole have no more than what came after it."""
    number = len(given) - (sent - len(rests))
    if number > 0:
        small = sorted(given, key=lambda one: one.size)[:number]
        for one, rest in zip(small, rests[-number:], strict=True):
            if one.size > rest:
                told = f"{brief(one)} is given as if it were whole; it spans it"
                fail("gaps", f"with {hole}, {told}")


def overlapping(case: Case) -> frozenset[Side]:
    """Sides whose messages are not one after the other (streams in turns): sizes do not tell whose a byte is."""
    if case.overlaps is None:
        heard = case.hear(case.talk)
        ends: tuple[list[int], list[int]] = ([], [])
        for side, message in heard.messages[: len(heard.messages) - heard.closed]:
            ends[side].append(message.size + (ends[side][-1] if ends[side] else 0))
        case.overlaps = frozenset(side for side in Side if late(case, side, ends[side]))
    return case.overlaps


def late(case: Case, side: Side, ends: list[int]) -> bool:
    """Whether a message is given only after more bytes of its side than are counted up to its end."""
    for number, end in case.spread(list(enumerate(ends, 1)), HOLES):
        heard = case.hear(until(case.talk, side, end))
        given = heard.messages[: len(heard.messages) - heard.closed]
        if sum(who == side for who, _ in given) < number:
            return True
    return False


def until(talk: Talk, side: Side, end: int) -> Iterator[Piece]:
    """The conversation up to so many bytes of one side, and what the other says before its next."""
    for who, data in talk:
        if who == side:
            if end <= 0:
                return
            yield who, data[:end]
            end -= len(data)
        else:
            yield who, data


def spanning(faces: list[Face], hole: Hole) -> dict[tuple[Any, ...], list[int]]:
    """The messages that have bytes in the hole; and of each, how many bytes come after it."""
    out: dict[tuple[Any, ...], list[int]] = {}
    at = 0
    for one in faces:
        if one.side == hole.side and one.size:
            at += one.size
            if at - one.size < hole.start + hole.size and at > hole.start:
                out.setdefault(one.core, []).append(at - hole.start - hole.size)
    return out


def check_recovery(law: str, case: Case, found: list[Face], when: str) -> None:
    """The last of two fresh exchanges is understood like the first time."""
    missed = unfound(case, found, law)
    if missed is not None:
        fail(
            law,
            f"{when}, the {NAMES[missed.side]} is not understood again: two fresh exchanges later "
            f"{brief(missed)} is still not found (recovers=False if it cannot be)",
        )


def unfound(case: Case, found: list[Face], law: str) -> Face | None:
    """The last message of a fresh exchange, where `found` does not end with that exchange."""
    fresh = case.kept("again", case.again, law)
    for side in Side:
        wanted = [f for f in fresh if f.side == side]
        cut = any(f.cut for f in wanted)  # else one that the hole cut may be given after all
        got = [f.core for f in found if f.side == side and (cut or not f.cut)]
        if wanted and got[-len(wanted) :] != [f.core for f in wanted]:
            return wanted[-1]
    return None


def law_pairs(case: Case) -> None:
    """Whatever is lost, a response is never given to a request that is not its own."""
    right = pairs(case, list(case.talk))
    if case.spec.transport != "tcp":
        for number in range(len(case.talk)):
            rest = case.talk[:number] + case.talk[number + 1 :]
            check_pairs(case, right, list(rest), f"datagram {number} lost")
        return
    for hole in holes(case):
        check_pairs(case, right, hole.punch(case.talk), str(hole))


def check_pairs(case: Case, right: list[Pair], pieces: list[Piece], when: str) -> None:
    """Every pair that comes of these pieces is one of the right ones."""
    for pair in guarded("pairs", partial(pairs, case, pieces), pieces):
        if not any(pair.may_be(one) for one in right):
            told = f"{brief(pair.answered)} is paired with {brief(pair.asked)}"
            fail("pairs", f"with {when}, {told}")


@dataclass(slots=True)
class Pair:
    """Request and response of one entry."""

    asked: Face
    answered: Face
    midstream: bool

    def may_be(self, whole: Pair) -> bool:
        """Whether this is `whole`, or what was left of it."""
        asked, answered = self.asked.may_be(whole.asked), self.answered.may_be(whole.answered)
        # A hole before the protocol was known: the first message may be half of one, and the
        # entry says so. The other half must still be right.
        return (asked and answered) or (self.midstream and (asked or answered))


def pairs(case: Case, pieces: list[Piece]) -> list[Pair]:
    """Those of the entries that have both."""
    found = []
    for entry in converse(case.spec, pieces):
        if entry.request is None or entry.response is None or entry.protocol != case.spec.name:
            continue
        sides = (Side.SERVER, Side.CLIENT) if entry.swapped else (Side.CLIENT, Side.SERVER)
        asked = face(case.spec, sides[0], entry.request, "pairs")
        answered = face(case.spec, sides[1], entry.response, "pairs")
        found.append(Pair(asked, answered, entry.midstream))
    return found


def law_prefix(case: Case) -> None:
    """Garbage first, or a join in mid-stream: no exception, and after a gap all is well."""
    st = hypothesis().strategies
    places = [
        (at, cut)
        for at, (_, data) in enumerate(case.talk)
        for cut in range(0, len(data), 1 + len(data) // 20)
    ]
    for at, cut in case.spread(places, JOINS):
        side, data = case.talk[at]
        rest: Talk = [(side, data[cut:]), *case.talk[at + 1 :]]
        heard = guarded("prefix", partial(case.hear, rest), rest)
        case.faces(heard, "prefix")
    explore(
        st.tuples(st.sampled_from(list(Side)), garbage()),
        lambda pair: check_prefix(case, *pair),
        case.examples,
    )


def check_prefix(case: Case, side: Side, noise: bytes) -> None:
    probe = case.spec.dissector()
    inside = getattr(probe, "inside", None)
    pieces: list[Piece] = [(side, noise), (side, 1), *case.again, *case.again]
    heard = guarded("prefix", lambda: case.hear(pieces), pieces)
    found = case.faces(heard, "prefix")
    wrong = guarded("prefix", partial(drop, partial(probe.feed, side, noise)), pieces)
    if inside is not None and not wrong and inside(side):
        return  # it believes in a counted body: nobody could know better
    if case.recovers and heard.switch is None:
        check_recovery("prefix", case, found, f"after {short(noise)} ({tell(pieces[:2])})")
