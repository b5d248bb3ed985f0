"""Conversations joined at any moment: never a wrong pair, and pairs come as soon as the order is certain."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from numbered import MS, SECOND, Talk, answer, ask, outcomes, played, timed
from record import CLASSES

from kshark import limits, wire
from kshark.api import Entry

CLIENT, SERVER = 0, 1
Steps = list[tuple[int, int]]  # side, number of the exchange
LOADED = wire.load()
HANDSHAKE = 3


def asks_redis(number: int) -> bytes:
    word = b"id-%d" % number
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(word), word)


def answers_redis(number: int) -> bytes:
    word = b"id-%d" % number
    return b"$%d\r\n%s\r\n" % (len(word), word)


PROTOCOLS = [
    pytest.param(ask, answer, 80, id="http"),
    pytest.param(asks_redis, answers_redis, 6379, id="redis"),
]
Maker = Callable[[int], bytes]


def bursts(sizes: list[int]) -> Steps:
    """So many requests, then all of their answers, and again."""
    steps: Steps = []
    first = 0
    for size in sizes:
        numbers = range(first, first + size)
        steps += [(CLIENT, n) for n in numbers] + [(SERVER, n) for n in numbers]
        first += size
    return steps


def window(depth: int, count: int, chance: random.Random) -> Steps:
    """A client that tops up to `depth` open requests whenever answers have come, a few at once."""
    steps: Steps = [(CLIENT, n) for n in range(depth)]
    asked, answered = depth, 0
    while answered < count:
        some = chance.randint(1, min(3, depth))
        steps += [(SERVER, answered + n) for n in range(some)]
        steps += [(CLIENT, asked + n) for n in range(some)]
        asked, answered = asked + some, answered + some
    return steps


def shared(count: int, chance: random.Random) -> Steps:
    """A connection that many threads share: anything between idle and ten open requests."""
    steps: Steps = []
    asked = answered = 0
    while answered < count:
        if asked < count and (
            asked == answered or (asked < answered + 10 and chance.random() < 0.5)
        ):
            steps.append((CLIENT, asked))
            asked += 1
        else:
            steps.append((SERVER, answered))
            answered += 1
    return steps


def packets(
    steps: Steps, asks: Maker, answers: Maker, port: int, close: bool = False
) -> list[bytes]:
    """Each message in a packet of its own, without the handshake."""
    talk = Talk(ports=(40_000, port)).open()
    for side, number in steps:
        talk.send(side, (answers if side else asks)(number))
    if close:
        talk.close()
    return talk.packets[HANDSHAKE:]


CONVERSATIONS: dict[str, Steps] = {
    "lockstep": bursts([1] * 40),
    "batches": bursts([5] * 8),
    "growing batches": bursts(list(range(1, 9))),
    "window of 2": window(2, 60, random.Random(1)),
    "window of 10": window(10, 60, random.Random(2)),
    "shared": shared(60, random.Random(3)),
}


@pytest.mark.parametrize("close", [False, True], ids=["cut off", "closed"])
@pytest.mark.parametrize(("asks", "answers", "port"), PROTOCOLS)
@pytest.mark.parametrize("steps", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_joined_anywhere(
    steps: Steps,
    asks: Maker,
    answers: Maker,
    port: int,
    close: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = packets(steps, asks, answers, port, close)
    for at in range(len(steps)):
        played(timed(sent[at:]), monkeypatch, LOADED)  # it knows a wrong pair


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("asks", "answers", "port"), PROTOCOLS)
def test_every_piece_of_a_pipeline(
    asks: Maker, answers: Maker, port: int, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = bursts([4, 4])
    sent = packets(steps, asks, answers, port)
    for at in range(len(sent)):
        for end in range(at + 1, len(sent)):
            if (steps[at:end][0][0], end - at) == (CLIENT, 2) and steps[end - 1][0] == SERVER:
                continue  # one request, one answer, and nothing else: nobody can tell
            played(timed(sent[at:end]), monkeypatch, cls)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depth", [2, 3, 8])
def test_long_windows(depth: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    sent = packets(window(depth, 2_000, chance), asks_redis, answers_redis, 6379)
    played(timed(sent[chance.randrange(40) :]), monkeypatch, LOADED)


def joined(
    steps: Steps, at: int, cls: Any, monkeypatch: pytest.MonkeyPatch, step: int = MS, **kwargs: Any
) -> list[Entry]:
    return played(timed(packets(steps, ask, answer, 80)[at:], step), monkeypatch, cls, **kwargs)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("at", [20, 21])
def test_lockstep_loses_no_pair(at: int, cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two exchanges, or within one, whose answer then is an orphan."""
    found = outcomes(joined(bursts([1] * 100), at, cls, monkeypatch))
    assert found == ({"ok": 90} if at == 20 else {"ok": 89, "orphan": 1})


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("at", range(20, 31))
def test_steady_batches_pair_again(at: int, cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [5] * (limits.STEADY + 20)
    found = outcomes(joined(bursts(sizes), at, cls, monkeypatch))
    assert found["ok"] >= 5 * 20 + limits.MATCHED - 20


def test_a_pause_settles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers within a millisecond, and then nobody says anything for ten: nothing is open."""
    before, after = shared(40, random.Random(4)), shared(60, random.Random(5))
    steps = before + [(side, number + 40) for side, number in after]
    records = timed(packets(steps, ask, answer, 80))
    for record in records[len(before) :]:
        record.ns += 10 * MS
    assert outcomes(played(records[11:], monkeypatch, LOADED))["ok"] >= 60


@pytest.mark.parametrize("cls", CLASSES)
def test_a_capture_that_begins_long_before_the_first_request(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was said for so long that nothing is open: the first pair is shown at once."""
    other = timed(Talk(ports=(1, 2)).open().packets)
    late = timed(packets(bursts([2, 2]), ask, answer, 80), MS, other[0].ns + 31 * SECOND)
    found = played(other + late, monkeypatch, cls)
    assert outcomes([e for e in found if e.protocol == "http"]) == {"ok": 4}
    soon = timed(packets(bursts([2, 2]), ask, answer, 80), MS, other[0].ns + SECOND)
    found = played(other + soon, monkeypatch, cls)
    assert outcomes([e for e in found if e.protocol == "http"]) == {"cut": 4, "orphan": 4}


@pytest.mark.parametrize("cls", CLASSES)
def test_time_alone_shows_the_pairs_of_a_quiet_flow(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = timed(packets(bursts([1, 1]), ask, answer, 80))
    tick = timed(Talk(ports=(1, 2)).open().packets, MS, records[-1].ns + 31 * SECOND)
    after = timed(Talk(ports=(1, 3)).open().packets, MS, tick[-1].ns + SECOND)
    found = played(records + tick + after, monkeypatch, cls, at_once=1)
    assert [e.outcome for e in found if e.protocol == "http"] == ["ok", "ok"]
    assert found[0].protocol == "http"
