"""What TCP allows and hardly anybody does; and what a stranger may put into a connection."""

from __future__ import annotations

from typing import Any

import pytest
from craft import ACK, FIN, MASK, PSH, RST, SECOND, START, SYN, Record, Talk, block, ether, frames
from record import CLASSES, Listener, Tape, run

from kshark.wire import END_CAPTURE, END_FIN, END_REUSED, END_RST

pytestmark = pytest.mark.parametrize("kind", CLASSES)
URG = 0x20


def said(flow: Listener) -> list[tuple[Any, ...]]:
    """Chunks and gaps without their times."""
    return [e[:3] for e in flow.events if e[0] in ("chunk", "gap")]


def spoken(talk: Talk) -> Talk:
    """A question, an answer, the end."""
    talk.send(0, b"question", ACK | PSH)
    talk.send(1, b"answer", ACK | PSH)
    return talk.close()


# ---------------------------------------------------------------- how it begins


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3), (0, 1, 2)])
def test_simultaneous_open(kind: Any, order: tuple[int, ...]) -> None:
    """RFC 9293, figure 8: both send a SYN, and each answers the other's."""
    talk = Talk()
    syns = [talk.raw(side, SYN) for side in (0, 1)]
    both = [talk.raw(side, SYN | ACK, ack=talk.seqs[1 - side] + 1) for side in (0, 1)]
    talk.seqs = [seq + 1 for seq in talk.seqs]
    opening = [[*syns, *both][n] for n in order]
    tape = run(kind, frames(*opening, *spoken(talk).packets))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.flows[0].flow.client_port == 40_000
    assert tape.flows[0].flow.established
    assert not tape.flows[0].flow.midstream
    assert tape.flows[0].reason == END_FIN


def test_a_syn_with_another_number_after_the_answer_to_the_first(kind: Any) -> None:
    first, second = Talk([7, 900]), Talk([70_000, 2000]).open()
    opening = [first.send(0, flags=SYN), first.send(1, flags=SYN | ACK)]
    tape = run(kind, frames(*opening, *spoken(second).packets))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.flows[0].reason == END_FIN


def test_which_of_two_answers_was_taken_is_learnt_once(kind: Any) -> None:
    """From the client's next ACK, plain as it is; not from nonsense that comes later."""
    talk = Talk([999, 4999])
    syn, answer = talk.send(0, flags=SYN), talk.send(1, flags=SYN | ACK)
    another = Talk([1000, 70_000]).raw(1, SYN | ACK, ack=1000)
    ack, nonsense = talk.send(0), talk.raw(0, ACK, ack=70_001)
    tape = run(kind, frames(answer, another, syn, ack, nonsense, talk.send(1, b"hello")))
    assert said(tape.flows[0])[0] == ("chunk", 1, b"hello")


def test_a_second_syn_that_is_refused(kind: Any) -> None:
    """The answer to the first SYN is none to the second."""
    first, second = Talk([7, 900]), Talk([70_000, 900])
    opening = [first.send(0, flags=SYN), first.send(1, flags=SYN | ACK), second.send(0, flags=SYN)]
    tape = Tape(kind).feed(frames(*opening))
    assert not tape.flows[0].flow.established
    tape.feed(frames(second.raw(1, RST | ACK, seq=0)))
    assert tape.flows[0].reason == END_RST
    assert tape.flows[0].flow.refused


@pytest.mark.parametrize("accepted", [0, 1])
@pytest.mark.parametrize("apart", [-4000, 4000])
def test_two_answers_to_a_syn(kind: Any, accepted: int, apart: int) -> None:
    """A balancer's two servers, or a forger: the client's ACK tells which one it took."""
    talk = Talk()
    talk.send(0, flags=SYN)
    numbers = [50_000, 50_000 + apart]
    talk.packets += [talk.raw(1, SYN | ACK, seq=seq) for seq in numbers]
    talk.seqs[1] = numbers[accepted] + 1
    talk.send(0)
    tape = run(kind, frames(*spoken(talk).packets))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.flows[0].reason == END_FIN


@pytest.mark.parametrize("place", range(2, 9))
def test_a_late_forged_answer_to_a_syn(kind: Any, place: int) -> None:
    talk = Talk().open()
    forged = talk.raw(1, SYN | ACK, seq=123_456, ack=1001)
    packets = spoken(talk).packets
    tape = run(kind, frames(*packets[:place], forged, *packets[place:]))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.flows[0].reason == END_FIN


def test_an_answer_to_another_syn_is_another_connection(kind: Any) -> None:
    """Its own SYN was not captured."""
    new = Talk([70_000, 2000])
    new.send(0, flags=SYN)
    new.send(1, flags=SYN | ACK)
    old = Talk().open()
    old.send(0, b"old")
    tape = run(kind, frames(*old.packets, *spoken(new).packets[1:]))
    assert tape.streams() == [(b"old", b""), (b"question", b"answer")]
    assert [f.reason for f in tape.flows] == [END_REUSED, END_FIN]


