"""What holds for every conversation, however its capture was disturbed."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import pytest
from craft import ACK, MASK, PSH, START, SYN, Record, Talk, block, ether
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record import CLASSES, Listener, run

from kshark.wire import END_FIN, WireLimits

SEEDS = st.integers(0, 1 << 32).map(random.Random)
laws = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
both = pytest.mark.parametrize("kind", CLASSES)
turns = st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=6), min_size=1, max_size=12)


def dialogue(rng: random.Random, sizes: list[list[int]]) -> tuple[Talk, list[tuple[int, bytes]]]:
    """A lossless conversation in turns, client first, and what was said in each."""
    talk = Talk([rng.randrange(MASK + 1), MASK - rng.randrange(600)]).open()
    said = []
    for turn, parts in enumerate(sizes):
        text = b""
        for size in parts:
            piece = bytes(rng.randrange(33, 63) for _ in range(size))
            talk.send(turn % 2, piece, ACK | PSH)
            text += piece
        said.append((turn % 2, text))
        if rng.random() < 0.5:
            talk.send(1 - turn % 2)
    return talk.close(), said


def jumble(rng: random.Random, packets: list[bytes], near: int) -> list[bytes]:
    """Doubled, and moved by at most `near` places; the handshake stays."""
    keyed = [(i + rng.random() * near, p) for i, p in enumerate(packets[2:])]
    keyed += [(i + rng.random() * near, p) for i, p in enumerate(packets[2:]) if rng.random() < 0.2]
    return packets[:2] + [p for _, p in sorted(keyed, key=lambda k: k[0])]


def listen(kind: Any, packets: list[bytes], step: int = 100_000) -> Listener:
    rows = [Record(ether(p), START + i * step) for i, p in enumerate(packets)]
    tape = run(kind, block(rows), limits=WireLimits(ooo_segments=200))
    assert len(tape.flows) == 1
    return tape.flows[0]


def spoken(flow: Listener) -> list[tuple[int, bytes]]:
    """Chunks in turns."""
    chunks = [(e[1], e[2]) for e in flow.events if e[0] == "chunk"]
    return [
        (side, b"".join(c[1] for c in part)) for side, part in groupby(chunks, key=lambda c: c[0])
    ]


@both
@laws
@given(turns, SEEDS, st.integers(0, 12))
def test_disorder_changes_nothing(
    kind: Any, sizes: list[list[int]], rng: random.Random, near: int
) -> None:
    """Reordering and duplicates: the same bytes, no gap, and no answer before its question."""
    talk, said = dialogue(rng, sizes)
    flow = listen(kind, jumble(rng, talk.packets, near))
    assert not flow.gaps(0)
    assert not flow.gaps(1)
    assert spoken(flow) == said
    assert flow.reason == END_FIN


@both
@laws
@given(turns, SEEDS, st.integers(0, 8), st.floats(0.05, 0.9))
def test_loss_is_told(
    kind: Any, sizes: list[list[int]], rng: random.Random, near: int, loss: float
) -> None:
    """Bytes and gaps add up to the stream, and each byte is at its place."""
    talk, said = dialogue(rng, sizes)
    middle = [p for p in jumble(rng, talk.packets[:-3], near)[2:] if rng.random() > loss]
    flow = listen(kind, talk.packets[:2] + middle + talk.packets[-3:])
    for side in (0, 1):
        whole = b"".join(text for who, text in said if who == side)
        heard = flow.stream(side)
        assert len(heard) == len(whole)
        assert all(h in (w, ord("?")) for h, w in zip(heard, whole, strict=True))
        assert flow.flow.bytes(side) + sum(flow.gaps(side)) == len(whole)


@both
@laws
@given(turns, SEEDS)
def test_one_side_alone(kind: Any, sizes: list[list[int]], rng: random.Random) -> None:
    """A one-way capture delivers its side at once, and knows how much the other one said."""
    talk, said = dialogue(rng, sizes)
    mine = [p for p in talk.packets if p[12:16] == talk.packets[0][12:16]]
    flow = listen(kind, mine)
    for side in (0, 1):
        whole = b"".join(text for who, text in said if who == side)
        if side == 0:
            assert flow.stream(0) == whole
        else:
            assert len(flow.stream(1)) - len(whole) in (0, 1)  # its FIN looks like a byte
            assert flow.flow.bytes(1) == 0


@both
@laws
@given(turns, SEEDS, st.integers(1, 5))
def test_join_in_midstream(
    kind: Any, sizes: list[list[int]], rng: random.Random, late: int
) -> None:
    """Without its begin, a conversation is a suffix of itself."""
    talk, said = dialogue(rng, sizes)
    flow = listen(kind, talk.packets[2 + late % (len(talk.packets) - 2) :])
    assert flow.flow.midstream
    for side in (0, 1):
        whole = b"".join(text for who, text in said if who == side)
        assert whole.endswith(flow.stream(side))
        assert not flow.gaps(side)


def test_the_laws_bite() -> None:
    """The generator does disturb: otherwise the laws say nothing."""
    rng = random.Random(1)
    talk, _ = dialogue(rng, [[10] * 5] * 6)
    moved = jumble(rng, talk.packets, 8)
    assert moved != talk.packets
    assert len(moved) > len(talk.packets)
    assert moved[0][33] == SYN
