"""Flows: orientation, duplicates, timers, bounds, books, kept packets, unruly consumers."""

from __future__ import annotations

import gc
import mmap
import struct
import tempfile
import weakref
from typing import Any

import pytest
from craft import (
    ACK,
    FIN,
    PSH,
    RST,
    SECOND,
    START,
    SYN,
    Record,
    Talk,
    block,
    ether,
    frames,
    icmp,
    ip4,
    ip6,
    pieces,
    udp,
)
from record import CLASSES, Fast, Listener, Pure, Tape, run

from kshark import wire
from kshark.api import INDEX_FORMAT, Block
from kshark.wire import (
    COUNTERS,
    DROPS,
    END_CAPTURE,
    END_EVICTED,
    END_HALF_OPEN,
    END_IDLE,
    FLOW_COST,
    HELD_COST,
    PACKET_COST,
    WireLimits,
)

pytestmark = pytest.mark.parametrize("kind", CLASSES)


def datagram(n: int, text: bytes = b"hello") -> bytes:
    """UDP of flow `n`."""
    return ip4(udp(1000 + n, 53, text, check=n), 17)


def at(ns: int, *packets: bytes, iface: int = 0) -> Block:
    return block([Record(ether(p), START + ns, iface) for p in packets])


# ---------------------------------------------------------------- orientation


def test_who_asks(kind: Any) -> None:
    def ports(*packets: bytes) -> tuple[int, int]:
        flow = run(kind, frames(*packets)).flows[0].flow
        return flow.client_port, flow.server_port

    odd = Talk(ports=(80, 40_000))
    assert ports(odd.send(0, flags=SYN)) == (80, 40_000)
    assert ports(odd.send(1, flags=SYN | ACK)) == (80, 40_000)
    assert ports(odd.send(0, b"x")) == (40_000, 80)
    assert ports(ip4(udp(53, 40_000, b"x"), 17)) == (53, 40_000)
    even = Talk(ports=(80, 80))
    flow = run(kind, frames(even.raw(1, ACK | PSH, b"x"))).flows[0]
    assert flow.flow.client == b"\x0a\x00\x00\x02"
    assert flow.stream(0) == b"x"


def test_only_a_synack_is_no_midstream(kind: Any) -> None:
    talk = Talk()
    talk.send(0, flags=SYN)
    answer = talk.send(1, flags=SYN | ACK)
    late = talk.send(0, b"late")
    tape = run(kind, frames(answer, talk.send(0, b"more"), late))
    assert not tape.flows[0].flow.midstream
    assert tape.streams() == [(b"latemore", b"")]


def test_icmp_is_a_flow(kind: Any) -> None:
    ask, answer = (
        ip4(icmp(8, 0, 77, b"ping"), 1),
        ip4(icmp(0, 0, 77, b"ping"), 1, b"\x0a\0\0\x02", b"\x0a\0\0\x01"),
    )
    unreachable = ip4(icmp(3, 1), 1)
    six = ip6(icmp(128, 0, 5), 58)
    rows = [Record(ether(p), START) for p in (ask, answer, unreachable)]
    tape = run(kind, block([*rows, Record(ether(six, 0x86DD), START)]))
    assert [(f.flow.proto, f.flow.client_port, f.flow.server_port) for f in tape.flows] == [
        (1, 77, 77), (1, 3 << 8 | 1, 3 << 8 | 1), (58, 5, 5),
    ]  # fmt: skip
    assert tape.flows[0].stream(0) == ask[20:]
    assert tape.flows[0].stream(1) == answer[20:]


def test_udp_gives_datagrams(kind: Any) -> None:
    tape = run(kind, frames(datagram(1, b"one"), datagram(1, b""), datagram(1, b"two")))
    assert [e[2] for e in tape.flows[0].events if e[0] == "chunk"] == [b"one", b"two"]
    assert tape.flows[0].flow.packets(0) == 3
    enough = run(kind, frames(datagram(1), datagram(1)), enough=lambda f: True)
    assert len(enough.flows[0].events) == 3
    assert enough.flows[0].flow.bytes(0) == 10


