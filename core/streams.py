"""The flows of a capture file, and the bytes of one of them as its dissector would be fed.

The engine runs as ever (so each flow has its protocol and the reason); beside it, every flow is counted,
and what one chosen flow carries is kept. Flows are numbered from 1 in the order of their first packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath

from kshark.api import PluginError, ProtocolSpec, Side
from kshark.engine import Engine
from kshark.flow import Guard
from kshark.limits import FLOWS_LISTED, STREAM_KEPT
from kshark.naming import address, identity
from kshark.plugins import Registry
from kshark.shared import EngineSettings
from kshark.talk import Piece
from kshark.wire import Consumer, WireFlow


@dataclass(slots=True)
class Seen:
    """One flow of a capture."""

    number: int
    id: str
    transport: str
    client: str  # address:port
    server: str
    first_ns: int
    protocol: str = ""  # "" where nobody claims it
    reason: str = ""
    chunks: list[int] = field(default_factory=lambda: [0, 0])  # by side
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    lost: int = 0
    midstream: bool = False


@dataclass(slots=True)
class Stream:
    """The bytes of one flow."""

    seen: Seen
    pieces: list[Piece] = field(default_factory=list)
    left_out: int = 0  # bytes beyond STREAM_KEPT a side


class _Tee:
    """A `Consumer` that counts, and keeps where it is told to, before the engine's guard is asked."""

    def __init__(self, guard: Guard, seen: Seen, stream: Stream | None) -> None:
        self.guard = guard
        self.seen = seen
        self.stream = stream
        self.kept = [0, 0]
        self.raw: list[Piece] = []  # by the wire's idea of who asks
        self.enough = False  # for the guard

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        self.seen.chunks[side] += 1
        self.seen.bytes[side] += len(data)
        if self.stream is not None:
            self.keep(side, data)
        self.enough = self.enough or self.guard.chunk(side, data, ns)
        return self.enough and self.stream is None

    def keep(self, side: int, data: bytes) -> None:
        if self.stream is not None and self.kept[side] + len(data) > STREAM_KEPT:
            self.stream.left_out += len(data)
            self.kept[side] = STREAM_KEPT  # what came later would follow a hole
            return
        self.kept[side] += len(data)
        self.raw.append((side, data))  # type: ignore[arg-type]

    def gap(self, side: int, missing: int, ns: int) -> bool:
        self.seen.lost += missing
        if self.stream is not None:
            self.raw.append((side, missing))  # type: ignore[arg-type]
        self.enough = self.enough or self.guard.gap(side, missing, ns)
        return self.enough and self.stream is None

    def end(self, reason: int, ns: int) -> None:
        guard, seen = self.guard, self.seen
        guard.end(reason, ns)
        seen.midstream = guard.midstream
        seen.protocol = guard.name() if not guard.reason else ""
        seen.reason = guard.emitter.flow.reason if guard.emitter is not None else ""
        seen.reason = guard.reason or seen.reason
        if guard.flip:
            seen.client, seen.server = seen.server, seen.client
            seen.chunks.reverse()
            seen.bytes.reverse()
        if self.stream is not None:
            self.stream.pieces = [(Side(side ^ guard.flip), piece) for side, piece in self.raw]


class _Watching(Engine):
    """An engine whose flows are looked at."""

    def __init__(self, specs: Sequence[ProtocolSpec], assume: dict[int, str], wanted: str) -> None:
        super().__init__(specs, EngineSettings(backend="pcap", assume=assume))
        self.wanted = wanted
        self.seen: list[Seen] = []
        self.count = 0
        self.stream: Stream | None = None

    def open(self, flow: WireFlow) -> Consumer:
        guard = Guard(self, flow)
        self.count += 1
        seen = Seen(
            number=self.count,
            id=identity(flow),
            transport=self.transport(flow),
            client=_place(flow.client, flow.client_port),
            server=_place(flow.server, flow.server_port),
            first_ns=flow.first_ns,
        )
        wanted = self.stream is None and self.wanted in (str(seen.number), seen.id)
        if wanted:
            self.stream = Stream(seen)
        elif len(self.seen) >= FLOWS_LISTED:
            return guard
        self.seen.append(seen)
        return _Tee(guard, seen, self.stream if wanted else None)


def _place(host: bytes, port: int) -> str:
    text = address(host)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def look(
    path: str | PathLike[str],
    registry: Registry,
    *,
    flow: str = "",
    assume: dict[int, str] | None = None,
) -> tuple[list[Seen], Stream | None, int]:
    """The flows of a capture file; the stream of `flow` (its number or id); how many are not listed."""
    source = registry.find("backends", "pcap")
    backend = source.make(source.options(target=fspath(path)))
    engine = _Watching(list(registry.protocols.values()), assume or {}, flow)
    for block in backend.read():
        engine.feed(block)
    engine.finish()
    if flow and engine.stream is None:
        raise PluginError(f"{fspath(path)} has no flow {flow!r}: kshark flows lists them")
    return engine.seen, engine.stream, engine.count - len(engine.seen)
