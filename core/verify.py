"""A second opinion: what kshark makes of a capture against what tshark does, message by message.

Both sides are lists of messages by flow and direction, aligned by their values. For each difference it is
said which side is likely wrong, and why: what lost bytes, who did not take the flow, who capped a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from kshark import _tshark
from kshark._tshark import Seen, Table, Theirs
from kshark.api import Entry, Message, ProtocolSpec
from kshark.engine import Engine, EngineSettings
from kshark.entry_json import time_text
from kshark.plugins import Registry

ALIGNED: Final = 20_000
"""Messages of one direction of a flow that are aligned by their values; longer ones are compared in order."""

Key = tuple[str, str, str]  # source, target, half


@dataclass(slots=True)
class Ours:
    """One message as kshark sees it."""

    message: Message
    entry: Entry
    values: dict[str, str]


@dataclass(slots=True)
class Difference:
    """One message on which the two differ."""

    what: str  # "only kshark" | "only tshark" | "differs"
    flow: str
    half: str
    frame: int  # tshark's, 0 where it has none
    time: str  # kshark's, "" where it has none
    ours: dict[str, str]
    theirs: dict[str, str]
    wrong: str  # "kshark" | "tshark" | "unclear"
    why: str


@dataclass(slots=True)
class Comparison:
    """The result for one protocol."""

    protocol: str
    same: int = 0
    differences: list[Difference] = field(default_factory=list)


def entries_of(path: str, registry: Registry, assume: dict[int, str]) -> list[Entry]:
    """Every entry of a capture file, nothing redacted."""
    source = registry.find("backends", "pcap")
    backend = source.make(source.options(target=path))
    settings = EngineSettings(backend="pcap", assume=assume)
    engine = Engine(list(registry.protocols.values()), settings)
    entries = [entry for block in backend.read() for entry in engine.feed(block)]
    return entries + engine.finish()


def compare(path: str, spec: ProtocolSpec, table: Table, entries: Sequence[Entry]) -> Comparison:
    """Compare `entries`, those of the whole file, with what tshark says of one protocol."""
    own = [entry for entry in entries if entry.protocol == spec.name]
    ports = sorted({entry.flow.server.port for entry in own})
    seen = _tshark.read(path, spec.name, table, ports, spec.transport)
    ours, theirs = _ours(own, table), _theirs(seen)
    result = Comparison(spec.name)
    judge = _Judge(spec.name, entries, ours, theirs, seen)
    for key in sorted({*ours, *theirs}):
        _align(key, ours.get(key, []), theirs.get(key, []), result, judge)
    return result


def _ours(entries: Iterable[Entry], table: Table) -> dict[Key, list[Ours]]:
    found: dict[Key, list[Ours]] = {}
    for entry in entries:
        asks, answers = (f"{end.ip} {end.port}" for end in (entry.src, entry.dst))
        for half, message, source, target, rules in (
            ("request", entry.request, asks, answers, table.request),
            ("response", entry.response, answers, asks, table.response),
        ):
            if message is not None and rules is not None:
                values = {name: str(getattr(message, name, "")) for name in rules.fields}
                found.setdefault((source, target, half), []).append(Ours(message, entry, values))
    for messages in found.values():
        messages.sort(key=lambda one: (one.message.first_ns, one.entry.seq))
    return found


def _theirs(seen: Seen) -> dict[Key, list[Theirs]]:
    found: dict[Key, list[Theirs]] = {}
    for one in seen.messages:
        found.setdefault((one.source, one.target, one.half), []).append(one)
    return found


def _align(
    key: Key, ours: list[Ours], theirs: list[Theirs], result: Comparison, judge: _Judge
) -> None:
    """Pair both lists; what is left over or unequal is a difference."""
    one = [_face(o.values, o.values) for o in ours]
    other = [_face(t.values, ours[0].values if ours else t.values) for t in theirs]
    steps: Sequence[tuple[str, int, int, int, int]] = [("replace", 0, len(one), 0, len(other))]
    if max(len(one), len(other)) <= ALIGNED:
        steps = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    for tag, a, b, c, d in steps:
        if tag == "equal":
            result.same += b - a
            continue
        paired = min(b - a, d - c)
        for at in range(max(b - a, d - c)):
            mine = ours[a + at] if at < b - a else None
            his = theirs[c + at] if at < d - c else None
            if (
                at < paired
                and mine
                and his
                and _face(mine.values, mine.values) == _face(his.values, mine.values)
            ):
                result.same += 1
            else:
                result.differences.append(judge.difference(key, mine, his))


def _face(values: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    """Values to compare: the verb in either case; a status of 0 is none."""
    found = []
    for name in names:
        value = values.get(name, "")
        found.append(
            value.upper() if name == "verb" else "" if value == "0" and name == "status" else value
        )
    return tuple(found)


class _Judge:
    """Says who is likely wrong."""

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        ours: Mapping[Key, Any],
        theirs: Mapping[Key, Any],
        seen: Seen,
    ) -> None:
        self.name = name
        self.doubts = seen.doubts
        self.known_to_us = {frozenset(key[:2]) for key in ours}
        self.known_to_them = {frozenset(key[:2]) for key in theirs}
        self.taken_for: dict[frozenset[str], Entry] = {}
        self.lost: set[frozenset[str]] = set()
        for entry in entries:
            pair = frozenset(f"{end.ip} {end.port}" for end in (entry.src, entry.dst))
            self.taken_for[pair] = entry
            if entry.gap_bytes or entry.midstream or entry.outcome == "cut":
                self.lost.add(pair)

    def difference(self, key: Key, ours: Ours | None, theirs: Theirs | None) -> Difference:
        """A difference with its verdict."""
        pair = frozenset(key[:2])
        if theirs is None:
            what, (wrong, why) = "only kshark", self.only_ours(pair, ours)
        elif ours is None:
            what, (wrong, why) = "only tshark", self.only_theirs(pair)
        else:
            what, (wrong, why) = "differs", self.differs(pair, ours)
        return Difference(
            what=what,
            flow=f"{key[0]} -> {key[1]}".replace(" ", ":").replace(":->:", " -> "),
            half=key[2],
            frame=theirs.frame if theirs else 0,
            time=time_text(ours.message.first_ns) if ours else "",
            ours=ours.values if ours else {},
            theirs=theirs.values if theirs else {},
            wrong=wrong,
            why=why,
        )

    def only_ours(self, pair: frozenset[str], ours: Ours | None) -> tuple[str, str]:
        if pair not in self.known_to_them:
            return "tshark", f"it did not take this flow for {self.name}"
        if pair in self.doubts:
            return "tshark", f"it lost the thread: {self.doubts[pair]}"
        if ours is not None and (ours.message.cut or ours.message.truncated):
            return "unclear", "kshark has it cut or truncated, tshark shows whole messages only"
        if pair in self.lost:
            return "unclear", "the capture lost bytes of this flow"
        return (
            "unclear",
            "no sign of a loss: look at the bytes (kshark flows --flow, dissect --explain)",
        )

    def only_theirs(self, pair: frozenset[str]) -> tuple[str, str]:
        if pair not in self.known_to_us:
            entry = self.taken_for.get(pair)
            if entry is None:
                return "kshark", "it made no entry of this flow"
            return "kshark", f"it took the flow for {entry.protocol}: {entry.flow.reason}"
        if pair in self.lost:
            return "kshark", "bytes of this flow were lost, and it did not find the message again"
        return "kshark", "it missed a message without a sign of a loss"

    def differs(self, pair: frozenset[str], ours: Ours) -> tuple[str, str]:
        if ours.message.truncated:
            return "kshark", "its message is truncated"
        if pair in self.doubts:
            return "tshark", f"it lost the thread: {self.doubts[pair]}"
        return "unclear", "other values for the same message"
