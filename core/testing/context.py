"""For tests of enrichers and sinks: what the application offers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kshark.api import Context, Details, Entry, Message, ProtocolSpec
from kshark.render import Renderer


class _Context:
    def __init__(self, specs: Sequence[ProtocolSpec], redact: bool) -> None:
        self.protocols: Mapping[str, ProtocolSpec] = {spec.name: spec for spec in specs}
        self.renderer = Renderer(self.protocols, redact)
        self.said: list[str] = []
        self.lost: list[tuple[Entry, Exception]] = []

    def encode(self, batch: Sequence[Entry], *, full: bool = False) -> bytes:
        return self.renderer.encode(batch, full=full, unshown=self.unshown)

    def details(self, message: Message, protocol: str) -> Details | None:
        return self.renderer.details(message, protocol)

    def say(self, text: str) -> None:
        self.said.append(text)

    def ledger(self) -> dict[str, Any]:
        return {}

    def unshown(self, entry: Entry, error: Exception) -> None:
        self.lost.append((entry, error))


def context(*specs: ProtocolSpec, redact: bool = True) -> Context:
    """A `kshark.api.Context` that knows these protocols; what is said is in ``said``,
    entries that were not shown in ``lost``."""
    return _Context(specs, redact)


def protocol(name: str) -> ProtocolSpec:
    """An installed protocol's spec, built-in or not."""
    from kshark.plugins import load

    found: ProtocolSpec = load().find("protocols", name)
    return found
