"""Captures whole and damaged, through the engine: what came out, by this process or by plain Python.

As a program it prints a digest a capture and kind of damage, for the comparison of the builds:
``KSHARK_PURE=1 python damage.py NAME:KIND...``
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from oracle import CORPORA, SPECS

from kshark.api import INDEX_FORMAT, Block, Entry, Message
from kshark.backends.pcap import read_blocks
from kshark.engine import Engine
from kshark.limits import LEAP
from kshark.redact import redact_targets
from kshark.render import Renderer

INDEX = struct.Struct(INDEX_FORMAT)
MANY = 1_000
"""Packets a block, unless said otherwise."""
SNAPLEN = 200
"""Bytes: the Ethernet, IP and TCP headers and the beginning of what they carry."""
WINDOW = 4


class Record(NamedTuple):
    """A captured packet."""

    ns: int
    data: bytes
    wire: int
    iface: int
    flags: int
    linktype: int
    ifaces: tuple[str, ...]


def records(name: str) -> list[Record]:
    """The packets of a capture of the corpora."""
    found = []
    for block in read_blocks(str(CORPORA / name)):
        data = bytes(block.data)
        for ns, at, size, wire, iface, flags in INDEX.iter_unpack(
            bytes(block.index)[: block.count * INDEX.size]
        ):
            kept = data[at : at + size]
            found.append(Record(ns, kept, wire, iface, flags, block.linktype, block.ifaces))
    return found


def blocks(packets: Sequence[Record], size: int = MANY) -> Iterator[Block]:
    """The packets as blocks of at most `size`, each of one link type."""
    part: list[Record] = []
    for packet in packets:
        if part and (len(part) == size or packet[5:] != part[0][5:]):
            yield block(part)
            part = []
        part.append(packet)
    if part:
        yield block(part)


def block(part: Sequence[Record]) -> Block:
    index, at = b"", 0
    for packet in part:
        size = len(packet.data)
        index += INDEX.pack(packet.ns, at, size, packet.wire, packet.iface, packet.flags)
        at += size
    data = b"".join(packet.data for packet in part)
    return Block(data, index, len(part), part[0].linktype, part[0].ifaces)


# ---------------------------------------------------------------- damage


def whole(packets: list[Record], rng: random.Random) -> list[Record]:
    return packets


def mutated(packets: list[Record], rng: random.Random) -> list[Record]:
    """Three bytes changed, anywhere."""
    damaged = list(packets)
    for _ in range(3):
        at = rng.randrange(len(damaged))
        data = bytearray(damaged[at].data)
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        damaged[at] = damaged[at]._replace(data=bytes(data))
    return damaged


def snapped(packets: list[Record], rng: random.Random) -> list[Record]:
    """Cut by a snap length."""
    return [packet._replace(data=packet.data[:SNAPLEN]) for packet in packets]


def dropped(packets: list[Record], rng: random.Random) -> list[Record]:
    """Every seventh packet lost."""
    return [packet for number, packet in enumerate(packets) if number % 7 != 6]


def shuffled(packets: list[Record], rng: random.Random) -> list[Record]:
    """Each packet moved by fewer than WINDOW places, and none across a pause: no capture is in such disorder."""
    places, pauses = [], 0
    for number, packet in enumerate(packets):
        pauses += number > 0 and packet.ns - packets[number - 1].ns > LEAP // 2
        places.append((pauses, number + rng.random() * WINDOW, number))
    return [packets[number] for _, _, number in sorted(places)]


KINDS: dict[str, Callable[[list[Record], random.Random], list[Record]]] = {
    kind.__name__: kind for kind in (whole, mutated, snapped, dropped, shuffled)
}


def damaged(name: str, kind: str) -> list[Record]:
    """A capture with damage of a kind, the same in every run."""
    return KINDS[kind](records(name), random.Random(f"{name}:{kind}"))


# ---------------------------------------------------------------- what comes out


@dataclass
class Run:
    """What the engine made of packets."""

    entries: list[Entry]
    rows: bytes  # as a sink gets them, in full
    wrong: list[str]  # what its books and plugins complain of
    fired: dict[str, int]  # limits, by name


def run(packets: Sequence[Record], size: int = MANY) -> Run:
    """All of them through a new engine."""
    said: list[str] = []
    engine = Engine(SPECS, say=said.append)
    entries: list[Entry] = []
    for part in blocks(packets, size):
        entries += engine.feed(part)
    entries += engine.finish()
    snapshot = engine.ledger.snapshot()
    wrong = said + engine.ledger.check()
    if snapshot["packets"]["open"] or snapshot["packets"]["received"] != len(packets):
        wrong.append(f"packets: {snapshot['packets']}, of {len(packets)}")
    if sum(snapshot["entries"].values()) != len(entries):
        wrong.append(f"entries: {snapshot['entries']}, {len(entries)} came")
    if engine.tally.reserved or engine.timers:
        wrong.append(f"{engine.tally.reserved} bytes reserved, {len(engine.timers)} timers")
    pairs = {(id(entry.request), id(entry.response)) for entry in entries}
    if len(pairs) != len(entries):
        wrong.append("a message is in two entries")
    redact_targets(entries, engine.specs)
    return Run(
        entries, Renderer(engine.specs).encode(entries, full=True), wrong, snapshot["limits"]
    )


Ends = tuple[str, int, str, int]


class Pair(NamedTuple):
    """A request with its answer, and who spoke to whom."""

    ends: Ends
    request: Message
    response: Message


def ends(entry: Entry) -> Ends:
    return entry.src.ip, entry.src.port, entry.dst.ip, entry.dst.port


def pairs(entries: Sequence[Entry]) -> list[Pair]:
    """The pairs that a dissector's messages made."""
    return [
        Pair(ends(entry), entry.request, entry.response)
        for entry in entries
        if entry.request is not None
        and entry.response is not None
        and entry.protocol not in ("tcp", "udp", "icmp")
    ]


