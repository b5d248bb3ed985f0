"""Flows that nobody dissects: protocols like any other, only without a dissector."""

from __future__ import annotations

import struct

import pytest

from kshark import plugins
from kshark.api import PluginError, Side
from kshark.engine import FLOWS, Engine, EngineSettings
from kshark.places import places
from kshark.plan import make_plan
from kshark.render import Renderer
from kshark.settings import Given
from kshark.testing import _packets


def hello(name: bytes) -> bytes:
    """A TLS ClientHello with this server name, all else as short as can be: its flow is soon opaque, and has a name."""
    entry = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack(">HH", 0, len(entry)) + entry
    rest = b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    body = b"\3\3" + bytes(32) + rest
    shake = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + struct.pack(">H", len(shake)) + shake


def test_they_are_listed_with_all_other_protocols() -> None:
    assert set(plugins.load().protocols) > FLOWS
    assert set(plugins.load(needed={"protocols": ["redis"]}).protocols) > FLOWS
    assert not plugins.load(needed={"sinks": ["console"]}).protocols


def test_a_full_row_has_their_object() -> None:
    protocols = plugins.load().protocols
    engine = Engine(list(protocols.values()))
    talk = [(Side.CLIENT, hello(b"example.org")), (Side.SERVER, b"\x16\3\3\0\0")]
    start, middle, end = _packets.packets(talk, 1_000)
    _, entry = engine.feed(_packets.block([*start, *middle, *end])) + engine.finish()
    row = Renderer(protocols).as_dict(entry, full=True)
    assert (row["protocol"], row["request"]["target"]) == ("tcp", "example.org")
    asked, answered = row["tcp"]["request"], row["tcp"]["response"]
    assert asked["sni"] == "example.org"
    assert (asked["bytes"], answered["bytes"]) == (len(talk[0][1]), 5)
    assert (asked["packets"], answered["packets"]) == (5, 4)
    assert asked["reason"] == "a handshake that failed"


def test_only_flows_and_no_dissector() -> None:
    specs = list(plugins.load().protocols.values())
    engine = Engine(specs, EngineSettings(only=frozenset({"tcp"})))
    start, middle, end = _packets.packets([(Side.CLIENT, b"GET / HTTP/1.1\r\n\r\n")], 1_000)
    (entry,) = engine.feed(_packets.block([*start, *middle, *end])) + engine.finish()
    assert entry.protocol == "tcp"
    assert engine.ledger.check() == []


def test_nobody_can_have_one_dissect() -> None:
    spec = plugins.load().protocols["udp"]
    with pytest.raises(PluginError, match="no dissector of its own"):
        spec.dissector()
    with pytest.raises(PluginError, match=r"--assume 80=tcp: tcp has no dissector of its own"):
        make_plan(places({"assume": Given(["80=tcp"], "--assume")}, environ={}))
