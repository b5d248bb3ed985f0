"""The compiled wire against its oracle: the same events and counters, whatever comes."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
from craft import (
    A4,
    ACK,
    B4,
    FIN,
    MASK,
    PSH,
    RST,
    START,
    SYN,
    Record,
    Talk,
    block,
    ether,
    icmp,
    ip4,
    ip6,
    pieces,
    tcp,
    udp,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record import Fast, Listener, Tape, same

from kshark import limits
from kshark.api import INDEX_FORMAT, Block
from kshark.wire import END_EVICTED, WireLimits

CORPORA = Path(os.environ.get("KSHARK_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))
CAPTURES = sorted(
    p for p in CORPORA.rglob("*") if p.suffix in (".pcap", ".pcapng", ".trace", ".cap")
)
SMALL = WireLimits(
    flows=3, ooo_segments=4, ooo_bytes=400, gap_wait=limits.SECOND // 5, half_open=limits.SECOND // 2,
    idle=2 * limits.SECOND, close_linger=limits.SECOND // 4, fragments=2, fragment_bytes=300,
    fragment_wait=limits.SECOND, tunnels=2, memory=8_000, kept_packets=3, kept_bytes=400,
    leap=limits.SECOND // 4,
)  # fmt: skip
ROOMY = WireLimits()
SEEDS = st.integers(0, 1 << 32).map(random.Random)  # st.randoms() gives mostly zeros
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def capture(path: Path) -> list[Block]:
    """The packets of a classic pcap or pcapng file of either byte order."""
    raw = path.read_bytes()
    if raw[:4] == b"\x0a\x0d\x0d\x0a":
        return list(_pcapng(raw))
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<"}.get(raw[:4], ">")
    if raw[:4] not in (
        b"\xd4\xc3\xb2\xa1",
        b"\x4d\x3c\xb2\xa1",
        b"\xa1\xb2\xc3\xd4",
        b"\xa1\xb2\x3c\x4d",
    ):
        return []
    (linktype,) = struct.unpack_from(order + "I", raw, 20)
    at, index = 24, []
    while at + 16 <= len(raw):
        s, us, size, wire = struct.unpack_from(order + "IIII", raw, at)
        at += 16
        if at + size > len(raw):
            break
        index.append(struct.pack(INDEX_FORMAT, s * limits.SECOND + us * 1000, at, size, wire, 0, 0))
        at += size
    return [Block(raw, b"".join(index), len(index), linktype & 0xFFFF)]


def _pcapng(raw: bytes) -> list[Block]:
    at, order = 0, "<"
    links: list[int] = []
    out = []
    while at + 12 <= len(raw):
        if raw[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order, links = ("<" if raw[at + 8] == 0x4D else ">"), []
        kind, size = struct.unpack_from(order + "II", raw, at)
        if size < 12 or at + size > len(raw):
            break
        if kind == 1:
            links.append(struct.unpack_from(order + "H", raw, at + 8)[0])
        elif kind == 6:
            iface, high, low, got, wire = struct.unpack_from(order + "IIIII", raw, at + 8)
            record = struct.pack(
                INDEX_FORMAT, (high << 32 | low) * 1000, at + 28, got, wire, iface, 0
            )
            out.append(Block(raw, record, 1, links[iface]))
        at += size
    return out


@pytest.mark.corpora
@pytest.mark.skipif(not CAPTURES and not os.environ.get("CI"), reason="no captures of others here")
def test_captures() -> None:
    packets = 0
    assert CAPTURES
    for path in CAPTURES:
        blocks = capture(path)
        tape = same(blocks)
        packets += tape.counts().get("received", 0)
        same(blocks, limits=SMALL, keep_packets=True)
        same(blocks, limits=ROOMY, enough=lambda f: len(f.events) > 3)
    assert packets > 5_000


@pytest.mark.corpora
@pytest.mark.skipif(not CAPTURES, reason="no captures of others here")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SEEDS, st.integers(0, 10_000))
def test_mutated_captures(rng: random.Random, which: int) -> None:
    blocks = capture(CAPTURES[which % len(CAPTURES)])
    for one in blocks[:50]:
        raw = bytearray(one.data)
        for _ in range(rng.randrange(1, 40)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        data = bytes(raw) if rng.random() < 0.5 else memoryview(raw)
        same([Block(data, one.index, min(one.count, 300), one.linktype)], limits=SMALL)


# ---------------------------------------------------------------- conversations


@st.composite
def talks(draw: st.DrawFn) -> list[bytes]:
    """IPv4 packets of a connection: mixed sizes, half closes, resets, keep-alive, wrong numbers."""
    wrap = draw(st.sampled_from([0, 1000, MASK - 60, MASK, 1 << 31, (1 << 31) - 30]))
    ports = draw(st.sampled_from([(40_000, 80), (40_001, 80), (80, 80), (50, 9000)]))
    talk = Talk([wrap, draw(st.sampled_from([5000, MASK - 10]))], ports)
    if draw(st.integers(0, 3)):
        talk.open()
    for _ in range(draw(st.integers(0, 14))):
        side = draw(st.integers(0, 1))
        what = draw(st.integers(0, 19))
        payload = bytes([65 + what]) * draw(st.sampled_from([0, 1, 1, 2, 10, 50, 120]))
        if what < 13:
            talk.send(side, payload, ACK | PSH)
        elif what == 13:
            talk.send(side, payload, FIN | ACK)
        elif what == 14:
            talk.packets.append(
                talk.raw(side, RST, seq=talk.seqs[side] + draw(st.sampled_from([0, 9, 1 << 21])))
            )
        elif what == 15:
            talk.packets.append(talk.raw(side, ACK, b"k", seq=talk.seqs[side] - 1))
        elif what == 16:
            far = draw(st.sampled_from([5, 100, 1 << 29, 1 << 30, 3 << 29, 1 << 31, 3 << 30]))
            talk.packets.append(talk.raw(side, ACK, payload, seq=talk.seqs[side] + far))
        elif what == 17:
            far = draw(st.sampled_from([-5, 1, 100, 1 << 30, 1 << 31]))
            talk.packets.append(talk.raw(side, ACK, payload, ack=talk.seqs[1 - side] + far))
        elif what == 18:
            seq = draw(st.sampled_from([77, talk.seqs[side], talk.seqs[side] - 5]))
            talk.packets.append(
                talk.raw(side, draw(st.sampled_from([SYN, SYN | ACK])), payload, seq=seq)
            )
        else:
            talk.packets.append(talk.raw(side, draw(st.integers(0, 63)), payload))
    if draw(st.booleans()):
        talk.close()
    return talk.packets


def shake(rng: random.Random, packets: list[bytes], disorder: float) -> list[bytes]:
    """Some packets lost, doubled, moved, cut and merged with their neighbours' bytes."""
    out: list[bytes] = []
    for packet in packets:
        roll = rng.random() / max(disorder, 1e-9)
        if roll < 0.15:
            continue
        if roll < 0.3:
            out.append(packet)
        if roll < 0.6 and out:
            out.insert(max(0, len(out) - rng.randrange(1, 5)), packet)
        elif roll < 0.7:
            out += pieces(packet[20:], 16, rng.randrange(3), 6)[:: rng.choice([1, 1, -1])]
        elif roll < 0.8 and len(packet) > 45:  # an overlapping copy, other bytes
            head = struct.unpack_from(">HHIIBB", packet, 20)
            moved = head[2] + rng.randrange(-9, 9)
            body = bytes(rng.randrange(97, 122) for _ in range(len(packet) - 40))
            src, dst = packet[12:16], packet[16:20]
            out.append(packet)
            out.append(ip4(tcp(head[0], head[1], moved, head[3], ACK, body), 6, src, dst))
        else:
            out.append(packet)
    return out