def test_a_flow_is_its_five_numbers(kind: Any) -> None:
    talk = Talk()
    same_numbers = talk.send(0, flags=SYN)
    rows = [
        ether(same_numbers),
        ether(same_numbers, tags=[0x8100]),
        ether(ip4(udp(40_000, 80, b"x"), 17)),
    ]
    assert len(run(kind, block([Record(r) for r in rows])).flows) == 2


# ---------------------------------------------------------------- duplicates


def test_the_same_packet_on_another_interface(kind: Any) -> None:
    talk = Talk().open()
    data = talk.send(0, b"data")
    rows = [Record(ether(p), START, i) for p in talk.packets for i in (0, 1, 2)]
    rows.append(Record(ether(data), START, 0))
    tape = run(kind, block(rows))
    assert tape.counts()["duplicate"] == 8
    assert tape.counts()["retransmitted"] == 1
    assert tape.flows[0].flow.packets(0) == 4
    assert tape.flows[0].flow.iface == "eth0"
    assert run(kind, block(rows), dedupe=False).counts()["retransmitted"] == 3


def test_a_duplicate_is_the_very_packet(kind: Any) -> None:
    def counted(first: bytes, second: bytes, later: int = 0) -> int:
        rows = [Record(ether(first), START, 0), Record(ether(second), START + later, 1)]
        tape = run(kind, block(rows))
        return tape.counts().get("duplicate", 0)

    one = ip4(udp(1, 2, b"x", check=7), 17, ident=3)
    assert counted(one, one) == 1
    assert counted(one, one, SECOND) == 1
    assert counted(one, one, -SECOND) == 1
    assert counted(one, one, SECOND + 1) == 0
    assert counted(one, ip4(udp(1, 2, b"x", check=8), 17, ident=3)) == 0
    assert counted(one, ip4(udp(1, 2, b"x", check=7), 17, ident=4)) == 0
    assert counted(one, ip4(udp(1, 2, b"xy", check=7), 17, ident=3)) == 0
    talk = Talk().open()
    data = talk.raw(0, ACK, b"x")
    assert counted(data, data) == 1
    assert counted(data, data[:33] + bytes((ACK | 8,)) + data[34:]) == 0


def test_four_packets_are_remembered(kind: Any) -> None:
    sent = [datagram(1, bytes(n)) for n in range(1, 6)]
    rows = [Record(ether(p), START) for p in sent] + [Record(ether(p), START, 1) for p in sent[1:]]
    assert run(kind, block(rows)).counts()["duplicate"] == 4
    rows = [Record(ether(p), START) for p in sent] + [Record(ether(sent[0]), START, 1)]
    assert "duplicate" not in run(kind, block(rows)).counts()


def test_interfaces_are_told_apart_from_block_to_block(kind: Any) -> None:
    packet = Record(ether(datagram(1)))
    one = block([packet], ifaces=("eth0",))
    assert "duplicate" not in run(kind, one, block([packet], ifaces=("eth0",))).counts()
    assert run(kind, one, block([packet], ifaces=("veth7",))).counts()["duplicate"] == 1
    assert (
        run(kind, one, block([Record(packet.frame, iface=9)], ifaces=())).flows[0].flow.iface
        == "eth0"
    )


def test_cooked_captures_have_the_packet_type_for_an_interface(kind: Any) -> None:
    def v1(out: int) -> bytes:
        return struct.pack(">HHH8sH", out, 1, 6, bytes(8), 0x0800) + datagram(1)

    def v2(iface: int, out: int) -> bytes:
        return struct.pack(">HHIHBB8s", 0x0800, 0, iface, 1, out, 6, bytes(8)) + datagram(1)

    def counted(linktype: int, *data: bytes) -> int:
        return run(kind, block([Record(d) for d in data], linktype)).counts().get("duplicate", 0)

    assert counted(113, v1(0), v1(4)) == 1
    assert counted(113, v1(0), v1(0)) == 0
    assert counted(276, v2(1, 0), v2(1, 4), v2(2, 4)) == 2
    assert counted(276, v2(1, 0), v2(1, 0)) == 0