def test_data_in_both_syns(kind: Any) -> None:
    """TCP fast open (RFC 7413), with an answer in the SYN-ACK."""
    talk = Talk()
    syn = talk.send(0, b"fast", SYN)
    talk.send(1, b"quick", SYN | ACK)
    talk.send(0, b" open")
    packets = [*talk.packets[:2], syn, *talk.close().packets[2:]]
    tape = run(kind, frames(*packets))
    assert tape.streams() == [(b"fast open", b"quick")]
    assert tape.counts()["retransmitted"] == 1
    assert tape.flows[0].reason == END_FIN


def test_data_in_a_syn_that_is_not_accepted(kind: Any) -> None:
    """The server acknowledges the SYN alone; the data come again."""
    talk = Talk()
    talk.packets.append(talk.raw(0, SYN, b"fast"))
    talk.packets.append(
        talk.raw(0, SYN)
    )  # without data, in case a box on the way dropped it for them
    talk.seqs[0] += 1
    talk.send(1, flags=SYN | ACK)
    talk.send(0, b"fast open")
    talk.send(1, b"quick")
    tape = run(kind, frames(*talk.close().packets))
    assert tape.streams() == [(b"fast open", b"quick")]
    assert not tape.flows[0].gaps(0)


# ---------------------------------------------------------------- in the middle


@pytest.mark.parametrize("garbage", [b"", b"\0"])
def test_keep_alive_probes(kind: Any, garbage: bytes) -> None:
    """RFC 9293, section 3.8.4: one below the next byte, with one byte of garbage or none."""
    talk = Talk().open()
    talk.send(0, b"question")
    for side in (0, 1, 0):
        talk.packets.append(talk.raw(side, ACK, garbage, seq=talk.seqs[side] - 1))
        talk.packets.append(talk.raw(1 - side, ACK))
    talk.send(1, b"answer")
    tape = run(kind, frames(*talk.close().packets))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.counts().get("retransmitted", 0) == 3 * len(garbage)
    assert tape.counts().get("overlap", 0) == 0


@pytest.mark.parametrize("garbage", [b"", b"\0"])
@pytest.mark.parametrize("side", [0, 1])
def test_joined_at_a_keep_alive_probe(kind: Any, garbage: bytes, side: int) -> None:
    """Its byte is none of the stream."""
    talk = Talk()
    talk.packets.append(talk.raw(side, ACK, garbage, seq=talk.seqs[side] - 1))
    talk.send(1 - side)
    talk.send(0, b"question", ACK | PSH)
    talk.send(1, b"answer", ACK | PSH)
    tape = run(kind, frames(*talk.packets))
    assert tape.streams() == [(b"question", b"answer")]
    assert tape.flows[0].flow.midstream


def test_joined_at_a_byte_that_is_pushed(kind: Any) -> None:
    talk = Talk()
    talk.send(0, b"q", ACK | PSH)
    talk.send(0, b"uit", ACK | PSH)
    assert run(kind, frames(*talk.packets)).streams() == [(b"quit", b"")]


def test_probes_of_a_closed_window(kind: Any) -> None:
    """The next byte again and again (or an old one, as Linux does), and more of it once the window opens."""
    talk = Talk().open()
    talk.send(0, b"fill")
    full = talk.send(1)
    probes = [talk.raw(0, ACK, b"m"), full, talk.raw(0, ACK, seq=talk.seqs[0] - 1), full]
    talk.packets += [*probes, *probes]
    talk.send(0, b"more of it")
    tape = run(kind, frames(*talk.close().packets))
    assert tape.flows[0].stream(0) == b"fillmore of it"
    assert not tape.flows[0].gaps(0)
    assert tape.flows[0].reason == END_FIN


def test_urgent_data_stay_where_they_are(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"before")
    talk.send(0, b"!", ACK | URG)
    talk.send(0, b"after!", ACK | URG | PSH)
    tape = run(kind, frames(*talk.packets))
    assert tape.streams() == [(b"before!after!", b"")]


@pytest.mark.parametrize("first", [MASK - 4, MASK - 5, MASK - 6, MASK - 13, MASK - 14, MASK])
def test_numbers_wrap_within_a_held_segment(kind: Any, first: int) -> None:
    """The hole before it, its bytes, an overlapping copy, and a missing end: wherever the wrap falls."""
    talk = Talk([first, 5000]).open()
    hole = talk.send(0, b"hole")
    held = talk.send(0, b"held segment")
    before = talk.raw(0, ACK, b"oleHELD SEGMENT and more", seq=talk.seqs[0] - 15)
    talk.seqs[0] = (talk.seqs[0] + 9) & MASK
    talk.send(1, b"answer")
    packets = [*talk.packets[:3], held, before, talk.packets[-1], hole]
    tape = run(kind, frames(*packets, *talk.close().packets[-3:]))
    assert tape.streams() == [(b"holeheld segment and more", b"answer")]
    assert tape.flows[0].reason == END_FIN
    lost = run(kind, frames(*packets[:-1]))
    assert lost.streams() == [(b"?oleheld segment and more", b"answer")]