def wrap(rng: random.Random, packet: bytes, depth: int = 0) -> bytes:
    """An IPv4 packet in its frame: plain, tagged, or in tunnels."""
    roll = rng.randrange(12) if depth < 3 else 0
    if roll < 5:
        return ether(packet, tags=[0x8100] * rng.choice([0, 0, 1, 2, 5]))
    if roll == 5:
        return ether(
            ip4(
                udp(5, rng.choice([4789, 8472]), b"\x08" + bytes(7) + wrap(rng, packet, depth + 1)),
                17,
            )
        )
    if roll == 6:
        options = rng.randrange(3)
        geneve = (
            bytes((options, 0))
            + b"\x65\x58"
            + bytes(4 + 4 * options)
            + wrap(rng, packet, depth + 1)
        )
        return ether(ip6(udp(6, 6081, geneve), 17), 0x86DD)
    if roll == 7:
        return ether(ip4(packet, 4))
    if roll == 8:
        return ether(ip4(b"\x00\x00\x08\x00" + packet, 47))
    if roll == 9:
        return ether(ip4(b"\x30\x00\x65\x58" + bytes(8) + wrap(rng, packet, depth + 1), 47))
    if roll == 10:
        return ether(bytes((0, 0, 0, 9, 0, 0, 1, 9)) + packet, 0x8847)
    if roll == 11 and rng.random() < 0.5:
        head = bytes((rng.choice([4, 8, 12, 13, 0]), 0, 0, rng.choice([0, 1, 3, 5, 9])))
        carried = rng.choice([packet, wrap(rng, packet, depth + 1)])
        return ether(ip4(udp(7, 4790, head + bytes(4) + carried), 17))
    ext = bytes((44, 0)) + bytes(6) + bytes((4, 0, 0, 0)) + bytes(4)
    return ether(ip6(ext + packet, 60), 0x86DD)


def records(rng: random.Random, packets: list[bytes]) -> list[Record]:
    """Frames with times that mostly rise, on several interfaces, some cut by the snap length."""
    out, ns = [], START
    for packet in packets:
        ns += rng.choice([0, 1000, 10**6, 10**7, 10**8, 3 * 10**8]) - (rng.random() < 0.1) * 10**6
        frame = wrap(rng, packet)
        size = rng.randrange(len(frame) + 1) if rng.random() < 0.08 else len(frame)
        iface = rng.choice([0, 0, 0, 1, 5])
        wrong = rng.choice([10**9, 10**11]) if rng.random() < 0.05 else 0
        out.append(Record(frame[:size], ns + wrong, iface, rng.choice([-1, len(frame)])))
        if rng.random() < 0.2:
            out.append(Record(frame, ns + 10, rng.choice([0, 1]), -1))
    return out


