"""Packets that the plain wire takes run by run, ahead of their consumers: nobody may notice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from craft import ACK, FIN, START, Record, Talk, block, ether
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record import CLASSES, Fast, Listener, Pure, Tape, same

from kshark import limits
from kshark.api import Block
from kshark.wire import WireLimits

SEEDS = st.integers(0, 1 << 32).map(random.Random)
SMALL = WireLimits(flows=3, memory=30_000, idle=limits.SECOND // 2)


def traffic(rng: random.Random, several: bool) -> list[Record]:
    """Connections side by side, nearly all of it in order; copies on a second interface, if there are several."""
    queues = []
    for number in range(rng.randrange(1, 5)):
        talk = Talk([rng.choice([0, 1 << 31, (1 << 32) - 40]), 7_000], (40_000 + number, 80))
        if rng.random() < 0.8:
            talk.open()
        for _ in range(rng.randrange(2, 20)):
            payload = bytes([rng.randrange(65, 90)]) * rng.choice([0, 0, 1, 9, 60])
            talk.send(rng.randrange(2), payload, ACK if rng.random() < 0.97 else ACK | FIN)
        queues.append(talk.packets)
    out: list[Record] = []
    ns = START
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        at = 1 if len(queue) > 1 and rng.random() < 0.05 else 0
        frame = ether(queue.pop(at) if rng.random() < 0.97 else queue[at])
        ns += rng.choice([0, 1_000, 10**6, 10**8 if rng.random() < 0.2 else 1, -500])
        iface = rng.choice([0, 0, 1]) if several else 0
        out.append(Record(frame, ns, iface, -1))
        if several and rng.random() < 0.3:
            out.append(Record(frame, ns + 10, 1 - iface, -1))
    return out


class Unruly(Tape):
    """Its consumers raise, evict or have enough at moments that the seed decides."""

    def __init__(self, kind: Any, seed: int, bounds: WireLimits) -> None:
        self.rng = random.Random(seed)
        self.plan = self.rng.choice(["raise", "evict", "enough", "all"])
        super().__init__(kind, bounds, enough=self.act)

    def act(self, listener: Listener) -> bool:
        listener.note("facts", *listener.facts())
        what = self.plan if self.plan != "all" else self.rng.choice(["raise", "evict", "enough"])
        if self.rng.random() < 0.9:
            return False
        if what == "raise":
            raise ValueError(len(self.events))
        if what == "evict":
            self.wire.evict(self.rng.randrange(1, 3))
        return what == "enough"


def story(tape: Tape, blocks: list[Block]) -> list[Any]:
    """All that is to be seen, block by block."""
    seen: list[Any] = []
    for one in blocks:
        try:
            tape.wire.feed(one)
        except ValueError as error:
            seen.append(str(error))
        tape.check()
        seen += [tape.counts(), tape.wire.now, tape.wire.flows, tape.wire.memory > 0]
        seen += [f.facts() for f in tape.flows]
    while True:
        try:
            if not tape.wire.finish(1):
                break
        except ValueError as error:
            seen.append(str(error))
    return [*seen, tape.events, tape.ended, tape.counts()]


@pytest.mark.skipif(Fast is None, reason="not compiled")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(SEEDS, st.integers(0, 1 << 32), st.booleans(), st.sampled_from([WireLimits(), SMALL]))
def test_unruly_consumers(rng: random.Random, seed: int, several: bool, bounds: WireLimits) -> None:
    rows = traffic(rng, several)
    cut = rng.randrange(len(rows) + 1)
    blocks = [block(rows[:cut]), block(rows[cut:])]
    assert story(Unruly(Pure, seed, bounds), blocks) == story(Unruly(Fast, seed, bounds), blocks)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SEEDS)
def test_one_interface_without_a_name(rng: random.Random) -> None:
    """A capture that can have but one interface: nothing is remembered, and nothing else is different."""
    rows = traffic(rng, False)
    cuts = sorted(rng.randrange(len(rows) + 1) for _ in range(3))
    borders = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    blocks = [block(rows[a:b], ifaces=("",)) for a, b in borders]
    tape = same(blocks)
    for one in blocks:
        one.ifaces = ()
    assert same(blocks).events == tape.events


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("size", [1, 20, 53])
def test_a_short_packet_at_the_very_end(kind: Any, size: int) -> None:
    """There is nothing behind it that could be read."""
    talk = Talk().open()
    frames = [*(ether(p) for p in talk.packets), ether(talk.send(0, b"x"))[:size]]
    tape = Tape(kind).feed(block([Record(f, START + n, 0, -1) for n, f in enumerate(frames)]))
    assert tape.counts()["in_flows"] == len(talk.packets) - 1
    assert sum(tape.counts().get(name, 0) for name in ("truncated", "non_ip")) == 1
