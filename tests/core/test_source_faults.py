"""A backend that fails in what it need not have: it is said once, and the capture goes on without that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kshark.api import Block, CaptureStats, Endpoint, Entry, Flow, Kind, Message, Outcome
from kshark.engine import Engine, EngineSettings
from kshark.faults import Faults
from kshark.source import Source


class Failing:
    """It names processes and leaves connections out, until it cannot."""

    live = True

    def __init__(self) -> None:
        self.named: list[Flow] = []
        self.left_out: list[Flow] = []

    async def blocks(self) -> AsyncIterator[Block]:
        yield Block(b"", b"", 0, 1, ())

    def name(self, flow: Flow) -> None:
        self.named.append(flow)
        raise LookupError("secret-of-a-process")

    def opaque(self, flow: Flow, seen_ns: int) -> None:
        self.left_out.append(flow)
        raise OSError("map full")

    def stats(self) -> CaptureStats:
        return CaptureStats()

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("what", ["name", "opaque"])
def test_what_fails_is_said_once_and_given_up(what: str) -> None:
    said: list[str] = []
    backend = Failing()
    other = "name" if what == "opaque" else "opaque"
    setattr(backend, other, None)
    faults = Faults(said.append)
    source = Source("failing", backend, Engine([], EngineSettings()), faults, make=Failing)
    flow = Flow("1", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))
    asked = Message(Kind.REQUEST, "GET", "/")
    entry = Entry(flow, 1, "http", asked, None, Outcome.UNANSWERED)
    for _ in range(3):
        if source.engine.unread is not None:
            source.engine.unread = [(flow, 5), (flow, 6)]
        assert source.named([entry, entry]) == [entry, entry]
    assert len(backend.named if what == "name" else backend.left_out) == 1
    assert source.engine.unread is None or what == "name"
    (line,) = said
    kind = "LookupError" if what == "name" else "OSError"
    assert line.startswith(f"failing: {kind} in {what}; it ")
    assert "secret" not in line
    assert list(faults.counts.values()) == [1]