# ---------------------------------------------------------------- time


def test_half_open_flows_end_soon(kind: Any) -> None:
    syn = Talk().send(0, flags=SYN)
    tape = Tape(kind).feed(at(0, syn))
    tape.wire.tick(START + 10 * SECOND - 1)
    assert tape.flows[0].reason == 0
    tape.wire.tick(START + 10 * SECOND)
    assert tape.flows[0].events[-1] == ("end", END_HALF_OPEN, START + 10 * SECOND)
    assert tape.counts()["half_open"] == 1
    assert (tape.wire.flows, tape.wire.memory) == (0, 0)


def test_an_answered_syn_is_not_half_open(kind: Any) -> None:
    talk = Talk().open()
    for n in (2, 3):
        tape = Tape(kind).feed(at(0, *talk.packets[:n]))
        tape.wire.tick(START + 299 * SECOND)
        assert tape.flows[0].reason == 0
        tape.wire.tick(START + 300 * SECOND)
        assert tape.flows[0].reason == END_IDLE
        assert tape.counts()["idle"] == 1


def test_packets_move_time_within_a_block(kind: Any) -> None:
    """How records are cut into blocks changes nothing."""
    later = Record(ether(datagram(1)), START + 400 * SECOND)
    rows = [Record(ether(datagram(1)), START), later, later]
    tape = run(kind, block(rows))
    assert [f.reason for f in tape.flows] == [END_IDLE, END_CAPTURE]
    assert run(kind, block(rows[:1]), block(rows[1:])).events == tape.events


def test_time_does_not_run_backwards(kind: Any) -> None:
    rows = [Record(ether(datagram(n)), START - n * 1000 * SECOND) for n in range(5)]
    tape = Tape(kind).feed(block(rows))
    assert tape.wire.now == START
    assert tape.wire.flows == 5
    tape.wire.tick(5)
    assert tape.wire.now == START
    assert [f.flow.first_ns for f in tape.flows] == [r.ns for r in rows]


# ---------------------------------------------------------------- bounds


def test_the_oldest_idle_flow_makes_room(kind: Any) -> None:
    tape = Tape(kind, WireLimits(flows=2))
    tape.feed(
        at(0, datagram(1)),
        at(SECOND, datagram(2)),
        at(2 * SECOND, datagram(1)),
        at(3 * SECOND, datagram(3)),
    )
    assert [f.reason for f in tape.flows] == [0, END_EVICTED, 0]
    assert tape.counts()["evicted"] == 1
    assert tape.wire.flows == 2


def test_ended_and_half_open_flows_make_room_first(kind: Any) -> None:
    ended = Talk(ports=(1, 2)).open().close()
    waiting = Talk(ports=(3, 4)).send(0, flags=SYN)
    tape = Tape(kind, WireLimits(flows=3)).feed(at(0, datagram(1), *ended.packets[:-1], waiting))
    tape.feed(at(0, datagram(2)))
    assert tape.counts().get("evicted", 0) == 0
    tape.feed(at(0, datagram(3)))
    assert [f.reason for f in tape.flows if f.flow.proto == 6][-1] == END_EVICTED
    assert tape.counts()["evicted"] == 1


