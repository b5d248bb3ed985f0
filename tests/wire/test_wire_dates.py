"""Time: one packet with a wrong date moves nothing; a pause does, and with the same result as ever."""

from __future__ import annotations

from typing import Any

import pytest
from craft import (
    ACK,
    SECOND,
    START,
    SYN,
    Record,
    Talk,
    block,
    ether,
    ip4,
    pieces,
    udp,
)
from record import CLASSES, Tape, run

from kshark import limits
from kshark.wire import END_CAPTURE, END_IDLE, WireLimits

pytestmark = pytest.mark.parametrize("kind", CLASSES)
HOUR, YEAR = 3600 * SECOND, 365 * 24 * 3600 * SECOND
CREDULOUS = WireLimits(leap=1 << 62)
"""Believes every date."""


def datagram(n: int, text: bytes = b"hello") -> bytes:
    return ip4(udp(1000 + n, 53, text, check=n), 17)


def told(*rows: tuple[int, bytes]) -> list[Record]:
    return [Record(ether(packet), START + ns) for ns, packet in rows]


def halves(rows: list[Record]) -> list[list[Any]]:
    """Every way to cut the records into two blocks, and one block a record."""
    cuts = [[block(rows[:n]), block(rows[n:])] for n in range(len(rows) + 1)]
    return [*cuts, [block([row]) for row in rows]]


def busy() -> tuple[Talk, list[Record]]:
    """A hole that the peer acknowledges, a SYN without answer, half a datagram, and then a forged date."""
    talk = Talk().open()
    lost = talk.send(0, b"lost")
    talk.send(0, b"more")
    talk.send(1)
    packets = [p for p in talk.packets if p is not lost]
    packets += [Talk(ports=(7, 80)).send(0, flags=SYN), *pieces(udp(1, 2, bytes(1000)), 504)[:1]]
    return talk, [*told(*((n, p) for n, p in enumerate(packets))), *told((YEAR, datagram(1)))]


def test_one_wrong_date_moves_nothing(kind: Any) -> None:
    talk, rows = busy()
    rows += told((20, talk.packets[3]), (21, pieces(udp(1, 2, bytes(1000)), 504)[1]))
    for blocks in halves(rows):
        tape = Tape(kind).feed(*blocks)
        assert tape.wire.now == START + 21
        assert tape.streams()[0] == (b"lostmore", b"")
        assert not any(f.reason for f in tape.flows)
        counts = tape.counts()
        assert (counts["misdated"], counts["defragmented"], counts["received"]) == (1, 1, len(rows))
        forged = next(f for f in tape.flows if f.stream(0) == b"hello")
        assert forged.flow.first_ns == forged.flow.last_ns == START + 6
        assert forged.events[1] == ("chunk", 0, b"hello", START + 6)
        tape.finish()


def test_without_the_rule_it_would(kind: Any) -> None:
    _, rows = busy()
    tape = Tape(kind, CREDULOUS).feed(block(rows))
    assert (tape.counts()["half_open"], tape.counts()["idle"]) == (1, 1)
    assert (tape.counts()["gaps"], tape.counts()["fragment_timeout"]) == (1, 1)


@pytest.mark.parametrize("step", [limits.LEAP + 1, 20 * SECOND, HOUR])
def test_a_pause_moves_time_as_ever(kind: Any, step: int) -> None:
    """A pause, or a capture where every packet comes after one: the same as if every date were believed."""
    talk = Talk().open()
    for n in range(6):
        talk.send(n % 2, b"x")
    for times in (
        [0, 1, 2, 3, step, *(step + n for n in range(4))],
        [*(n * step for n in range(8)), 7 * step],
        [0, 1, 2, step, 2 * step, 2 * step - 1, 2 * step - 2, 3 * step, 3 * step],
    ):
        rows = told(*zip(times, talk.packets, strict=True))
        wanted = run(kind, block(rows), limits=CREDULOUS)
        for blocks in halves(rows):
            tape = run(kind, *blocks)
            assert (tape.events, tape.ended) == (wanted.events, wanted.ended)
            assert tape.wire.counters() == wanted.wire.counters()


