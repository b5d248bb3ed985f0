"""``--proto reflect``: servers that are seen are asked for their types, where the user allows it, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from grpc_live import Note, caller, heard, server

from kshark import limits
from kshark.api import Endpoint, Entry, PluginError, ProtocolSpec
from kshark.protocols import grpc as ours
from kshark.protocols.grpc import GrpcOptions
from kshark.protocols.grpc.asking import ASKER, FULL, Asker, OpenPool, make
from kshark.testing.context import context
from kshark.testing.play import shown


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as number:
        yield number


def calls(port: int) -> list[Entry]:
    """A call to the server, as a capture would show it."""
    found = heard(port, lambda channel: caller(channel, "One", "unary_unary")(Note(text="x")))
    return seen(found, port)


def seen(found: list[Entry], port: int, ip: str = "127.0.0.1") -> list[Entry]:
    for entry in found:
        entry.flow = msgspec.structs.replace(entry.flow, server=Endpoint(ip, port))
    return found


def asker(spec: ProtocolSpec) -> Asker:
    return make(ASKER.options(), context(spec))


def body(spec: ProtocolSpec, entries: list[Entry]) -> object:
    return json.loads(shown(spec, entries)[0]["grpc"]["response"]["body"])


def settled(one: Asker) -> None:
    """Wait until all were asked, and take what they said."""
    if one.thread is not None:
        one.thread.join(30)
    one.enrich([])


def test_a_server_that_is_seen_is_asked_once(port: int) -> None:
    spec = ours.configure(GrpcOptions(proto=["reflect"]))
    one, entries = asker(spec), calls(port)
    assert body(spec, entries) == {"1:string": "xx"}
    assert one.enrich(entries) == entries
    settled(one)
    first = one.thread
    assert body(spec, entries) == {"text": "xx"}
    one.enrich(entries)
    assert one.thread is first


def test_nobody_is_asked_unless_it_is_allowed(port: int) -> None:
    entries = calls(port)
    for spec in (ours.SPEC, ours.configure(GrpcOptions(proto=[f"reflect:127.0.0.1:{port}"]))):
        one = asker(spec)
        one.enrich(entries)
        assert one.thread is None
        assert not one.seen
    one = asker(ours.configure(GrpcOptions(proto=["reflect"])))
    for entry in entries:
        entry.flow.reason = "in tls: prefix"
    one.enrich(entries)
    assert not one.seen


def test_a_server_without_reflection_is_told_once(port: int) -> None:
    """There is none at that port; and one whose answer is nonsense, and one that breaks the library."""
    said: list[str] = []
    entries = calls(port)
    one = Asker(OpenPool(), said.append)
    one.enrich(seen(entries, 1))
    settled(one)
    assert [line.partition(": ")[0] for line in said] == ["--proto reflect:127.0.0.1:1"]
    for answer in (lambda _: [b"\xff"], lambda _: 1 / 0):
        one.ask = answer  # type: ignore[assignment]
        one.enrich(seen(entries, len(said) + 1))
        settled(one)
    assert said[1:] == [
        "--proto reflect:127.0.0.1:2: its answer is no descriptor",
        "--proto reflect:127.0.0.1:3: ZeroDivisionError",
    ]


def test_how_many_are_asked_is_bounded(port: int) -> None:
    said: list[str] = []
    asked: list[str] = []

    def ask(address: str) -> list[bytes]:
        asked.append(address)
        raise PluginError("no")

    one = Asker(OpenPool(), said.append, ask)
    entries = calls(port)
    for number in range(limits.REFLECTED_SERVERS + 5):
        one.enrich(seen(entries, number + 1, "::1"))
    settled(one)
    assert len(set(asked)) == len(asked) == limits.REFLECTED_SERVERS
    assert asked[0] == "[::1]:1"
    assert said.count(FULL) == 1


def test_descriptors_are_bounded_in_all(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROTO_SCHEMA", 10)
    said: list[str] = []
    one = Asker(OpenPool(), said.append, lambda _: [b"x" * 11])
    one.enrich(calls(port))
    settled(one)
    assert "MiB of descriptors" in said[0]
