"""What the laws compare: a conversation and what a dissector says of it, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from kshark.api import Framed, Message, ProtocolSpec, Side
from kshark.faults import place
from kshark.given import checked
from kshark.testing._alarm import TooSlow, alarm
from kshark.testing.play import PATIENCE, Conversation, Heard, Piece, Stuck, hear

Talk = list[tuple[Side, bytes]]
T = TypeVar("T")

HEARD = 5_000
"""Messages that a law listens to in all of its cuts or holes: of a long conversation fewer places are tried, so that
a case takes seconds. 250 cuts of 20 messages; what is thorough are many short cases."""
FEWEST = 20
"""Places that are tried, however long the conversation."""

NAMES = {Side.CLIENT: "client", Side.SERVER: "server"}


class LawBroken(AssertionError):
    """A dissector broke a law of `check_laws`; the text says which, with the smallest example."""

    def __init__(self, law: str, text: str, *, stuck: bool = False) -> None:
        super().__init__(f"law {law!r} is broken: {text}")
        self.law = law
        self.stuck = stuck  # nobody waits for it again, to find a smaller example


class Face(NamedTuple):
    """Everything of a message that must not depend on how its bytes came."""

    side: Side
    kind: int
    verb: str
    target: str
    status: int
    ok: bool
    key: int
    head: bytes
    body: bytes
    truncated: bool
    cut: bool
    gap_bytes: int
    size: int
    notes: tuple[str, ...]
    details: str

    @property
    def core(self) -> tuple[Any, ...]:
        """Without what a hole before the message may change: size and notes."""
        return (*self[:12], self.details)

    @property
    def flagged(self) -> bool:
        """It says itself that something is missing."""
        return self.truncated or self.cut or self.gap_bytes > 0

    def may_be(self, whole: Face) -> bool:
        """Whether this may be what was left of `whole`."""
        if not self.flagged:
            return self.core == whole.core
        return (
            (self.side, self.kind, self.key) == (whole.side, whole.kind, whole.key)
            and whole.verb.startswith(self.verb)
            and whole.target.startswith(self.target)
            and self.status in (0, whole.status)
        )


@dataclass(slots=True)
class Case:
    """One dissector, one conversation that it must understand."""

    spec: ProtocolSpec
    talk: Talk
    again: Talk  # a fresh exchange, for after a loss
    recovers: bool  # whether the dissector must find `again` after a loss
    examples: int  # random examples a law
    whole: list[Face]  # what the undamaged conversation gives
    closed: int  # how many of these only close() gives
    overlaps: frozenset[Side] | None = None  # sides that send several messages in turns, once known
    _kept: dict[str, list[Face]] = field(default_factory=dict)

    def spread(self, places: Sequence[T], most: int, times: int = 1) -> list[T]:
        """At most so many of the places, at each of which all is heard `times` over: the first ones, then
        one by chance out of each of the parts of the rest, so that no step hides what a rhythm would show.
        """
        heard = times * max(len(self.whole), 1)
        most = max(FEWEST, min(most, HEARD // heard))
        if len(places) <= most:
            return list(places)
        first, rest = places[: most // 2], places[most // 2 :]
        parts, random = most - len(first), Random(len(places))
        edges = [len(rest) * number // parts for number in range(parts + 1)]
        return [*first, *(rest[random.randrange(a, b)] for a, b in pairwise(edges))]

    def kept(self, name: str, pieces: Sequence[Piece], law: str) -> list[Face]:
        """The faces of undamaged pieces, heard once."""
        if name not in self._kept:
            self._kept[name] = self.faces(self.hear(pieces), law)
        return self._kept[name]

    def hear(self, pieces: Iterable[Piece]) -> Heard:
        """A fresh dissector's answer."""
        return hear(self.spec.dissector(), pieces)

    def faces(self, heard: Heard, law: str) -> list[Face]:
        """The messages, valid and with their details."""
        try:
            with alarm(PATIENCE):
                return [face(self.spec, side, message, law) for side, message in heard.messages]
        except TooSlow as error:
            text = f"details() did not come back, at {place(error)}"
            raise LawBroken(law, text, stuck=True) from error


def face(spec: ProtocolSpec, side: Side, message: Message, law: str) -> Face:
    """`message` as a value. Fails when it is not what sinks rely on, or its details raise."""
    m = message
    try:
        m = checked(m)
        bare = msgspec.structs.replace(m, notes=())  # notes are compared by themselves
        details = repr(spec.details(bare)) if spec.details is not None else ""
    except Exception as error:
        raise LawBroken(law, f"{show(error)} for the message {m!r:.300}") from error
    return Face(
        side,
        int(m.kind),
        m.verb,
        m.target,
        m.status,
        m.ok,
        m.key,
        m.head,
        m.body,
        m.truncated,
        m.cut,
        m.gap_bytes,
        m.size,
        m.notes,
        details,
    )


