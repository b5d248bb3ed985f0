"""The rules of TCP reassembly, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from craft import (
    ACK,
    FIN,
    MASK,
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
    ip4,
    tcp,
)
from record import CLASSES, Listener, Tape, run

from kshark.wire import (
    END_CAPTURE,
    END_FIN,
    END_IDLE,
    END_REUSED,
    END_RST,
    FLOW_COST,
    WireLimits,
)

pytestmark = pytest.mark.parametrize("kind", CLASSES)


def at(ns: int, *packets: bytes) -> Any:
    """A block of packets of one moment."""
    return block([Record(ether(p), START + ns) for p in packets])


def said(flow: Listener) -> list[tuple[Any, ...]]:
    """Chunks and gaps without their times."""
    return [e[:3] for e in flow.events if e[0] in ("chunk", "gap")]


def test_a_plain_connection(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"GET / HTTP/1.1\r\n\r\n")
    talk.send(1, b"HTTP/1.1 204\r\n\r\n")
    tape = run(kind, frames(*talk.close().packets))
    ms = 1_000_000
    assert tape.flows[0].events == [
        ("open", 6, False, "eth0"),
        ("chunk", 0, b"GET / HTTP/1.1\r\n\r\n", START + 3 * ms),
        ("chunk", 1, b"HTTP/1.1 204\r\n\r\n", START + 4 * ms),
        ("end", END_FIN, START + 6 * ms),
    ]
    flow = tape.flows[0].flow
    assert (flow.client, flow.client_port) == (b"\x0a\x00\x00\x01", 40_000)
    assert (flow.server, flow.server_port) == (b"\x0a\x00\x00\x02", 80)
    assert (flow.packets(0), flow.packets(1)) == (4, 3)
    assert (flow.bytes(0), flow.bytes(1)) == (18, 16)
    assert (flow.first_at(0), flow.first_at(1)) == (START, START + ms)
    assert (flow.first_ns, flow.last_ns) == (START, START + 6 * ms)
    assert flow.established
    assert not flow.refused
    assert tape.counts() == {"received": 8, "in_flows": 7, "late": 1, "flows": 1}


def test_midstream_takes_the_other_start_from_the_ack(kind: Any) -> None:
    talk = Talk()
    first = talk.send(0, b"one")
    lost = talk.send(1, b"lost")
    after = talk.send(1, b"after")
    tape = run(kind, frames(first, after))
    assert tape.flows[0].flow.midstream
    assert said(tape.flows[0]) == [("chunk", 0, b"one"), ("gap", 1, 4), ("chunk", 1, b"after")]
    assert said(run(kind, frames(first, after, lost)).flows[0])[1:] == [
        ("chunk", 1, b"lost"), ("chunk", 1, b"after"),
    ]  # fmt: skip


def test_a_late_syn_changes_nothing(kind: Any) -> None:
    talk = Talk()
    syn, synack = talk.send(0, flags=SYN), talk.send(1, flags=SYN | ACK)
    one, two = talk.send(0, b"one"), talk.send(0, b"two")
    exact = run(kind, frames(one, syn, synack, two))
    assert exact.streams() == [(b"onetwo", b"")]
    assert not exact.flows[0].flow.midstream
    behind = run(kind, frames(two, syn, synack))
    assert behind.streams() == [(b"two", b"")]
    assert behind.flows[0].flow.midstream


def test_the_first_ack_gives_the_start_of_a_lost_syn_ack(kind: Any) -> None:
    talk = Talk()
    syn = talk.send(0, flags=SYN)
    talk.send(1, flags=SYN | ACK)
    ack = talk.send(0)
    talk.send(1, b"lost")
    tape = run(kind, frames(syn, ack, talk.send(1, b"rest")))
    assert said(tape.flows[0]) == [("gap", 1, 4), ("chunk", 1, b"rest")]


def test_an_answer_waits_for_its_question(kind: Any) -> None:
    talk = Talk().open()
    question, answer = talk.send(0, b"question"), talk.send(1, b"answer")
    tape = run(kind, frames(*talk.packets[:3], answer, question))
    assert said(tape.flows[0]) == [("chunk", 0, b"question"), ("chunk", 1, b"answer")]
    assert tape.counts()["out_of_order"] == 1


def test_causality_does_not_bind_when_the_other_side_was_never_seen(kind: Any) -> None:
    talk = Talk()
    first = talk.send(1, b"one")
    talk.send(0, b"unseen")
    second = talk.send(1, b"two")
    tape = Tape(kind).feed(frames(first, second))
    assert said(tape.flows[0]) == [("chunk", 1, b"one"), ("chunk", 1, b"two")]


def test_causality_rests_while_a_side_is_silent_after_its_gap(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    one = talk.send(1, b"one")
    talk.send(0, b"lost too")
    two = talk.send(1, b"two")
    tape = Tape(kind).feed(at(0, *talk.packets[:3], one)).feed(at(3 * SECOND, talk.raw(1, ACK)))
    assert said(tape.flows[0]) == [("gap", 0, 4), ("chunk", 1, b"one")]
    tape.feed(at(3 * SECOND, two))
    assert said(tape.flows[0])[2:] == [("chunk", 1, b"two")]


def test_what_is_held_behind_a_gap_comes_before_what_answers_it(kind: Any) -> None:
    """The first question is lost; the second waited behind the hole, and its answer for both."""
    talk = Talk().open()
    talk.send(0, b"lost")
    rest = [talk.send(1, b"one"), talk.send(0, b"question"), talk.send(1, b"answer")]
    tape = Tape(kind).feed(at(0, *talk.packets[:3], *rest)).feed(at(3 * SECOND, talk.raw(0, ACK)))
    assert said(tape.flows[0]) == [
        ("gap", 0, 4),
        ("chunk", 1, b"one"),
        ("chunk", 0, b"question"),
        ("chunk", 1, b"answer"),
    ]


def test_a_hole_is_a_gap_once_too_many_segments_wait(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    held = [talk.send(0, bytes((65 + i,)) * 3) for i in range(5)]
    tape = Tape(kind, WireLimits(ooo_segments=4)).feed(frames(*talk.packets[:3], *held[:4]))
    assert said(tape.flows[0]) == []
    assert tape.wire.memory > FLOW_COST + 4 * 3
    tape.feed(frames(held[4]))
    assert said(tape.flows[0])[:2] == [("gap", 0, 4), ("chunk", 0, b"AAA")]
    assert tape.flows[0].stream(0) == b"????AAABBBCCCDDDEEE"
    assert tape.counts()["gaps"] == 1
    assert tape.counts()["gap_bytes"] == 4
    assert tape.wire.memory == FLOW_COST


def test_a_hole_is_a_gap_once_too_many_bytes_wait(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    held = [talk.send(0, b"x" * 60) for _ in range(2)]
    tape = Tape(kind, WireLimits(ooo_bytes=100)).feed(frames(*talk.packets[:3], held[0]))
    assert said(tape.flows[0]) == []
    tape.feed(frames(held[1]))
    assert said(tape.flows[0])[0] == ("gap", 0, 4)


def test_a_bound_on_answers_declares_the_question_lost(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    answers = [talk.send(1, b"a") for _ in range(4)]
    tape = Tape(kind, WireLimits(ooo_segments=3)).feed(frames(*talk.packets[:3], *answers))
    assert said(tape.flows[0]) == [("gap", 0, 4)] + [("chunk", 1, b"a")] * 4


def test_an_acknowledged_hole_becomes_a_gap_after_gap_wait(kind: Any) -> None:
    talk = Talk().open()
    talk.send(1, b"lost")
    more = talk.send(1, b"more")
    ack = talk.send(0)
    tape = Tape(kind).feed(at(0, *talk.packets[:3], more, ack))
    tape.wire.tick(START + SECOND - 1)
    assert said(tape.flows[0]) == []
    tape.wire.tick(START + SECOND)
    assert tape.flows[0].events[1:] == [("gap", 1, 4, START), ("chunk", 1, b"more", START)]


def test_a_hole_nobody_acknowledged_is_kept_open(kind: Any) -> None:
    talk = Talk().open()
    late = talk.send(1, b"late")
    more = talk.send(1, b"more")
    tape = Tape(kind).feed(at(0, *talk.packets[:3], more))
    tape.wire.tick(START + 60 * SECOND)
    tape.feed(at(60 * SECOND, late))
    assert tape.streams() == [(b"", b"latemore")]


def test_a_hole_at_the_end_of_what_was_sent(kind: Any) -> None:
    talk = Talk().open()
    talk.send(1, b"lost")
    tape = Tape(kind).feed(at(0, *talk.packets[:3], talk.send(0)))
    tape.wire.tick(START + 2 * SECOND)
    assert tape.flows[0].events[1:] == [("gap", 1, 4, START + 2 * SECOND)]


def test_a_hole_that_moves_is_waited_for(kind: Any) -> None:
    talk = Talk().open()
    one, two = talk.send(1, b"one"), talk.send(1, b"two")
    ack = talk.send(0)
    tape = Tape(kind).feed(at(0, *talk.packets[:3], ack)).feed(at(SECOND * 9 // 10, one))
    tape.feed(at(SECOND * 18 // 10, two))
    assert tape.streams() == [(b"", b"onetwo")]


def test_a_lost_fin_is_no_gap(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"bye")
    talk.send(0, flags=FIN | ACK)
    answer = talk.send(1, b"answer")
    seen = [*talk.packets[:4], answer]
    tape = Tape(kind).feed(at(0, *seen))
    assert said(tape.flows[0]) == [("chunk", 0, b"bye")]
    tape.wire.tick(START + 2 * SECOND)
    assert said(tape.flows[0]) == [("chunk", 0, b"bye"), ("chunk", 1, b"answer")]
    fin = Tape(kind).feed(at(0, *seen))
    fin.wire.tick(START + 2 * SECOND)
    fin.feed(at(2 * SECOND, talk.packets[4], talk.send(1, flags=FIN | ACK)))
    assert fin.flows[0].reason == END_FIN
    assert not fin.flows[0].gaps(0)


def test_one_lost_byte_is_a_gap_when_more_follows(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"x")
    answer = talk.send(1, b"answer")
    tape = Tape(kind).feed(at(0, *talk.packets[:3], answer))
    tape.wire.tick(START + 2 * SECOND)
    tape.feed(at(2 * SECOND, talk.send(0, b"more")))
    assert said(tape.flows[0]) == [("chunk", 1, b"answer"), ("gap", 0, 1), ("chunk", 0, b"more")]


def test_the_first_copy_wins(kind: Any) -> None:
    talk = Talk().open()
    base = talk.seqs[0]

    def part(offset: int, text: bytes) -> bytes:
        return talk.raw(0, ACK, text, seq=base + offset)

    delivered = run(kind, frames(*talk.packets, part(0, b"abcd"), part(2, b"XXefgh")))
    assert said(delivered.flows[0]) == [("chunk", 0, b"abcd"), ("chunk", 0, b"efgh")]
    assert delivered.counts()["overlap"] == 1
    held = run(kind, frames(*talk.packets, part(4, b"efgh"), part(0, b"abcdXXXXijkl")))
    assert said(held.flows[0]) == [
        ("chunk", 0, b"abcd"),
        ("chunk", 0, b"efgh"),
        ("chunk", 0, b"ijkl"),
    ]
    within = run(kind, frames(*talk.packets, part(4, b"efgh"), part(5, b"XX"), part(0, b"abcd")))
    assert within.flows[0].stream(0) == b"abcdefgh"
    assert within.counts()["retransmitted"] == 1


def test_retransmissions_and_keep_alives_are_old(kind: Any) -> None:
    talk = Talk().open()
    data = talk.send(0, b"data")
    probe = talk.raw(0, ACK, b"\0", seq=talk.seqs[0] - 1)
    tape = run(kind, frames(*talk.packets, data, probe, talk.raw(1, ACK)))
    assert said(tape.flows[0]) == [("chunk", 0, b"data")]
    assert tape.counts()["retransmitted"] == 2


@pytest.mark.parametrize("seq", [MASK, MASK - 1, MASK - 7, 0x7FFF_FFFC])
def test_sequence_numbers_wrap(kind: Any, seq: int) -> None:
    talk = Talk([seq, MASK - 3]).open()
    parts = [talk.send(i % 2, bytes((97 + i,)) * 5) for i in range(8)]
    parts[2], parts[4] = parts[4], parts[2]
    tape = run(kind, frames(*talk.packets[:3], *parts, *talk.close().packets[-3:]))
    assert tape.streams() == [(b"aaaaaccccceeeeeggggg", b"bbbbbdddddfffffhhhhh")]
    assert tape.flows[0].reason == END_FIN


def test_a_reset_ends_the_flow_if_it_is_in_the_window(kind: Any) -> None:
    talk = Talk().open()
    far = talk.raw(1, RST, seq=talk.seqs[1] + (1 << 20) + 1)
    near = talk.raw(1, RST, seq=talk.seqs[1] - (1 << 20))
    tape = Tape(kind).feed(frames(*talk.packets, far))
    assert tape.flows[0].reason == 0
    assert tape.counts()["rst_ignored"] == 1
    tape.feed(frames(talk.send(0, b"on"), near))
    assert tape.flows[0].reason == END_RST
    assert not tape.flows[0].flow.refused
    assert tape.streams() == [(b"on", b"")]


def test_a_reset_delivers_what_was_held(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    held, reset = talk.send(0, b"held"), talk.raw(1, RST)
    tape = run(kind, frames(*talk.packets[:3], held, reset))
    assert [e[:3] for e in tape.flows[0].events[1:-1]] == [("gap", 0, 4), ("chunk", 0, b"held")]


def test_a_refused_connection(kind: Any) -> None:
    talk = Talk()
    syn = talk.send(0, flags=SYN)
    refusal = ip4(tcp(80, 40_000, 0, talk.seqs[0], RST | ACK), 6, b"\x0a\0\0\x02", b"\x0a\0\0\x01")
    tape = run(kind, frames(syn, refusal))
    assert tape.flows[0].flow.refused
    assert tape.flows[0].reason == END_RST
    assert not tape.flows[0].flow.established


def test_a_half_closed_connection_goes_on(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"all of it", FIN | ACK)
    talk.send(1, b"thanks")
    talk.send(1, b"bye", FIN | ACK)
    tape = run(kind, frames(*talk.packets))
    assert tape.streams() == [(b"all of it", b"thanksbye")]
    assert tape.flows[0].reason == END_FIN


def test_a_fin_waits_for_the_bytes_before_it(kind: Any) -> None:
    talk = Talk().open()
    last = talk.send(0, b"last")
    closing = talk.close().packets[-3:]
    tape = run(kind, frames(*talk.packets[:3], *closing[:2], last))
    assert tape.streams() == [(b"last", b"")]
    assert tape.flows[0].reason == END_FIN
    lost = run(kind, frames(*talk.packets[:3], *closing[:1]))
    assert lost.streams() == [(b"????", b"")]


def test_data_after_a_fin_is_ignored(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"all", FIN | ACK)
    tape = run(kind, frames(*talk.packets, talk.send(0, b"more"), talk.send(1, b"ok")))
    assert tape.streams() == [(b"all", b"ok")]


def test_port_reuse_after_the_end(kind: Any) -> None:
    old, new = Talk([1000, 2000]).open(), Talk([90_000, 80_000]).open()
    old.send(0, b"old")
    new.send(0, b"new")
    packets = [*old.close().packets, *new.packets]
    tape = run(kind, frames(*packets))
    assert tape.streams() == [(b"old", b""), (b"new", b"")]
    assert [f.reason for f in tape.flows] == [END_FIN, END_CAPTURE]
    assert tape.counts()["reused"] == 1


def test_port_reuse_without_an_end(kind: Any) -> None:
    old, new = Talk([1000, 2000]).open(), Talk([90_000, 80_000]).open()
    old.send(0, b"old")
    tape = run(kind, frames(*old.packets, *new.packets))
    assert [f.reason for f in tape.flows] == [END_REUSED, END_CAPTURE]
    assert not tape.flows[1].flow.midstream


def test_a_repeated_syn_is_no_reuse(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"data")
    tape = run(kind, frames(*talk.packets, talk.packets[0]))
    assert len(tape.flows) == 1
    talk.close()
    assert len(run(kind, frames(*talk.packets, talk.packets[0])).flows) == 1


def test_another_syn_before_any_data_is_taken_over(kind: Any) -> None:
    first, second = Talk([7, 8]), Talk([70_000, 2000]).open()
    second.send(0, b"hello")
    second.send(1, b"you")
    tape = run(kind, frames(first.send(0, flags=SYN), *second.packets))
    assert tape.streams() == [(b"hello", b"you")]
    assert not tape.flows[0].gaps(0)


def test_late_packets_make_no_flow_until_the_linger_is_over(kind: Any) -> None:
    talk = Talk().open().close()
    ack = talk.packets[-1]
    tape = Tape(kind).feed(at(0, *talk.packets, ack))
    assert tape.counts()["late"] == 2
    assert tape.wire.flows == 1
    tape.feed(at(SECOND + SECOND // 10, ack))
    assert len(tape.flows) == 2
    assert tape.flows[1].flow.midstream


def test_a_connection_after_a_late_ack_of_the_one_before(kind: Any) -> None:
    """The last ACK of a connection that lingers no longer; then its port is used again."""
    old, new = Talk([1000, 2000]).open().close(), Talk([90_000, 80_000]).open()
    new.send(0, b"PING")
    new.send(1, b"PONG")
    tape = Tape(kind).feed(at(0, *old.packets))
    tape.feed(at(SECOND + SECOND // 10, old.packets[-1], *new.packets))
    assert [f.reason for f in tape.flows] == [END_FIN, END_REUSED, 0]
    assert tape.flows[1].flow.midstream
    assert not tape.flows[2].flow.midstream
    assert tape.streams() == [(b"", b""), (b"", b""), (b"PING", b"PONG")]
    assert tape.counts()["reused"] == 1


def test_an_ack_of_nonsense_holds_nothing_up(kind: Any) -> None:
    talk = Talk().open()
    wild = talk.raw(0, ACK, b"ok", ack=talk.seqs[1] + (1 << 30) + 1)
    tape = Tape(kind).feed(frames(*talk.packets, wild))
    assert said(tape.flows[0]) == [("chunk", 0, b"ok")]


def test_a_segment_far_ahead_is_held_and_far_behind_is_old(kind: Any) -> None:
    talk = Talk().open()
    ahead = talk.raw(0, ACK, b"far", seq=talk.seqs[0] + (3 << 30) - 1)
    behind = talk.raw(0, ACK, b"old", seq=talk.seqs[0] + (3 << 30))
    tape = Tape(kind).feed(frames(*talk.packets, ahead, behind))
    assert tape.counts()["out_of_order"] == 1
    assert tape.counts()["retransmitted"] == 1
    assert tape.finish().flows[0].gaps(0) == [(3 << 30) - 1]


def test_mutual_waiting_is_resolved(kind: Any) -> None:
    """Two segments, each of which acknowledges the other: nonsense that must not hang."""
    talk = Talk().open()
    one = talk.raw(0, ACK, b"one", ack=talk.seqs[1] + 3)
    two = talk.raw(1, ACK, b"two", ack=talk.seqs[0] + 3)
    tape = run(kind, frames(*talk.packets, one, two))
    assert tape.streams() == [(b"one", b"two")]


def test_syn_with_data(kind: Any) -> None:
    talk = Talk()
    talk.send(0, b"fast", SYN)
    talk.seqs[0] = 1005
    talk.send(1, flags=SYN | ACK)
    talk.send(0, b" open")
    assert run(kind, frames(*talk.packets)).streams() == [(b"fast open", b"")]


def test_enough_means_no_more_bytes(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"first")
    lost = talk.send(0, b"lost")
    talk.send(0, b"second")
    talk.send(1, b"third")
    packets = [p for p in talk.close().packets if p is not lost]
    tape = run(kind, frames(*packets), enough=lambda f: True)
    flow = tape.flows[0]
    assert said(flow) == [("chunk", 0, b"first")]
    assert flow.reason == END_FIN
    assert (flow.flow.bytes(0), flow.flow.bytes(1)) == (11, 5)
    assert (flow.flow.packets(0), flow.flow.packets(1)) == (5, 3)


def test_a_fin_that_is_early_hides_no_bytes_that_are_only_counted(kind: Any) -> None:
    """As calls are told: a process reads the last bytes after its kernel got the FIN."""
    talk = Talk().open()
    talk.send(0, b"first")
    last, fin = talk.send(0, b"last"), talk.send(0, flags=FIN | ACK)
    packets = [*talk.packets[:-2], fin, last, talk.send(1, flags=FIN | ACK)]
    flow = run(kind, frames(*packets), enough=lambda f: True).flows[0]
    assert (flow.flow.bytes(0), flow.reason) == (9, END_FIN)


def test_enough_while_segments_are_held(kind: Any) -> None:
    talk = Talk().open()
    one = talk.send(0, b"one")
    two, three = talk.send(0, b"two"), talk.send(0, b"three")
    tape = Tape(kind, enough=lambda f: True).feed(frames(*talk.packets[:3], three, two, one))
    assert said(tape.flows[0]) == [("chunk", 0, b"one")]
    assert tape.flows[0].flow.bytes(0) == 11
    assert tape.wire.memory == FLOW_COST


def test_snapped_segments_give_what_is_there_and_a_gap(kind: Any) -> None:
    talk = Talk().open()
    cut = ether(talk.send(0, b"0123456789"))
    after = ether(talk.send(0, b"after", PSH | ACK))
    rows = [Record(ether(p), START) for p in talk.packets[:3]]
    rows += [Record(cut[:-6], START + 1, wire=len(cut)), Record(after, START + 2)]
    tape = run(kind, block(rows))
    assert tape.flows[0].events[1:4] == [
        ("chunk", 0, b"0123", START + 1),
        ("gap", 0, 6, START + 1),
        ("chunk", 0, b"after", START + 2),
    ]
    assert tape.counts()["snapped"] == 1
    heads = [Record(cut[:60], START + 1), Record(cut[:50], START + 2)]
    tape = run(kind, block(rows[:3] + heads))
    assert tape.flows[0].stream(0) == b"012345????"


def test_what_is_cut_off_counts_as_bytes(kind: Any) -> None:
    """Of a flow that wants no more, too: nothing of it is missing to whoever counts."""
    talk = Talk().open()
    cut = [ether(talk.send(0, b"0123456789")) for _ in range(3)]
    rows = [Record(ether(p), START) for p in talk.packets[:3]]
    rows += [Record(cut[0][:-6], START + 1, wire=len(cut[0]))]
    rows += [Record(one[:54], START + 2, wire=len(one)) for one in cut[1:]]
    for enough in (lambda f: True, lambda f: False):
        tape = Tape(kind, enough=enough)
        tape.wire.feed(block(rows))
        assert tape.flows[0].flow.bytes(0) == 30


def test_snapped_segments_out_of_order(kind: Any) -> None:
    talk = Talk().open()
    first = ether(talk.send(0, b"first"))
    cut = ether(talk.send(0, b"0123456789"))
    bare = ether(talk.send(0, b"bare"))
    rows = [Record(ether(p), START) for p in talk.packets[:3]]
    rows += [Record(bare[:54], START + 1), Record(cut[:-6], START + 2), Record(first, START + 3)]
    assert run(kind, block(rows)).streams() == [(b"first0123??????????", b"")]


def test_an_idle_flow_ends_with_its_holes_told(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost")
    held = talk.send(0, b"held")
    tape = Tape(kind).feed(at(0, *talk.packets[:3], held))
    tape.wire.tick(START + 300 * SECOND)
    assert said(tape.flows[0]) == [("gap", 0, 4), ("chunk", 0, b"held")]
    assert tape.flows[0].reason == END_IDLE


def test_who_keeps_a_payload_keeps_its_bytes(kind: Any) -> None:
    talk = Talk().open()
    sent = [bytes([65 + n]) * (300 + 211 * n) for n in range(12)]
    for data in sent:
        talk.send(0, data)

    class Forgetful(Listener):
        """Keeps two of three payloads; of the others what they were."""

        count = 0

        def chunk(self, side: int, data: bytes, ns: int) -> bool:
            Forgetful.count += 1
            if Forgetful.count % 3:
                kept.append(data)
            else:
                copies.append((len(data), data[:1], hash(data) == hash(bytes(bytearray(data)))))
            return False

    kept: list[bytes] = []
    copies: list[tuple[int, bytes, bool]] = []
    tape = Tape(kind)
    wire = kind(lambda flow: Forgetful(flow, tape))
    wire.feed(frames(*talk.packets))
    assert kept == [data for n, data in enumerate(sent) if (n + 1) % 3]
    assert copies == [(len(data), data[:1], True) for n, data in enumerate(sent) if not (n + 1) % 3]
