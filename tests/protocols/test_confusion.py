"""Nothing foreign is taken for Redis, HTTP or WebSocket: in either direction, at any line, lines apart or together."""

from __future__ import annotations

import pytest
from foreign import FOREIGN

from kshark.api import ProtocolSpec, Side
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, redis, websocket
from kshark.testing._case import Talk
from kshark.testing.play import MadeFlow

SPECS = (redis.SPEC, http.SPEC, websocket.SPEC)


def taken_for(specs: tuple[ProtocolSpec, ...], talk: Talk, midstream: bool) -> set[str]:
    """The protocols of the entries of one flow."""
    said: list[str] = []
    engine = Engine(list(specs), EngineSettings(), said.append)
    flow = MadeFlow(midstream=midstream)
    consumer = engine.open(flow)
    for side, piece in talk:
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        if consumer.chunk(side, piece, flow.last_ns):
            break
    consumer.end(1, flow.last_ns)
    assert not said
    return {entry.protocol for entry in engine.take()}


def flipped(talk: Talk) -> Talk:
    return [(Side(1 - side), piece) for side, piece in talk]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("specs", [SPECS, SPECS[:1], SPECS[1:2]], ids=["all", "redis", "http"])
def test_from_the_first_byte(name: str, specs: tuple[ProtocolSpec, ...]) -> None:
    assert taken_for(specs, FOREIGN[name], False) == {"tcp"}


@pytest.mark.parametrize("name", FOREIGN)
def test_joined_at_any_line(name: str) -> None:
    talk = FOREIGN[name]
    lines = [(side, line) for side, piece in talk for line in piece.splitlines(keepends=True)]
    wrong = [
        (at, rest[:3])
        for whole in (talk, lines)
        for at in range(len(whole))
        for rest in (whole[at:], flipped(whole[at:]))
        if taken_for(SPECS, rest, True) != {"tcp"}
    ]
    assert not wrong