# ---------------------------------------------------------------- how it ends


def test_a_fin_comes_again_with_what_was_lost_before_it(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"lost ")
    fin = talk.send(0, b"end", FIN | ACK)
    again = talk.raw(0, FIN | ACK, b"lost end", seq=talk.seqs[0] - 9)
    talk.send(1, b"answer")
    for packets in ([fin, again], [fin, fin, again, fin], [again, fin]):
        tape = run(kind, frames(*talk.packets[:3], *packets, talk.packets[-1]))
        assert tape.streams() == [(b"lost end", b"answer")]
        assert not tape.flows[0].gaps(0)


@pytest.mark.parametrize("early", [b"", b"end"])
def test_the_first_fin_counts(kind: Any, early: bytes) -> None:
    """Whatever comes after it, in whatever order: nothing of that is in the stream."""
    talk = Talk().open()
    lost = talk.send(0, b"lost")
    if not early:
        talk.send(0, b"end")
    fin = talk.send(0, early, FIN | ACK)
    start = talk.seqs[0] - 8
    more = talk.raw(0, FIN | ACK, b"lostend and more", seq=start)
    bare = talk.raw(0, ACK, b"end and more", seq=start + 4)
    talk.send(1, b"answer", ACK)
    for packets in ([fin, more], [fin, bare, lost], [fin, bare, more]):
        tape = run(kind, frames(*talk.packets[:3], *packets, talk.packets[-1]))
        assert tape.streams() == [(b"lostend", b"answer")]
    answer, bye = talk.packets[-1], talk.send(1, flags=FIN | ACK)
    tape = run(kind, frames(*talk.packets[:3], fin, more, answer, bye))
    assert tape.flows[0].reason == END_FIN


def test_a_reset_with_a_text(kind: Any) -> None:
    """RFC 9293, section 3.5.3: the reason in words, no bytes of the stream."""
    talk = Talk().open()
    talk.send(0, b"question")
    talk.packets.append(talk.raw(1, RST | ACK, b"go away"))
    tape = run(kind, frames(*talk.packets))
    assert tape.streams() == [(b"question", b"")]
    assert tape.flows[0].reason == END_RST
    assert tape.flows[0].flow.bytes(1) == 0


@pytest.mark.parametrize("lower", [1, 10, 1000, 1 << 20, 1 << 30, 3 << 30])
@pytest.mark.parametrize("wait", [0, SECOND // 2, 5 * SECOND])
def test_a_port_used_again_with_a_lower_number(kind: Any, lower: int, wait: int) -> None:
    """Within TIME-WAIT: RFC 6191 lets timestamps decide, not the number."""
    old = Talk([5_000_000, 9_000_000]).open()
    new = Talk([(5_000_000 - lower) & MASK, (9_000_000 - lower) & MASK])
    rows = [Record(ether(p), START + n) for n, p in enumerate(spoken(old).packets)]
    rows += [Record(ether(p), START + wait + n) for n, p in enumerate(spoken(new.open()).packets)]
    tape = run(kind, block(rows))
    assert tape.streams() == [(b"question", b"answer")] * 2
    assert [f.reason for f in tape.flows] == [END_FIN, END_FIN]
    assert [f.flow.midstream for f in tape.flows] == [False, False]


@pytest.mark.parametrize("lower", [1, 1000, 1 << 21])
def test_a_port_used_again_without_an_end(kind: Any, lower: int) -> None:
    old = Talk([5_000_000, 9_000_000]).open()
    old.send(0, b"old")
    new = spoken(Talk([5_000_000 - lower, 9_000_000 - lower]).open())
    tape = run(kind, frames(*old.packets, *new.packets))
    assert tape.streams() == [(b"old", b""), (b"question", b"answer")]
    assert [f.reason for f in tape.flows] == [END_REUSED, END_FIN]


def test_what_is_left_of_the_old_connection(kind: Any) -> None:
    """Its last ACK, and a FIN again, after the new one's SYN."""
    old, new = Talk([5_000_000, 9_000_000]).open(), Talk([1000, 2000])
    spoken(old)
    left = [old.packets[-1], old.packets[-2]]
    new.send(0, flags=SYN)
    new.packets += left
    new.send(1, flags=SYN | ACK)
    new.send(0)
    tape = run(kind, frames(*old.packets, *spoken(new).packets))
    assert tape.streams() == [(b"question", b"answer")] * 2
    assert tape.flows[1].reason in (END_FIN, END_CAPTURE)
