"""What time it is for the flows of a backend while no packets come."""

from __future__ import annotations

import struct
import time

import pytest

from kshark.api import INDEX_FORMAT, Block
from kshark.clock import Clock
from kshark.limits import SECOND

START = 1_700_000_000 * SECOND


def block(*times: int) -> Block:
    index = b"".join(struct.pack(INDEX_FORMAT, ns, 0, 0, 0, 0, 0) for ns in times)
    return Block(b"", index, len(times), 1)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the machine's clock."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_passes_from_the_last_packet_on(passed: list[float]) -> None:
    clock = Clock(live=False)
    clock.block(block(START, START + 5), START + 5)
    clock.wait()
    passed[0] += 7
    assert clock.now(True) == START + 7 * SECOND


def test_no_time_passes_while_packets_are_on_their_way(passed: list[float]) -> None:
    clock = Clock(live=False)
    clock.block(block(START), START)
    clock.wait()
    passed[0] += 0.05
    assert clock.now(True) == 0
    passed[0] += 100
    assert clock.now(False) == 0


def test_no_time_passes_before_the_first_packet(passed: list[float]) -> None:
    clock = Clock(live=False)
    clock.wait()
    passed[0] += 100
    assert clock.now(True) == 0


def test_who_writes_in_bursts_has_that_time_for_the_next(passed: list[float]) -> None:
    clock = Clock(live=False)
    clock.block(block(START, START + 60 * SECOND), START + 60 * SECOND)
    clock.wait()
    passed[0] += 60
    assert clock.now(True) == 0
    passed[0] += 5
    assert clock.now(True) == START + 65 * SECOND
    clock.block(block(), START)
    clock.block(block(START + 70 * SECOND), START + 70 * SECOND)
    clock.wait()
    passed[0] += 5
    assert clock.now(True) == START + 75 * SECOND


def test_a_block_that_counts_more_packets_than_it_has(passed: list[float]) -> None:
    clock, short = Clock(live=False), block(START, START + 5)
    short.count = 1_000_000
    clock.block(short, START + 5)
    clock.wait()
    passed[0] += 7
    assert clock.now(True) == START + 7 * SECOND


def test_one_wrong_date_moves_no_time(passed: list[float]) -> None:
    clock = Clock(live=False)
    clock.block(block(START, START + 5 + 3600 * SECOND), START + 5)
    clock.wait()
    passed[0] += 7
    assert clock.now(True) == START + 7 * SECOND


def test_a_date_that_nothing_confirms_but_the_time_that_passed(passed: list[float]) -> None:
    """An answer after a pause, by a writer of bursts: the wire waits for the packet after it, which never comes."""
    clock = Clock(live=False)
    clock.wait()
    passed[0] += 50
    clock.block(block(1, START), 1)
    clock.wait()
    passed[0] += 1
    assert clock.now(True) == 1 + SECOND  # what passed before the first packet does not count
    clock.block(block(START, START + 60 * SECOND), START + 60 * SECOND)
    for late in (0, 3600):
        clock.wait()
        passed[0] += 50
        clock.block(block(START + (110 + late) * SECOND), START + 60 * SECOND)
        clock.wait()
        passed[0] += 1
        assert clock.now(True) == START + 111 * SECOND + late // 3600 * 50 * SECOND
        passed[0] -= 1


def test_live_time_is_that_of_the_packets_while_they_come(passed: list[float]) -> None:
    """Who is behind has packets in its ring that are older than this machine's clock."""
    clock, before = Clock(live=True), time.time_ns() - 60 * SECOND
    assert clock.now(False) == 0
    clock.block(block(before, before + 5), 0)
    clock.wait()
    passed[0] += 0.05
    assert clock.now(True) == before + 5
    passed[0] += 0.06
    assert clock.now(True) == pytest.approx(time.time_ns(), abs=SECOND)
    passed[0] += 100
    assert clock.now(False) == before + 5  # a sink holds us up


def test_no_live_packet_is_of_the_future(passed: list[float]) -> None:
    clock = Clock(live=True)
    clock.block(block(time.time_ns() + 3600 * SECOND), 0)
    clock.wait()
    assert clock.now(True) == pytest.approx(time.time_ns(), abs=SECOND)
