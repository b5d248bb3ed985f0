"""One protocol over two transports: each has its own dissector, both share a name, a breaker and the schema."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from kshark.api import Kind, Message, ProtocolSpec, Side, Switch
from kshark.engine import Engine, EngineSettings
from kshark.testing.play import PORT, MadeFlow


class Says:
    """A message a feed, with the name of the transport that it was written for."""

    verb = "stream"

    def feed(self, side: Side, data: bytes) -> Iterable[Message | Switch]:
        return [Message(int(Kind.ONEWAY), self.verb, size=len(data))]

    def gap(self, side: Side, missing: int) -> Iterable[Message | Switch]:
        return ()

    def close(self) -> Iterable[Message | Switch]:
        return ()


class SaysDatagram(Says):
    verb = "datagram"


TCP = ProtocolSpec(name="both", dissector=Says, magic=(b"S",))
BOTH = replace(TCP, also=(replace(TCP, transport="udp", dissector=SaysDatagram, magic=(b"D",)),))


def heard(proto: int, data: bytes, settings: EngineSettings) -> list[tuple[str, str]]:
    engine = Engine([BOTH], settings)
    flow = MadeFlow(proto=proto)
    engine.open(flow).chunk(0, data, flow.first_ns)
    engine.wire.finish(1)
    found = [(e.protocol, e.request.verb) for e in engine.take() if e.request is not None]
    assert list(engine.states) == ["both"]
    return found


def test_each_transport_has_its_dissector() -> None:
    bare = EngineSettings()
    assert heard(6, b"S", bare) == [("both", "stream")]
    assert heard(17, b"D", bare) == [("both", "datagram")]
    assert heard(6, b"D", bare) == []
    assert heard(17, b"S", bare) == []


def test_a_port_is_assumed_for_both() -> None:
    settings = EngineSettings(assume={PORT: "both"})
    assert heard(6, b"?", settings) == [("both", "stream")]
    assert heard(17, b"?", settings) == [("both", "datagram")]
