"""Play a conversation or a capture: to a dissector alone, or through the engine's guard and pairing.

A conversation is a list of pieces in the order in which they were sent: ``(Side.CLIENT, b"...")``,
or ``(Side.CLIENT, 100)`` where the capture lost 100 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Final

from msgspec.structs import replace

from kshark.api import (
    DissectError,
    Dissector,
    Entry,
    Inner,
    Item,
    Kind,
    Message,
    Packet,
    PluginError,
    ProtocolSpec,
    Side,
    Switch,
)
from kshark.engine import Engine, EngineSettings
from kshark.faults import place
from kshark.limits import ERRORS
from kshark.talk import Piece as Piece
from kshark.testing._alarm import TooSlow, alarm
from kshark.wire import END_FIN

Conversation = Sequence[Piece]

PORT = 47
"""The server's port in made conversations; nobody listens there."""
START = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z
STEP = 1_000_000
"""ns between two pieces."""
PROTO = {"tcp": 6, "udp": 17, "icmp": 1}


PATIENCE: Final = 5.0
"""s of processor time for one conversation, which takes milliseconds: who needs more will never end."""


class Stuck(AssertionError):
    """A dissector did not come back; the text says where it was, and what it had been given."""

    def __init__(self, pieces: Sequence[Piece], error: TooSlow) -> None:
        given = ", ".join(
            f"{Side(side).name.lower()} {f'({piece} bytes lost)' if isinstance(piece, int) else _short(piece)}"
            for side, piece in pieces[:12]
        )
        more = f" and {len(pieces) - 12} more pieces" if len(pieces) > 12 else ""
        at = f", at {place(error)}," if error.__traceback__ is not None else ""
        super().__init__(
            f"the dissector did not come back{at} within {PATIENCE:g} s of processor time from {given}{more}"
        )


def _short(piece: bytes) -> str:
    return repr(piece) if len(piece) <= 60 else f"{piece[:40]!r}... ({len(piece)} bytes)"


@dataclass(slots=True)
class Heard:
    """What a dissector said: its messages with the side they belong to, and how it ended."""

    messages: list[tuple[Side, Message]] = field(default_factory=list)
    switch: Switch | None = None  # what it handed over, with all bytes that it never saw
    inner: list[Inner] = field(default_factory=list)  # what it found of a flow within
    errors: list[str] = field(default_factory=list)  # texts of its DissectErrors
    closed: int = 0  # how many of the messages only close() gave


def messages(dissector: Dissector, pieces: Conversation) -> list[Message]:
    """What a dissector alone makes of a conversation; a `DissectError` is raised."""
    heard = hear(dissector, pieces, patient=False)
    if heard.errors:
        raise DissectError(heard.errors[0])
    return [message for _, message in heard.messages]


def hear(dissector: Dissector, pieces: Iterable[Piece], *, patient: bool = True) -> Heard:
    """Play `pieces` and then the end, as the engine would.

    After a `DissectError` a `patient` listener asks for a new start by ``gap(side, 0)``, at most
    ERRORS times, like the engine; another one stops. Who does not come back in PATIENCE is `Stuck`.
    """
    pieces = list(pieces)
    try:
        with alarm(PATIENCE) as bell:
            return _hear(dissector, pieces, patient)
    except TooSlow as error:
        if bell.error is not error:
            raise  # somebody else's alarm
        raise Stuck(pieces, error) from error


def _hear(dissector: Dissector, pieces: Sequence[Piece], patient: bool) -> Heard:
    heard = Heard()
    rest = iter(pieces)
    for side, piece in rest:
        for found in _answers(dissector, side, piece, heard):
            if isinstance(found, Switch):
                heard.switch = _handed_over(found, rest)
                return heard
            if isinstance(found, Inner):
                heard.inner.append(found)
                continue
            heard.messages.append((Side(found.side) if found.side >= 0 else side, found))
        if heard.errors and not (patient and len(heard.errors) < ERRORS):
            return heard
    before = len(heard.messages)
    for found in _closing(dissector, heard):
        if isinstance(found, Message):
            answers = found.kind in (Kind.RESPONSE, Kind.INTERIM)
            side = Side(found.side if found.side >= 0 else int(answers))
            heard.messages.append((side, found))
    heard.closed = len(heard.messages) - before
    return heard


def _answers(dissector: Dissector, side: Side, piece: bytes | int, heard: Heard) -> Iterator[Item]:
    try:
        if isinstance(piece, int):
            yield from dissector.gap(side, piece)
        elif piece:
            yield from dissector.feed(side, piece)
    except DissectError as error:
        heard.errors.append(str(error))
        yield from _new_start(dissector, side, heard)


def _new_start(dissector: Dissector, side: Side, heard: Heard) -> Iterator[Item]:
    try:
        yield from dissector.gap(side, 0)
    except DissectError as error:
        heard.errors.append(str(error))


def _closing(dissector: Dissector, heard: Heard) -> Iterator[Item]:
    try:
        yield from dissector.close()
    except DissectError as error:
        heard.errors.append(str(error))


