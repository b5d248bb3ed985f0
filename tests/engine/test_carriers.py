"""Protocols within protocols: flows within a flow, layers over exchanges, and what a hand-over tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from fakes import TOY, Table, rows
from msgspec.structs import replace

from kshark import limits
from kshark.api import (
    DissectError,
    Entry,
    Inner,
    Item,
    Kind,
    Layer,
    Layers,
    Message,
    ProtocolSpec,
    Side,
    Switch,
)

SHIFT = bytes((n + 1) % 256 for n in range(256))
BACK = bytes((n - 1) % 256 for n in range(256))


class Wrapped:
    """Every byte is one more than in the flow within, after a line that is in clear."""

    protocol = hint = ""

    def __init__(self) -> None:
        self.said = [False, False]

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        if not self.said[side]:
            self.said[side] = True
            return [Message(int(Kind.RESPONSE if side else Kind.REQUEST), "hello", size=len(data))]
        return [Inner(side, data.translate(BACK), protocol=self.protocol, hint=self.hint)]

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        return [Inner(side, b"", missing=missing)]

    def close(self) -> Iterable[Item]:
        return [Inner(Side.CLIENT, b"GET at the end\n")] if all(self.said) else []


WRAPPED = ProtocolSpec(name="wrapped", dissector=Wrapped, magic=(b"WRAP",))


def say(table: Table, guard: Any, script: str) -> None:
    """Lines "> text" and "< text", wrapped."""
    for line in filter(None, map(str.strip, script.splitlines())):
        table.ns += 1_000
        data = (line[2:].encode() + b"\n").translate(SHIFT)
        guard.chunk(int(line[0] == "<"), data, table.ns)


def test_a_flow_within_is_a_flow(table: type[Table]) -> None:
    t = table(WRAPPED, TOY)
    guard = t.open()
    entries = t.talk(guard, "> WRAP\n< WRAP")
    say(t, guard, "> TOY 1\n< OK 1\n> GET 2\n< ERR 2")
    guard.end(1, t.ns)
    entries += t.engine.take()
    assert [(e.protocol, e.flow.protocol) for e in entries] == [
        ("wrapped", "wrapped"),
        *[("toy", "toy")] * 3,
    ]
    assert rows(entries)[1:] == [
        ("TOY 1", "OK 1", "ok"),
        ("GET 2", "ERR 2", "error"),
        ("GET at the end", "-", "unanswered"),
    ]
    assert entries[1].flow.reason == "in wrapped: prefix b'TOY 1\\n'"
    assert entries[1].latency_ns == 1_000
    assert entries[1].src == entries[0].src
    assert entries[1].flow.began_ns == entries[0].flow.began_ns > 0
    assert len({entry.id for entry in entries}) == len(entries)
    assert not t.engine.ledger.check()
    assert not t.engine.guards
    assert t.engine.tally.reserved == t.engine.tally.dissectors == 0


def test_a_flow_within_by_its_name(table: type[Table]) -> None:
    named = replace(WRAPPED, dissector=type("Named", (Wrapped,), {"protocol": "toy"}))
    t = table(named, replace(TOY, magic=(b"never",)))
    guard = t.open()
    t.talk(guard, "> WRAP\n< WRAP")
    say(t, guard, "> GET 1\n< OK 1")
    (entry,) = t.engine.take()
    assert (entry.protocol, entry.flow.reason) == ("toy", "in wrapped: it says so")


def test_a_hole_in_a_flow_within(table: type[Table]) -> None:
    t = table(WRAPPED, TOY)
    guard = t.open()
    t.talk(guard, "> WRAP\n< WRAP")
    say(t, guard, "> TOY 1\n< OK 1\n> GET 2")
    guard.gap(1, 5, t.ns)
    say(t, guard, "< OK 9")
    guard.end(1, t.ns)
    assert ("GET 2", "OK 9", "ok") not in rows(t.engine.take())


def test_flows_within_flows_are_bounded(table: type[Table]) -> None:
    class Onion(Wrapped):
        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            return [Inner(side, b"WRAP" + data)]

    t = table(replace(WRAPPED, dissector=Onion), TOY)
    guard = t.open()
    t.talk(guard, "> WRAP")
    assert t.engine.ledger.limits["inners"] == 1
    assert len(t.engine.guards) == 1 + limits.INNERS
    guard.end(1, t.ns)
    assert not t.engine.guards


def test_giving_up_ends_what_is_within(table: type[Table]) -> None:
    t = table(WRAPPED, TOY)
    guard = t.open()
    t.talk(guard, "> WRAP\n< WRAP")
    say(t, guard, "> TOY 1")
    guard.give_up("enough")
    assert rows(t.engine.take())[-1] == ("TOY 1", "-", "cut")
    assert len(t.engine.guards) == 1


def test_the_servers_name_is_that_of_the_flow_within(table: type[Table]) -> None:
    class Named(Wrapped):
        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            for one in super().feed(side, data):
                yield replace(one, name="a.example") if isinstance(one, Inner) else one

    t = table(replace(WRAPPED, dissector=Named), TOY)
    guard = t.open()
    t.talk(guard, "> WRAP\n< WRAP")
    say(t, guard, "> TOY 1\n< OK")
    (entry,) = t.engine.take()
    assert (entry.protocol, entry.src.name, entry.dst.name) == ("toy", None, "a.example")


@pytest.mark.parametrize("item", [Inner(5, b""), Inner(0, "x"), Inner(0, b"", -1)])  # type: ignore[arg-type]
def test_rubbish_within(table: type[Table], item: Inner) -> None:
    bad = type("Bad", (Wrapped,), {"feed": lambda *_: [item]})
    t = table(replace(WRAPPED, dissector=bad))
    t.talk(t.open(), "> WRAP")
    assert "it gave an Inner that is not" in t.said[0]


# ---------------------------------------------------------------- hand-overs


def test_a_switch_tells_the_next_dissector(table: type[Table]) -> None:
    class Before(Wrapped):
        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            return [Switch("after", data, context={"path": "/chat"})]

    class After(Wrapped):
        def switched(self, switch: Switch) -> None:
            self.path = switch.context["path"]

        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            return [Message(int(Kind.ONEWAY), "text", self.path, size=len(data))]

    after = ProtocolSpec(name="after", dissector=After, over=("wrapped",))
    t = table(replace(WRAPPED, dissector=Before), after)
    assert rows(t.talk(t.open(), "> WRAP")) == [("text /chat", "-", "ok")]


def test_a_carrier_whose_entries_are_not_wanted_is_no_unknown_flow(table: type[Table]) -> None:
    """Asked for what is within alone: there is no entry of the flow around it, of whatever name."""
    t = table(replace(WRAPPED, secrets=lambda log: None), TOY, only=frozenset({"toy"}))
    guard = t.open()
    assert t.talk(guard, "> WRAP\n< WRAP") == []
    say(t, guard, "> TOY 1\n< OK")
    guard.end(1, t.ns)
    assert {one.protocol for one in t.engine.take()} == {"toy"}


class Asks(Wrapped):
    """A request; the answer says that another protocol gives it."""

    def __init__(self) -> None:
        self.asked: Message | None = None

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        if side == Side.CLIENT:
            self.asked = Message(int(Kind.REQUEST), "ask", data.decode(), size=len(data))
            return [self.asked]
        return [Switch("after", server=data, request=self.asked)]


class Answers(Wrapped):
    """Answers, by key 7, what was asked in the protocol before."""

    def switched(self, switch: Switch) -> object:
        asked = switch.request
        assert asked is not None
        assert asked.last_ns > 0
        return replace(asked, verb="asked", key=7)

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        return [Message(int(Kind.RESPONSE), size=len(data), key=7)]


def switching(table: type[Table], after: type | None) -> tuple[Table, list[Entry]]:
    specs = [replace(WRAPPED, dissector=Asks)]
    if after is not None:
        specs.append(ProtocolSpec(name="after", dissector=after))
    t = table(*specs)
    return t, t.talk(t.open(), "> WRAP\n> two\n< yes")


def test_a_request_is_answered_in_the_next_protocol(table: type[Table]) -> None:
    """The last one that waits; those before it are not answered any more."""
    t, (first, second) = switching(table, Answers)
    assert rows([first, second]) == [("ask WRAP", "-", "unanswered"), ("asked two", "", "ok")]
    assert (first.protocol, second.protocol, second.latency_ns) == ("wrapped", "after", 1_000)
    assert t.engine.ledger.check() == []
    assert t.engine.tally.requests == 2


class Silent(Wrapped):
    """Does not know what is passed on."""


class Wrong(Answers):
    def switched(self, switch: Switch) -> object:
        return "rubbish"


class Breaks(Answers):
    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        raise DissectError("not mine")


@pytest.mark.parametrize("after", [None, Silent, Wrong, Breaks])
def test_a_request_that_nobody_answers_is_cut(table: type[Table], after: type | None) -> None:
    t, entries = switching(table, after)
    found = [(e.protocol, *rows([e])[0]) for e in entries if e.request is not None]
    name = ("after", "asked two") if after is Breaks else ("wrapped", "ask two")
    assert found == [("wrapped", "ask WRAP", "-", "unanswered"), (*name, "-", "cut")]
    assert t.engine.tally.requests == 2


def test_nobody_can_read_what_follows(table: type[Table]) -> None:
    class Ends(Wrapped):
        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            return (
                [*super().feed(side, data), Switch(opaque="no keys", context="a.example")]
                if side
                else super().feed(side, data)
            )

    t = table(replace(WRAPPED, dissector=Ends))
    guard = t.open()
    t.talk(guard, "> WRAP")
    assert guard.chunk(1, b"WRAP\n", t.ns)  # no more bytes, please
    guard.end(1, t.ns)
    first, flow = t.engine.take()
    assert rows([first]) == [("hello", "hello", "ok")]
    assert (flow.protocol, flow.flow.reason) == ("tcp", "no keys")
    assert flow.request is not None
    assert flow.request.target == "a.example"


# ---------------------------------------------------------------- layers


class Posts:
    """``verb type text\\n``: each line is an exchange; its content goes to its layer."""

    def __init__(self) -> None:
        self.layers: Layers = lambda *_: None
        self.layer: Layer | None = None

    def carry(self, layers: Layers) -> None:
        self.layers = layers

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        verb, kind, text = (*data.decode().strip().split(" "), "", "")[:3]
        made = Message(int(Kind.RESPONSE if side else Kind.REQUEST), verb, size=len(data))
        if side == Side.CLIENT:
            self.layer = self.layers(kind, made)
        if self.layer is None:
            return [made]
        return [*self.layer.feed(side, text.encode()), *self.layer.end(side, made)]

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        return ()

    def close(self) -> Iterable[Item]:
        return ()


class Rpc:
    """What is in the posts."""

    def feed(self, side: Side, data: bytes) -> Iterable[Message]:
        if data == b"boom":
            raise DissectError("boom")
        if data == b"crash":
            raise ZeroDivisionError
        if data == b"rubbish":
            return [5]  # type: ignore[list-item]
        if data == b"foreign":
            return [Message(int(Kind.ONEWAY), protocol="elsewhere")]
        return [Message(int(Kind.ONEWAY), data.decode(), protocol="rpc")] if data else ()

    def gap(self, side: Side, missing: int) -> Iterable[Message]:
        return ()

    def end(self, side: Side, message: Message) -> Iterable[Message]:
        message.protocol = "rpc"
        message.target = "call"
        return [message]


POSTS = ProtocolSpec(name="posts", dissector=Posts, magic=(b"POST",))
RPC = ProtocolSpec(
    name="rpc", over=("posts",), types=("application/rpc",), layer=lambda request: Rpc()
)


def seen(table: Table) -> list[tuple[str, str, str]]:
    found = table.engine.take()
    return [(entry.protocol, *rows([entry])[0][:2]) for entry in found]


def test_a_layer_makes_the_exchange_its_own(table: type[Table]) -> None:
    t = table(POSTS, RPC)
    guard = t.open()
    guard.chunk(0, b"POST application/rpc+x one\n", 1)
    guard.chunk(1, b"200 - two\n", 2)
    guard.chunk(0, b"POST text/plain three\n", 3)
    guard.chunk(1, b"200 - four\n", 4)
    assert seen(t) == [
        ("rpc", "one", "-"),
        ("rpc", "two", "-"),
        ("rpc", "POST call", "200 call"),
        ("posts", "POST", "200"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boom", []),
        ("crash", ["rpc: the layer failed"]),
        ("rubbish", ["rpc: its layer gave what is no Message"]),
        ("foreign", ["rpc: its layer gave a Message of another protocol"]),
    ],
)
def test_a_layer_that_fails_costs_itself(table: type[Table], text: str, said: list[str]) -> None:
    t = table(POSTS, RPC)
    guard = t.open()
    guard.chunk(0, b"POST application/rpc %s\n" % text.encode(), 1)
    guard.chunk(1, b"200 - two\n", 2)
    assert seen(t) == [("posts", "POST", "200")]
    assert len(t.said) == len(said)
    assert t.engine.ledger.errors


def test_only_the_layer_is_wanted(table: type[Table]) -> None:
    t = table(POSTS, RPC, only=frozenset({"rpc"}))
    guard = t.open()
    guard.chunk(0, b"POST text/plain one\n", 1)
    guard.chunk(1, b"200 - two\n", 2)
    guard.chunk(0, b"POST application/rpc \n", 3)
    guard.chunk(1, b"200 - \n", 4)
    assert seen(t) == [("rpc", "POST call", "200 call")]
    assert not t.engine.ledger.check()


def test_only_the_carrier_is_wanted(table: type[Table]) -> None:
    t = table(POSTS, RPC, only=frozenset({"posts"}))
    guard = t.open()
    guard.chunk(0, b"POST application/rpc \n", 3)
    guard.chunk(1, b"200 - \n", 4)
    assert seen(t) == [("posts", "POST", "200")]


def test_a_message_of_a_protocol_that_is_not_there(table: type[Table]) -> None:
    class Odd(Wrapped):
        def feed(self, side: Side, data: bytes) -> Iterable[Item]:
            return [Message(int(Kind.ONEWAY), protocol="nobody")]

    t = table(replace(WRAPPED, dissector=Odd))
    t.talk(t.open(), "> WRAP")
    assert "it gave a Message of a protocol that is not there" in t.said[0]