def test_a_syn_flood_evicts_itself(kind: Any) -> None:
    tape = Tape(kind, WireLimits(flows=16)).feed(at(0, *(datagram(n) for n in range(12))))
    for n in range(40):
        tape.feed(at(SECOND * (1 + n // 20), Talk(ports=(50_000 + n, 80)).send(0, flags=SYN)))
    assert [f.reason for f in tape.flows[:12]] == [END_EVICTED] + [0] * 11
    assert sum(f.reason == END_EVICTED for f in tape.flows) == 36


def test_memory_is_bounded(kind: Any) -> None:
    bound = 4 * FLOW_COST + 500
    tape = Tape(kind, WireLimits(memory=bound)).feed(at(0, *(datagram(n) for n in range(4))))
    assert tape.wire.memory == 4 * FLOW_COST
    talk = Talk(ports=(9, 9)).open()
    talk.send(0, b"lost")
    tape.feed(at(SECOND, *talk.packets[:3]))
    assert [f.reason for f in tape.flows] == [END_EVICTED, 0, 0, 0, 0]
    tape.feed(at(SECOND, talk.send(0, b"x" * 400)))
    assert tape.counts()["evicted"] == 2
    assert tape.wire.memory == 4 * FLOW_COST + 400 + HELD_COST - FLOW_COST
    tape.feed(at(0, *pieces(udp(1, 2, bytes(1000)), 504)[:1]))
    assert tape.wire.memory <= bound


def test_fragments_are_bounded_by_memory_too(kind: Any) -> None:
    tape = Tape(kind, WireLimits(memory=500)).feed(at(0, *pieces(udp(1, 2, bytes(1000)), 504)[:1]))
    assert tape.wire.memory == 0
    assert tape.counts()["fragment_limit"] == 1


def test_evict_on_demand(kind: Any) -> None:
    tape = Tape(kind).feed(at(0, *(datagram(n) for n in range(5))))
    tape.wire.evict(2)
    assert [f.reason for f in tape.flows] == [END_EVICTED] * 2 + [0] * 3
    tape.wire.evict(9)
    assert tape.wire.flows == 0
    tape.wire.evict(1)


def test_many_flows_come_and_go(kind: Any) -> None:
    tape = Tape(kind, WireLimits(flows=50))
    for start in range(0, 1000, 100):
        tape.feed(at(start, *(ip4(udp(n, 9, b"x"), 17) for n in range(start, start + 100))))
    assert tape.wire.flows == 50
    assert tape.counts()["evicted"] == 950
    assert [f.reason for f in tape.flows] == [END_EVICTED] * 950 + [0] * 50
    tape.feed(at(0, *(ip4(udp(n, 9, b"y"), 17) for n in range(950, 1000))))
    assert len(tape.flows) == 1000


# ---------------------------------------------------------------- books and buffers


def test_counters_are_all_there(kind: Any) -> None:
    counts = Tape(kind).wire.counters()
    assert tuple(counts) == COUNTERS
    assert set(DROPS) < set(COUNTERS)
    assert not any(counts.values())


def test_records_that_point_outside(kind: Any) -> None:
    good = block([Record(ether(datagram(1)))])
    size = len(good.data)
    for offset, captured in ((1, size), (0, size + 1), (2**32 - 1, 2**32 - 1), (size, 1)):
        index = struct.pack(INDEX_FORMAT, START, offset, captured, captured, 0, 0)
        tape = run(kind, Block(good.data, index + good.index, 2, 1, ("eth0",)))
        assert tape.counts() == {"received": 2, "bad_record": 1, "in_flows": 1, "flows": 1}
    short = run(kind, Block(good.data, good.index, 3, 1, ("eth0",)))
    assert short.counts()["bad_record"] == 2
    assert run(kind, Block(good.data, good.index, -1, 1)).counts() == {}


def test_any_buffer(kind: Any) -> None:
    good = block([Record(ether(datagram(1))), Record(ether(datagram(2)))])
    expected = run(kind, good).events
    with tempfile.TemporaryFile() as file, mmap.mmap(-1, len(good.data)) as mapped:
        file.write(good.data)
        mapped[:] = good.data
        for data in (bytearray(good.data), memoryview(good.data), mapped):
            one = Block(data, memoryview(bytearray(good.index)), 2, 1, good.ifaces)
            assert run(kind, one).events == expected


def test_chunks_do_not_borrow(kind: Any) -> None:
    good = block([Record(ether(datagram(1)))])
    data = bytearray(good.data)
    tape = Tape(kind).feed(Block(data, good.index, 1, 1))
    data[:] = bytes(len(data))
    data.clear()
    assert tape.flows[0].stream(0) == b"hello"


# ---------------------------------------------------------------- packets


def test_packets_are_kept_within_bounds(kind: Any) -> None:
    tape = Tape(kind, WireLimits(kept_packets=2), keep_packets=True)
    frame = ether(datagram(1))
    tape.feed(block([Record(frame, START + n, wire=99) for n in range(3)]))
    flow = tape.flows[0].flow
    assert tape.counts()["not_kept"] == 1
    assert tape.wire.memory == FLOW_COST + 2 * (PACKET_COST + len(frame))
    kept = flow.take_packets()
    assert [(p.time_ns, p.data, p.wire_len, p.linktype, p.iface) for p in kept] == [
        (START, frame, 99, 1, "eth0"), (START + 1, frame, 99, 1, "eth0"),
    ]  # fmt: skip
    assert list(flow.take_packets()) == []
    assert tape.wire.memory == FLOW_COST
    few = Tape(kind, WireLimits(kept_bytes=len(frame)), keep_packets=True)
    few.feed(block([Record(frame)] * 3))
    assert len(few.flows[0].flow.take_packets()) == 1


def test_packets_of_the_whole_connection(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"x")
    tape = run(kind, frames(*talk.packets), keep_packets=True)
    assert list(tape.flows[0].flow.take_packets()) == []

    class Taking(Tape):
        taken: list[bytes] = []

        def open(self, flow: Any) -> Listener:
            listener = super().open(flow)
            listener.note = lambda *event: self.taken.extend(p.data for p in flow.take_packets())  # type: ignore[method-assign]
            return listener

    taking = Taking(kind, keep_packets=True)
    taking.feed(frames(*talk.packets)).finish()
    assert taking.taken == [ether(p) for p in talk.packets]


def test_all_fragments_of_a_datagram_are_kept(kind: Any) -> None:
    parts = pieces(udp(1, 2, b"x" * 60), 24)
    tape = Tape(kind, keep_packets=True).feed(frames(*parts))
    assert [p.data for p in tape.flows[0].flow.take_packets()] == [ether(p) for p in parts]
    assert tape.flows[0].flow.packets(0) == 3


# ---------------------------------------------------------------- unruly consumers


def test_an_exception_passes_and_leaves_the_books_in_order(kind: Any) -> None:
    talk = Talk().open()
    one, two, three = (talk.send(0, text) for text in (b"one", b"two", b"three"))

    def bad(listener: Listener) -> bool:
        if listener.events[-1][2] == b"two":
            raise ValueError("two")
        return False

    tape = Tape(kind, enough=bad).feed(frames(*talk.packets[:3], one))
    with pytest.raises(ValueError, match="two"):
        tape.wire.feed(frames(two))
    tape.check()
    tape.feed(frames(three)).finish()
    assert tape.streams() == [(b"onetwothree", b"")]


def test_an_exception_among_held_segments(kind: Any) -> None:
    talk = Talk().open()
    parts = [talk.send(0, bytes((97 + n,)) * 2) for n in range(4)]

    def bad(listener: Listener) -> bool:
        if listener.events[-1][2] == b"bb":
            raise ValueError("bb")
        return False

    tape = Tape(kind, enough=bad).feed(frames(*talk.packets[:3], *parts[:0:-1]))
    with pytest.raises(ValueError, match="bb"):
        tape.wire.feed(frames(parts[0]))
    tape.check()
    tape.finish()
    assert tape.streams() == [(b"aabbccdd", b"")]


def test_a_flow_that_nobody_takes(kind: Any) -> None:
    calls = []

    def refuse(flow: Any) -> Any:
        calls.append(flow)
        if len(calls) == 1:
            raise RuntimeError("no")
        return Listener(flow, Tape(kind))

    one = kind(refuse)
    with pytest.raises(RuntimeError):
        one.feed(at(0, datagram(1)))
    assert one.counters()["failed"] == 1
    assert one.counters()["received"] == 1
    assert (one.flows, one.memory) == (0, 0)
    one.feed(at(0, datagram(1)))
    assert one.counters()["in_flows"] == 1


def test_an_exception_at_the_end_of_another_flow(kind: Any) -> None:
    class Sore(Tape):
        def open(self, flow: Any) -> Listener:
            listener = super().open(flow)
            listener.end = self.raise_  # type: ignore[method-assign]
            return listener

        def raise_(self, reason: int, ns: int) -> None:
            raise KeyError(reason)

    tape = Sore(kind, WireLimits(flows=1)).feed(at(0, datagram(1)))
    with pytest.raises(KeyError):
        tape.wire.feed(at(0, datagram(2)))
    tape.check()
    assert tape.counts()["failed"] == 1
    assert tape.wire.flows == 0
    tape.feed(at(0, datagram(2)))
    with pytest.raises(KeyError):
        tape.wire.finish()
    assert tape.wire.flows == 0


@pytest.mark.parametrize("moment", ["chunk", "gap", "open", "end"])
def test_consumers_may_evict_while_they_are_called(kind: Any, moment: str) -> None:
    class Rash(Tape):
        def open(self, flow: Any) -> Listener:
            listener = super().open(flow)
            note = listener.note

            def rash(*event: Any) -> None:
                note(*event)
                if event[0] == moment:
                    self.wire.evict(3)

            listener.note = rash  # type: ignore[method-assign]
            if moment == "open":
                self.wire.evict(3)
            return listener

    talk = Talk().open()
    for n in range(6):
        talk.send(n % 2, bytes((97 + n,)) * 3)
    packets = talk.packets[:3] + talk.packets[:3:-1] + talk.close().packets[-3:]
    for order in (packets, packets[::-1], packets + packets[:5]):
        tape = Rash(kind, WireLimits(ooo_segments=2, flows=3)).feed(
            frames(datagram(1), *order, datagram(2))
        )
        tape.finish()
        assert all(sum(e[0] == "end" for e in f.events) == 1 for f in tape.flows)


def test_flows_are_let_go(kind: Any) -> None:
    class Light:
        def __init__(self, flow: Any) -> None:
            self.flow = flow

        def chunk(self, side: int, data: bytes, ns: int) -> bool:
            return False

        def gap(self, side: int, missing: int, ns: int) -> bool:
            return False

        def end(self, reason: int, ns: int) -> None:
            pass

    made: list[Any] = []

    def open_(flow: Any) -> Light:
        consumer = Light(flow)
        made.append(weakref.ref(consumer))
        return consumer

    one = kind(open_)
    talk = Talk().open()
    one.feed(frames(datagram(1), *talk.close().packets))
    one.finish()
    gc.collect()
    assert [ref() for ref in made] == [None, None]
    two = kind(open_)
    two.feed(frames(datagram(1), *talk.packets))
    del two
    gc.collect()
    assert [ref() for ref in made] == [None] * 4


def test_load_gives_what_the_environment_says(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHARK_PURE", "1")
    assert wire.load().__module__ == "kshark.wire.pure"
    monkeypatch.setenv("KSHARK_PURE", "")
    assert wire.load().__module__ == (Fast or Pure).__module__


def test_a_reset_or_fin_alone_is_a_flow(kind: Any) -> None:
    talk = Talk()
    reset = run(kind, frames(talk.raw(0, RST)))
    assert reset.counts() == {"received": 1, "in_flows": 1, "flows": 1}
    fins = run(kind, frames(talk.raw(0, FIN | ACK), talk.raw(1, FIN | ACK)))
    assert fins.flows[0].flow.midstream
