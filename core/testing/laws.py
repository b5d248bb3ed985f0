"""The laws of a dissector, as one call: `check_laws`.

Each law is a function of a `Case` that raises `LawBroken` with the smallest example that it found.
They are run in the order of `LAWS`: a later one may rely on the earlier ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from kshark.api import DissectError, Dissector, Entry, Message, ProtocolSpec, Side
from kshark.testing import _packets
from kshark.testing._case import (
    NAMES,
    Case,
    Face,
    LawBroken,
    Talk,
    brief,
    differ,
    face,
    fail,
    guarded,
    make_case,
    short,
    tell,
)
from kshark.testing._cost import law_memory, law_time
from kshark.testing._holes import law_gaps, law_pairs, law_prefix
from kshark.testing.play import Conversation, Heard, Piece, converse, engine_for, rows
from kshark.testing.strategies import cut_talk, explore, garbage, hypothesis, mutations

POINTS = 300
"""Places of a single cut that are tried; see `kshark.testing._case.HEARD`."""


def law_splits(case: Case) -> None:
    """However the stream is cut, the messages are the same."""
    for at, pieces in single_cuts(case):
        check_split(case, pieces, at)
    check_split(case, finely(case), "byte by byte")
    explore(cut_talk(case.talk), lambda pieces: check_split(case, pieces, ""), case.examples)


def check_split(case: Case, pieces: Talk, when: str) -> None:
    when = when or f"cut as {tell(pieces)}"
    heard = guarded("splits", partial(case.hear, pieces), pieces)
    if heard.errors:
        fail("splits", f"{when}, the dissector raises DissectError({heard.errors[0]!r})")
    differ("splits", case.whole, case.faces(heard, "splits"), when)


def single_cuts(case: Case) -> Iterator[tuple[str, Talk]]:
    """The conversation with one piece in two, at every offset (or at POINTS of them)."""
    talk = case.talk
    places = [(number, at) for number, (_, data) in enumerate(talk) for at in range(1, len(data))]
    for number, at in case.spread(places, POINTS):
        side, data = talk[number]
        halves = [(side, data[:at]), (side, data[at:])]
        where = f"cut in the {NAMES[side]}'s piece {number} at byte {at}"
        shown = f"({short(data[max(0, at - 20) : at])} | {short(data[at : at + 20])})"
        yield f"{where} {shown}", talk[:number] + halves + talk[number + 1 :]


def finely(case: Case) -> Talk:
    """The conversation byte by byte, where it is a stream."""
    if case.spec.transport != "tcp":
        return case.talk
    return [(side, data[i : i + 1]) for side, data in case.talk for i in range(len(data))]


def law_sizes(case: Case) -> None:
    """A message counts the bytes that were consumed for it: sizes add up to the stream."""
    heard = case.hear(case.talk)
    for side in Side:
        fed = sum(len(data) for who, data in case.talk if who == side)
        sizes = [m.size for who, m in heard.messages if who == side]
        over = heard.switch
        handed = len(over.server if side else over.client) if over is not None else 0
        if sum(sizes) + handed != fed:
            fail(
                "sizes",
                f"the {NAMES[side]} sent {fed} bytes, its messages count {sum(sizes)}"
                + (f" and {handed} are handed over" if handed else "")
                + f" (sizes {sizes[:20]})",
            )
    ahead(case)


def ahead(case: Case) -> None:
    """No message may count bytes that had not come when it was given."""
    dissector = case.spec.dissector()
    left = [0, 0]
    for side, data in finely(case):
        left[side] += len(data)
        for found in dissector.feed(side, data):
            if not isinstance(found, Message):
                return
            who = found.side if found.side >= 0 else side
            left[who] -= found.size
            if left[who] < 0:
                told = brief(face(case.spec, Side(who), found, "sizes"))
                fail("sizes", f"{told} counts {-left[who]} bytes more than had come")


def law_close(case: Case) -> None:
    """Wherever a flow ends, close() gives what the end completes, or what it cuts, marked so."""
    for pieces, shown in prefixes(case):
        heard = guarded("close", partial(case.hear, pieces), pieces)
        if heard.switch is not None or heard.errors:
            continue
        faces = case.faces(heard, "close")
        closed = faces[len(faces) - heard.closed :]
        for found in closed:
            if not (found.cut or found.truncated or ends_anyway(case, found)):
                text = f"close() gives {brief(found)} as if it were whole: set cut=True"
                fail("close", f"after {shown}, {text}")


def ends_anyway(case: Case, found: Face) -> bool:
    """Whether the whole conversation has this message, or one that only its end completes."""
    if any(found.core == one.core for one in case.whole):
        return True
    last = case.whole[len(case.whole) - case.closed :]
    return any(found[:7] == one[:7] for one in last)


def prefixes(case: Case) -> Iterator[tuple[Talk, str]]:
    """Beginnings of a conversation, at every byte (or at POINTS of them)."""
    talk = case.talk
    places = [(number, at) for number, (_, data) in enumerate(talk) for at in range(len(data))]
    for number, at in case.spread(places, POINTS):
        side, data = talk[number]
        shown = f"{at} bytes of the {NAMES[side]}'s piece {number} ({short(data[:at])})"
        yield [*talk[:number], (side, data[:at])], shown


def law_repeatable(case: Case) -> None:
    """The same bytes give the same messages, whatever other flows are dissected in between."""
    alone = case.faces(case.hear(case.talk), "repeatable")
    differ("repeatable", case.whole, alone, "the second time, with a fresh dissector")
    alone = in_turns(case, 1)[0]
    for faces in in_turns(case, 2):
        differ("repeatable", alone, faces, "with two flows dissected in turns")


def in_turns(case: Case, count: int) -> list[list[Face]]:
    """What so many dissectors give that get their bytes one after the other, until an error."""
    flows: list[tuple[Dissector, list[Face]]] = [(case.spec.dissector(), []) for _ in range(count)]
    try:
        for side, data in finely(case):
            for dissector, faces in flows:
                for message in dissector.feed(side, data):
                    if isinstance(message, Message):
                        who = Side(message.side) if message.side >= 0 else side
                        faces.append(face(case.spec, who, message, "repeatable"))
    except DissectError:
        pass  # law_splits tells, if it should not be
    return [faces for _, faces in flows]


def law_garbage(case: Case) -> None:
    """Whatever comes, `DissectError` is the only complaint, and every message is well formed."""
    st = hypothesis().strategies
    sides = st.sampled_from(list(Side))
    number = st.integers(0, len(case.talk) - 1)

    def damaged(at: int) -> Any:
        before, (side, data), after = case.talk[:at], case.talk[at], case.talk[at + 1 :]
        return mutations(data).map(lambda bad: [*before, (side, bad), *after])

    noise = st.lists(st.tuples(sides, garbage()), min_size=1, max_size=4)

    def check(pieces: list[Piece]) -> None:
        heard: Heard = guarded("garbage", lambda: case.hear(pieces), pieces)
        case.faces(heard, "garbage")

    explore(noise, check, case.examples)
    explore(number.flatmap(damaged), check, case.examples)


def law_packets(case: Case) -> None:
    """Segments out of order and sent twice give the same entries."""
    if case.spec.transport != "tcp":
        return
    longest = max(len(data) for _, data in case.talk)
    start, middle, end = _packets.packets(case.talk, max(1, -(-longest // 4)))
    wanted = entries_of(case, [*start, *middle, *end])
    differ_rows("packets", rows(converse(case.spec, case.talk)), rows(wanted), "as packets")
    st = hypothesis().strategies
    moves = st.lists(
        st.tuples(st.integers(0, len(middle) - 1), st.integers(0, 3), st.booleans()), max_size=6
    )

    def check(steps: list[tuple[int, int, bool]]) -> None:
        frames = list(middle)
        for at, distance, twice in steps:
            frame = frames[at] if twice else frames.pop(at)
            frames.insert(at + distance, frame)
        got = entries_of(case, [*start, *frames, *end])
        differ_rows(
            "packets",
            both(case, wanted),
            both(case, got),
            f"with (packet, moved by, twice) {steps}",
        )

    explore(moves, check, case.examples)


def entries_of(case: Case, frames: list[bytes]) -> list[Entry]:
    """What the whole engine makes of these packets."""
    said: list[str] = []
    engine = engine_for(case.spec, said)
    entries = engine.feed(_packets.block(frames)) + engine.finish()
    if said:
        fail("packets", "; ".join(said))
    problems = engine.ledger.check()
    if problems:
        fail("packets", f"the engine's books do not balance: {problems}")
    return entries


def both(case: Case, entries: Sequence[Entry]) -> list[str]:
    """Entries with all of their messages, for comparison."""
    out = []
    for entry in entries:
        parts = [
            "-" if message is None else repr(face(case.spec, side, message, "packets")[1:])
            for side, message in ((Side.CLIENT, entry.request), (Side.SERVER, entry.response))
        ]
        out.append(f"{' -> '.join(parts)} [{entry.outcome}]")
    return out


def differ_rows(law: str, wanted: Sequence[str], got: Sequence[str], when: str) -> None:
    if wanted == got:
        return
    for number, pair in enumerate(zip(wanted, got, strict=False)):
        if pair[0] != pair[1]:
            fail(law, f"{when}, entry {number} is {pair[1]:.300}, not {pair[0]:.300}")
    lost, new = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    fail(law, f"{when}, entries are lost: {list(lost)[:3]}; entries are new: {list(new)[:3]}")


LAWS: Final[Mapping[str, Callable[[Case], None]]] = {
    "repeatable": law_repeatable,
    "splits": law_splits,
    "sizes": law_sizes,
    "close": law_close,
    "garbage": law_garbage,
    "gaps": law_gaps,
    "pairs": law_pairs,
    "prefix": law_prefix,
    "packets": law_packets,
    "memory": law_memory,
    "time": law_time,
}
"""What `check_laws` checks, by the names that its messages and its `skip` use."""

ONLY_STREAMS: Final = frozenset({"splits", "gaps", "prefix", "packets", "time"})
"""Laws of byte streams; a datagram is what it is."""


def check_laws(
    spec: ProtocolSpec,
    conversation: Conversation,
    expected: Sequence[str] | None = None,
    *,
    again: Conversation | None = None,
    recovers: bool | None = None,
    skip: Collection[str] = (),
    examples: int = 40,
) -> None:
    """Hold a dissector to every law; `LawBroken` (an `AssertionError`) says which one it breaks.

    `conversation` is a whole one, from its first byte, of messages that can be told apart.
    `expected` are its entries as `rows` shows them. `again` is an exchange that may follow at any
    time, for after a loss: by default the conversation itself. `recovers` says whether the dissector
    must find it (by default yes, but for a `Framed` without ``resync``). `skip` names laws that do
    not hold for this protocol; say why where you call. `examples` is how many random ones a law tries.
    """
    unknown = set(skip) - set(LAWS)
    if unknown:
        raise ValueError(f"no law {sorted(unknown)[0]!r}; there are {', '.join(LAWS)}")
    case = make_case(spec, conversation, again, recovers, examples)
    entries = guarded("whole", lambda: converse(spec, case.talk), case.talk)
    if expected is not None:
        differ_rows("whole", list(expected), rows(entries), "in the conversation")
    for name, law in LAWS.items():
        if name not in skip and not (spec.transport != "tcp" and name in ONLY_STREAMS):
            law(case)


__all__ = ["LAWS", "LawBroken", "check_laws"]