def make_case(
    spec: ProtocolSpec,
    conversation: Conversation,
    again: Conversation | None,
    recovers: bool | None,
    examples: int,
) -> Case:
    """The case, with what the undamaged conversation gives; fails where that is an error."""
    talk = joined(conversation, spec.transport)
    heard = guarded("whole", lambda: hear(spec.dissector(), talk), talk)
    if heard.errors:
        raise LawBroken("whole", f"the conversation raises DissectError({heard.errors[0]!r})")
    if not heard.messages:
        raise LawBroken("whole", "the conversation gives no message at all")
    if recovers is None:
        recovers = can_recover(spec)
    fresh = talk if again is None else joined(again, spec.transport)
    case = Case(spec, talk, fresh, recovers, examples, [], heard.closed)
    case.whole = case.faces(heard, "whole")
    return case


def can_recover(spec: ProtocolSpec) -> bool:
    """Everybody, but a `Framed` that does not override resync(), and who says otherwise (`recovers`)."""
    dissector = spec.dissector()
    said = getattr(dissector, "recovers", None)
    if said is not None:
        return bool(said)
    return not isinstance(dissector, Framed) or type(dissector).resync is not Framed.resync


def joined(conversation: Conversation, transport: str) -> Talk:
    """Without empty pieces, and with neighbours of one side joined, where it is a stream."""
    talk: Talk = []
    for side, piece in conversation:
        if not isinstance(piece, bytes):
            raise TypeError("a conversation for the laws has no holes: they make their own")
        if talk and talk[-1][0] == side and transport == "tcp":
            talk[-1] = (Side(side), talk[-1][1] + piece)
        elif piece:
            talk.append((Side(side), piece))
    return talk


def guarded(law: str, call: Callable[[], Any], pieces: Sequence[Piece]) -> Any:
    """The call's result; what it raises is the law's breach. `DissectError` never comes here."""
    try:
        return call()
    except LawBroken:
        raise
    except Stuck as error:
        raise LawBroken(law, str(error), stuck=True) from error
    except Exception as error:
        text = f"{show(error)}, which is no DissectError, from {tell(pieces)}"
        raise LawBroken(law, text) from error


def show(error: BaseException) -> str:
    """Type, text and place of an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
    return f"{type(error).__name__}: {error}{place}"


def tell(pieces: Sequence[Piece]) -> str:
    """A conversation for a reader: who said what, long pieces shortened."""
    parts = []
    for side, piece in pieces[:12]:
        what = f"({piece} bytes lost)" if isinstance(piece, int) else short(piece)
        parts.append(f"{NAMES[side]} {what}")
    more = f" and {len(pieces) - 12} more pieces" if len(pieces) > 12 else ""
    return ", ".join(parts) + more


def short(data: bytes) -> str:
    return repr(data) if len(data) <= 60 else f"{data[:30]!r}...{data[-20:]!r} ({len(data)} bytes)"


def differ(law: str, wanted: Sequence[Face], got: Sequence[Face], when: str) -> None:
    """Fail at the first difference between what should be and what is."""
    for number, (one, other) in enumerate(zip(wanted, got, strict=False)):
        if one != other:
            fields = [
                f"{name} {a!r:.120} became {b!r:.120}"
                for name, a, b in zip(Face._fields, one, other, strict=True)
                if a != b
            ]
            raise LawBroken(law, f"{when}, message {number} changes: {'; '.join(fields)}")
    if len(wanted) > len(got):
        lost = brief(wanted[len(got)])
        raise LawBroken(law, f"{when}, {len(wanted) - len(got)} messages are lost, first {lost}")
    if len(got) > len(wanted):
        more = brief(got[len(wanted)])
        raise LawBroken(law, f"{when}, {len(got) - len(wanted)} messages are new, first {more}")


def brief(face: Face) -> str:
    """A message in a few words."""
    kind = ("", "request", "response", "interim", "one-way")[face.kind]
    words = [NAMES[face.side], kind, face.verb, face.target, str(face.status or "")]
    words += ["cut" if face.cut else "truncated" if face.truncated else ""]
    text = " ".join(filter(None, words))
    return f"<{text} body {short(face.body)}>" if face.body else f"<{text}>"


def fail(law: str, text: str) -> NoReturn:
    raise LawBroken(law, text)