def _handed_over(switch: Switch, rest: Iterable[Piece]) -> Switch:
    """`switch` with the bytes that came after it: those belong to the next protocol too."""
    both = [switch.client, switch.server]
    for side, piece in rest:
        both[side] += piece if isinstance(piece, bytes) else b"?" * piece
    return replace(switch, client=both[0], server=both[1])


# ---------------------------------------------------------------- through the engine


@dataclass(slots=True, eq=False)
class MadeFlow:
    """A `kshark.wire.WireFlow` without packets: one a piece."""

    proto: int = 6
    client: bytes = b"\x0a\0\0\1"
    server: bytes = b"\x0a\0\0\2"
    client_port: int = 40_000
    server_port: int = PORT
    first_ns: int = START
    last_ns: int = START
    midstream: bool = False
    established: bool = True
    refused: bool = False
    iface: str = ""
    seen: list[int] = field(default_factory=lambda: [0, 0])
    size: list[int] = field(default_factory=lambda: [0, 0])

    def packets(self, side: int) -> int:
        return self.seen[side]

    def bytes(self, side: int) -> int:
        return self.size[side]

    def first_at(self, side: int) -> int:
        return self.first_ns if self.seen[side] else 0

    def take_packets(self) -> Sequence[Packet]:
        return ()


def engine_for(spec: ProtocolSpec, said: list[str]) -> Engine:
    """An engine that knows one protocol and takes every flow to `PORT` for it."""
    return Engine([spec], EngineSettings(assume={PORT: spec.name}), said.append)


def converse(spec: ProtocolSpec, pieces: Conversation) -> list[Entry]:
    """The entries of one flow of that protocol: guard, dissector and pairing, no packets.

    An exception of the plugin that is no `DissectError` fails here, as `AssertionError`.

        >>> from kshark.api import Framed, Kind
        >>> class Line(Framed):
        ...     def parse(self, side):
        ...         while True:
        ...             line = yield b"\\n"
        ...             yield Message(Kind(1 + side), verb=line.decode("latin-1").strip())
        >>> entries = converse(
        ...     ProtocolSpec(name="line", dissector=Line),
        ...     [(Side.CLIENT, b"ping\\n"), (Side.SERVER, b"pong\\n")],
        ... )
        >>> rows(entries)
        ['ping -> pong [ok]']
    """
    said: list[str] = []
    entries: list[Entry] = []
    try:
        with alarm(PATIENCE) as bell:
            entries = play(engine_for(spec, said), spec, pieces)
    except TooSlow as error:
        if bell.error is not error:
            raise
    if bell.error is not None:
        raise Stuck(pieces, bell.error) from bell.error
    if said:
        raise AssertionError("; ".join(said))
    return entries


def play(engine: Engine, spec: ProtocolSpec, pieces: Conversation) -> list[Entry]:
    """The entries that an engine makes of one flow."""
    flow = MadeFlow(proto=PROTO[spec.transport])
    consumer = engine.open(flow)
    done = False
    for side, piece in pieces:
        flow.last_ns += STEP
        if isinstance(piece, int):
            done = done or consumer.gap(side, piece, flow.last_ns)
        elif piece:
            flow.seen[side] += 1
            flow.size[side] += len(piece)
            done = done or consumer.chunk(side, piece, flow.last_ns)
    consumer.end(END_FIN, flow.last_ns)
    return engine.take()


def shown(spec: ProtocolSpec, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Each entry as every sink gets it: the JSON of ``--full`` as a dict, secrets redacted."""
    from kshark.render import Renderer

    renderer = Renderer({spec.name: spec})
    return [renderer.as_dict(entry, full=True) for entry in entries]


def rows(entries: Iterable[Entry]) -> list[str]:
    """Each entry as a short line: ``GET /a -> 200 [ok]``, ``GET /b -> - [unanswered]``."""
    return [f"{_half(e.request)} -> {_half(e.response)} [{e.outcome}]" for e in entries]


def _half(message: Message | None) -> str:
    if message is None:
        return "-"
    status = str(message.status) if message.status else ""
    return " ".join(filter(None, (message.verb, status, message.target))) or "."


# ---------------------------------------------------------------- captures


def replay(
    capture: str | PathLike[str],
    protocol: ProtocolSpec | str | None = None,
    plugin: str | PathLike[str] | None = None,
    *,
    assume: Mapping[int, str] | None = None,
) -> list[Entry]:
    """Every entry of a capture file (pcap or pcapng, packed or not).

    `protocol` is the one to look for: a spec, or the name of an installed one; None is all.
    `plugin` is the file of a plugin to load beside those that are installed; `assume` says which
    protocol a port speaks, without a look.
    """
    from kshark.plugins import load

    registry = load([fspath(plugin)] if plugin is not None else [])
    for found in registry.refused():
        if plugin is not None and found.source == fspath(plugin):
            raise PluginError(found.line())
    specs = list(registry.protocols.values())
    if isinstance(protocol, ProtocolSpec):
        specs = [protocol]
    elif protocol is not None:
        specs = [registry.find("protocols", protocol)]
    engine = Engine(specs, EngineSettings(backend="pcap", assume=dict(assume or {})))
    source = registry.find("backends", "pcap")
    backend = source.make(source.options(target=fspath(capture)))
    entries = [entry for block in backend.read() for entry in engine.feed(block)]
    return entries + engine.finish()