def other(rng: random.Random) -> bytes:
    """Something beside TCP."""
    payload = bytes(rng.randrange(256) for _ in range(rng.choice([0, 3, 40])))
    return rng.choice(
        [
            ip4(udp(rng.choice([53, 2000]), 53, payload, rng.randrange(3)), 17),
            ip4(icmp(rng.choice([0, 3, 8, 13]), 1, 7, payload), 1),
            ip4(payload, 132),
            *pieces(udp(1, 2, b"f" * 70), 24, rng.randrange(3)),
        ]
    )


@quick
@given(
    st.lists(talks(), min_size=1, max_size=4),
    SEEDS,
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([ROOMY, SMALL]),
    st.booleans(),
)
def test_conversations(
    all_talks: list[list[bytes]],
    rng: random.Random,
    disorder: float,
    bounds: WireLimits,
    keep: bool,
) -> None:
    queues = [shake(rng, t, disorder) for t in all_talks]
    packets: list[bytes] = []
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        packets.append(queue.pop(0))
        if rng.random() < 0.1:
            packets.append(other(rng))
    rows = records(rng, packets)
    cut = rng.randrange(len(rows) + 1)
    tape = same([block(rows[:cut]), block(rows[cut:])], limits=bounds, keep_packets=keep)
    assert same([block(rows)], limits=bounds, keep_packets=keep).events == tape.events

    def enough(listener: Listener) -> bool:
        return len(listener.events) >= 3

    same([block(rows)], limits=bounds, enough=enough, dedupe=keep)


@quick
@given(talks(), SEEDS)
def test_mutated_packets(packets: list[bytes], rng: random.Random) -> None:
    """Headers with wrong bytes, at every depth."""
    rows = records(rng, [p for packet in packets for p in (packet, other(rng))])
    for row in rows:
        raw = bytearray(row.frame)
        for _ in range(rng.choice([0, 1, 1, 2, 5]) if raw else 0):
            raw[rng.randrange(min(len(raw), 140))] = rng.choice(
                [0, 1, 4, 6, 17, 44, 0x45, 0x60, 255, rng.randrange(256)]
            )
        row.frame = bytes(raw)
    same([block(rows)], limits=rng.choice([ROOMY, SMALL]))


@quick
@given(
    st.lists(st.binary(max_size=90), max_size=12),
    st.sampled_from([0, 1, 12, 108, 113, 228, 229, 239, 276, 7]),
)
def test_noise(data: list[bytes], linktype: int) -> None:
    same([block([Record(d, START + i) for i, d in enumerate(data)], linktype)])


@quick
@given(
    st.binary(max_size=300),
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1), st.integers(0, MASK), st.integers(0, 400),
            st.integers(0, MASK), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF),
        ),
        max_size=8,
    ),
    st.integers(-2, 12),
    st.sampled_from([1, 101, 113, 276]),
)  # fmt: skip
def test_hostile_index(
    data: bytes, rows: list[tuple[int, int, int, int, int, int]], count: int, linktype: int
) -> None:
    near = [(ns, at % 310, size, wire, iface, flags) for ns, at, size, wire, iface, flags in rows]
    for chosen in (rows, near):
        index = b"".join(struct.pack(INDEX_FORMAT, *row) for row in chosen)
        same([Block(data, bytearray(index), count, linktype)])


MIX = (0x2D358DCCAA6C78A5, 0x8BB84B93962EACC9, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB)


def bucket(sport: int, dport: int) -> int:
    """Where the compiled table of 64 puts a UDP flow from 10.0.0.1 to 10.0.0.2."""

    def fold(a: int, b: int) -> int:
        return (a * b & (1 << 64) - 1) ^ (a * b >> 64)

    one, two = (int.from_bytes(ip, "little") for ip in (A4, B4))
    word = 17 << 40 | 4 << 32 | sport << 16 | dport
    mixed = fold(fold(one ^ MIX[0], two ^ MIX[1]) ^ MIX[2], word ^ MIX[3])
    return (mixed ^ mixed >> 32) & 63


@pytest.mark.skipif(Fast is None, reason="not compiled")
def test_a_flooded_chain_evicts() -> None:
    """Who knows the hash can fill one chain, no more: the oldest of it goes."""
    pairs = [(s, d) for s in range(1, 120) for d in range(1, 40) if bucket(s, d) == 0][:45]
    assert len(pairs) == 45
    tape = Tape(Fast, WireLimits(flows=64))
    tape.feed(
        block(
            [
                Record(ether(ip4(udp(s, d, b"x"), 17)), START + i * limits.SECOND)
                for i, (s, d) in enumerate(pairs)
            ]
        )
    )
    assert tape.counts()["evicted"] == 45 - 32
    assert [f.reason for f in tape.flows] == [END_EVICTED] * 13 + [0] * 32
    tape.finish()