class Right:
    """The pairs of a whole run, to ask whether one of a damaged run is what is left of one of them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.pairs: dict[Ends, list[Pair]] = {}
        for pair in pairs(entries):
            self.pairs.setdefault(pair.ends, []).append(pair)
        self.starts: dict[Ends, tuple[list[int], list[int]]] = {}
        for entry in entries:
            starts = self.starts.setdefault(ends(entry), ([], []))
            for half, times in zip((entry.request, entry.response), starts, strict=True):
                if half is not None:
                    times.append(half.first_ns)
        for starts in self.starts.values():
            starts[0].sort()
            starts[1].sort()

    def holds(self, pair: Pair) -> bool:
        """Whether both halves begin where those of one pair do, or a copy of them, and say the same.

        101 to h2c is the answer where the request was cut; whole, it is no answer, and that of HTTP/2 comes.
        """
        requests, responses = self.starts.get(pair.ends, ([], []))
        upgraded = pair.request.cut and pair.response.status == 101
        return any(
            began(pair.request, mine.request, requests)
            and (upgraded or began(pair.response, mine.response, responses))
            for mine in self.pairs.get(pair.ends, [])
        )


def began(found: Message, mine: Message, starts: list[int]) -> bool:
    """Within the message; or between it and the next one, by a copy where the first was lost."""
    at = bisect_right(starts, mine.first_ns)
    begin, end = sorted((mine.first_ns, mine.last_ns))
    if at < len(starts):
        end = max(end, starts[at] - 1)
    elif found.first_ns > end:
        end = found.first_ns
    return begin <= found.first_ns <= end and says(found, mine)


def says(found: Message, mine: Message) -> bool:
    """The same, or the beginning of it where bytes were lost."""
    if found.status != mine.status:
        return False
    if found.cut or found.truncated:
        return mine.verb.startswith(found.verb) and mine.target.startswith(found.target)
    return (found.verb, found.target) == (mine.verb, mine.target)


def digest(found: Run) -> str:
    """Equal for equal rows and books."""
    return hashlib.sha256(found.rows + "\n".join(found.wrong).encode()).hexdigest()


def main(cases: Sequence[str]) -> None:
    """Digests of cases, as JSON."""
    found = {}
    for case in cases:
        name, _, kind = case.rpartition(":")
        found[case] = digest(run(damaged(name, kind)))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
