"""Entries to be written, and a context that renders them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from kshark.api import (
    Details,
    Endpoint,
    Entry,
    Flow,
    Kind,
    Message,
    Outcome,
    ProtocolSpec,
)
from kshark.render import Renderer

NOON = 1_767_323_045_000_000_006  # 2026-01-02T03:04:05.000000006Z


class FakeContext:
    """What the application offers; `said` is what the user was told."""

    def __init__(self) -> None:
        self.protocols: Mapping[str, ProtocolSpec] = {}
        self.said: list[str] = []
        self._renderer = Renderer(self.protocols)
        self.lost: list[Entry] = []
        self.books: dict[str, Any] = {}

    def ledger(self) -> dict[str, Any]:
        return self.books

    def encode(self, batch: Sequence[Entry], *, full: bool = False) -> bytes:
        return self._renderer.encode(batch, full=full, unshown=self.unshown)

    def unshown(self, entry: Entry, error: Exception) -> None:
        self.lost.append(entry)

    def details(self, message: Message, protocol: str) -> Details | None:
        return self._renderer.details(message, protocol)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


MakeEntry = Callable[..., Entry]


@pytest.fixture
def make_entry() -> MakeEntry:
    """Builds an answered GET; keywords replace fields of the entry."""
    flow = Flow(
        id="f1",
        transport="tcp",
        client=Endpoint("10.0.0.1", 40858),
        server=Endpoint("10.0.0.2", 80),
        backend="pcap",
        protocol="http",
    )

    def make(seq: int = 0, target: str = "/r", **changes: object) -> Entry:
        request = Message(
            Kind.REQUEST, verb="GET", target=target, size=80, first_ns=NOON, last_ns=NOON + 5
        )
        response = Message(
            Kind.RESPONSE,
            status=200,
            size=165,
            first_ns=NOON + 1_234_567,
            last_ns=NOON + 2_000_000,
        )
        entry = Entry(flow, seq, "http", request, response, Outcome.OK)
        for name, value in changes.items():
            setattr(entry, name, value)
        return entry

    return make