def test_the_last_packet_waits_for_the_next(kind: Any) -> None:
    rows = told((0, datagram(1)), (HOUR, datagram(1)))
    for after, reasons, now in (
        (told((HOUR - limits.LEAP, datagram(2))), [END_IDLE, 0, 0], START + HOUR),
        (told((HOUR - limits.LEAP - 1, datagram(2))), [0], START),
        (told((1, datagram(2))), [0, 0], START + 1),
    ):
        tape = Tape(kind).feed(block(rows))
        assert (tape.wire.now, tape.counts()["received"], len(tape.flows)) == (START, 1, 1)
        tape.feed(block([])).feed(block(after))
        assert [f.reason for f in tape.flows] == reasons
        assert tape.wire.now == now
        tape.finish()
        assert tape.counts()["received"] == 3


def test_the_end_gives_it_its_own_date(kind: Any) -> None:
    """Its date is as likely right as wrong; it ends nothing."""
    tape = run(kind, block(told((0, datagram(1)), (HOUR, datagram(1)))))
    assert tape.flows[0].events[2:] == [
        ("chunk", 0, b"hello", START + HOUR),
        ("end", END_CAPTURE, START + HOUR),
    ]
    assert tape.counts()["received"] == 2
    assert "misdated" not in tape.counts()


def test_time_itself_confirms(kind: Any) -> None:
    tape = Tape(kind).feed(block(told((0, datagram(1)), (100 * SECOND, datagram(2)))))
    tape.wire.tick(START + 94 * SECOND)
    assert (len(tape.flows), tape.wire.now) == (1, START + 94 * SECOND)
    tape.wire.tick(START + 95 * SECOND)
    assert (len(tape.flows), tape.wire.now) == (2, START + 100 * SECOND)
    tape.wire.tick(START + 101 * SECOND)
    assert tape.wire.now == START + 101 * SECOND
    tape.check()


def test_what_waits_is_a_packet_like_others(kind: Any) -> None:
    """Its interface, its link layer, its place in the books; a copy of it; one cut short; a broken record."""
    rows = told((0, datagram(1)), (HOUR, datagram(2)), (HOUR, datagram(2)), (1, datagram(3)))
    rows[1].iface, rows[2].iface = 1, 2
    tape = run(kind, block(rows[:2]), block(rows[2:], ifaces=("lo",)), keep_packets=True)
    assert [f.flow.iface for f in tape.flows] == ["eth0", "eth1", "lo"]
    assert tape.counts()["duplicate"] == 1
    cut = told((0, datagram(1)), (HOUR, datagram(2)), (1, datagram(3)))
    cut[1].frame, cut[1].wire = cut[1].frame[:-2], len(cut[1].frame)
    for blocks in halves(cut):
        tape = run(kind, *blocks)
        assert tape.flows[1].events[1:3] == [
            ("chunk", 0, b"hello"[:3], START),
            ("gap", 0, 2, START),
        ]
    for lost in (1, 5000):
        short = block(cut[:2])
        short.data = short.data[:-lost]
        tape = run(kind, short, block(cut[2:]))
        assert tape.counts()["bad_record"] == (1 if lost == 1 else 2)
        assert tape.counts()["received"] == 3


def test_an_exception_in_it_leaves_all_in_order(kind: Any) -> None:
    def enough(listener: Any) -> bool:
        if listener.number:
            raise RuntimeError
        return False

    rows = told((0, datagram(1)), (HOUR, datagram(2)), (1, datagram(3)))
    for blocks in ([block(rows)], [block(rows[:2]), block(rows[2:])]):
        tape = Tape(kind, enough=enough)
        with pytest.raises(RuntimeError):
            tape.feed(*blocks)
        tape.check()
        tape.wire.feed(block(told((2, datagram(1)))))
        tape.check()
        assert tape.flows[0].flow.packets(0) == 2


def test_a_stream_goes_on_through_a_wrong_date(kind: Any) -> None:
    """The quick way and the slow one: packets of a stream in order, one of them misdated."""
    talk = Talk().open()
    for n in range(9):
        talk.send(n % 2, b"%d" % n, ACK)
    for wrong in range(1, 12):
        times = [YEAR if n == wrong else n for n in range(12)]
        for blocks in halves(told(*zip(times, talk.packets, strict=True))):
            tape = run(kind, *blocks)
            assert tape.streams() == [(b"02468", b"1357")]
            assert tape.counts().get("misdated", 0) == (wrong < 11)
