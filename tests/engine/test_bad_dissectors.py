"""Plugins that mean harm, or have no idea: the flow pays, once, and nobody else."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from fakes import TOY, Table, Toy, rows

from kshark import limits
from kshark.api import Kind, Message, ProtocolSpec, Side, Switch, Verdict
from kshark.breaker import ring, silence
from kshark.feeder import Feeder, Found
from kshark.wire import END_FIN

METHODS = ("make", "feed", "gap", "close", "inside")
HEARD = b"BAD a\n"
SHORT = 60_000_000
"""ns that a call may take here: two looks of the watch, so that an endless one ends soon."""


class Bad:
    """Does as a toy does, but for one method, which does something else."""

    def __init__(self, method: str, does: Callable[..., Any]) -> None:
        if method == "make":
            does()
        self.toy = Toy()
        self.method, self.does = method, does

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            return self.does
        if name == "inside":
            raise AttributeError(name)
        return getattr(self.toy, name)


def bad(method: str, does: Callable[..., Any], **facts: Any) -> ProtocolSpec:
    return ProtocolSpec(name="bad", dissector=lambda: Bad(method, does), magic=(b"BAD ",), **facts)


def provoke(t: Table) -> list[tuple[str, str, str]]:
    """One flow in which every method is called; the entries that it gives."""
    guard = t.open()
    t.talk(guard, "> BAD a")
    guard.gap(1, 10, t.ns)
    t.talk(guard, "> GET b")
    guard.chunk(1, b"half", t.ns)
    t.engine.tick(t.ns + limits.UNANSWERED)
    guard.end(END_FIN, t.ns)
    assert t.engine.ledger.check() == []
    assert t.engine.tally.reserved == 0
    return rows(t.engine.take())


def others_go_on(t: Table) -> None:
    assert rows(t.talk(t.open(), "> TOY a\n < OK")) == [("TOY a", "OK", "ok")]


@pytest.fixture
def ctrl_c_is_ours() -> Iterator[None]:
    """As in a run, which has a handler of its own."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    yield
    signal.signal(signal.SIGINT, before)


class Odd(BaseException):
    """Not even an Exception."""


RAISED = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Odd]


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    def does(*_: object) -> Any:
        raise kind("secret")

    return does


@pytest.mark.usefixtures("ctrl_c_is_ours")
@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("method", METHODS)
def test_whatever_it_raises(table: type[Table], method: str, kind: type[BaseException]) -> None:
    t = table(bad(method, raising(kind)), TOY)
    for _ in range(3):
        provoke(t)
    (line,) = t.said
    assert f"bad: {kind.__name__} in the dissector; the flow goes on as unknown" in line
    assert "secret" not in line
    assert t.engine.ledger.errors[f"bad: {kind.__name__} in the plugin"] >= 3
    assert t.engine.broken
    others_go_on(t)


@pytest.mark.usefixtures("ctrl_c_is_ours")
@pytest.mark.parametrize("kind", RAISED)
def test_whatever_a_probe_raises(table: type[Table], kind: type[BaseException]) -> None:
    spec = ProtocolSpec(name="bad", dissector=Toy, probe=raising(kind))
    t = table(spec, TOY)
    for _ in range(3):
        assert provoke(t) == [("FLOW", "", "ok")]
    (line,) = t.said
    assert f"bad: {kind.__name__} in the probe" in line
    others_go_on(t)


@pytest.mark.parametrize("method", METHODS)
def test_a_real_interrupt_of_a_program_that_uses_us_gets_through(
    table: type[Table], method: str
) -> None:
    t = table(bad(method, lambda *_: signal.raise_signal(signal.SIGINT)), TOY)
    with pytest.raises(KeyboardInterrupt):
        provoke(t)


# ---------------------------------------------------------------- endless


def spins(*_: object) -> Any:
    while True:
        pass


def spins_on(*_: object) -> Any:
    """Catches what it can."""
    while True:
        try:
            len("")
        except Exception:
            continue


def gives_for_ever(*_: object) -> Any:
    return itertools.repeat(Message(Kind.ONEWAY, "again"))


@pytest.mark.parametrize("does", [spins, spins_on])
@pytest.mark.parametrize("method", METHODS)
def test_an_endless_loop(table: type[Table], method: str, does: Callable[..., Any]) -> None:
    t = table(bad(method, does), TOY)
    t.engine.states["bad"].patience = SHORT
    watch = t.engine.watch_dissectors()
    ring(watch.on_signal)
    try:
        for _ in range(limits.BREAKER_OFFENCES + 1):
            provoke(t)
    finally:
        silence()
    assert t.engine.states["bad"].tripped == (
        "bad is switched off: a call took over 0.06 s, 3 times"
    )
    first, last = t.said
    assert first.startswith(f"bad: it took over 0.06 s; the flow goes on as unknown: {__file__}:")
    assert last == t.engine.states["bad"].tripped
    others_go_on(t)


def test_an_endless_probe(table: type[Table]) -> None:
    t = table(ProtocolSpec(name="bad", dissector=Toy, probe=spins), TOY)
    t.engine.states["bad"].patience = SHORT
    watch = t.engine.watch_dissectors()
    ring(watch.on_signal)
    try:
        for _ in range(limits.BREAKER_OFFENCES + 1):
            assert provoke(t) == [("FLOW", "", "ok")]
    finally:
        silence()
    assert "switched off" in t.said[-1]
    others_go_on(t)


@pytest.mark.parametrize("method", ["feed", "gap", "close"])
def test_endless_messages(table: type[Table], method: str) -> None:
    t = table(bad(method, gives_for_ever), TOY)
    assert len(provoke(t)) < 10
    assert t.said == [
        f"bad: it gave more than {limits.MESSAGES} messages at once; the flow goes on as unknown"
    ]
    others_go_on(t)


# ---------------------------------------------------------------- rubbish


class Number(int):
    """An integer whose every use runs code."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit

    __lt__ = __le__ = __add__ = __radd__ = __sub__ = __int__ = __bool__ = __index__ = raising(
        SystemExit
    )
    __format__ = raising(SystemExit)


class Text(str):
    __str__ = __format__ = __len__ = raising(SystemExit)


GOOD = Message(Kind.ONEWAY, "GOOD")
RUBBISH = [
    (None, "it gave NoneType, not a list of messages"),
    (5, "it gave int, not a list of messages"),
    ("text", "it gave str, not a list of messages"),
    ({"a": GOOD}, "it gave dict, not a list of messages"),
    ([GOOD, None], "it gave NoneType, not Message, Switch or Inner"),
    ((GOOD, 5), "it gave int, not Message, Switch or Inner"),
    ([Switch(5, b"", b"")], "it gave a Switch that is not of str, bytes and a Message"),  # type: ignore[arg-type]
    ([Switch("", None, "x")], "it gave a Switch that is not of str, bytes and a Message"),  # type: ignore[arg-type]
    *(
        ([Message(**{"kind": Kind.ONEWAY} | fields)], f"it gave a Message {said}")
        for fields, said in (
            ({"kind": 0}, "whose kind is out of range"),
            ({"kind": "x"}, "whose kind is str, not int"),
            ({"verb": b"GET"}, "whose verb is bytes, not str"),
            ({"target": None}, "whose target is NoneType, not str"),
            ({"status": "200"}, "whose status is str, not int"),
            ({"status": 10**30}, "whose status is out of range"),
            ({"ok": []}, "whose ok is list, not bool"),
            ({"key": 1.5}, "whose key is float, not int"),
            ({"key": 1 << 300}, "whose key has more than 256 bits"),
            ({"size": -1}, "whose size is out of range"),
            ({"size": 1 << 64}, "whose size is out of range"),
            ({"head": "GET"}, "whose head is str, not bytes"),
            ({"body": bytearray(3)}, "whose body is bytearray, not bytes"),
            ({"truncated": object()}, "whose truncated is object, not bool"),
            ({"notes": ["a"]}, "whose notes is list, not a tuple of str"),
            ({"notes": (1,)}, "whose note is int, not str"),
            ({"notes": ("a",) * 33}, "with more than 32 notes"),
            ({"notes": ("a" * 201,)}, "with a note of more than 200 characters"),
            ({"gap_bytes": -1}, "whose gap_bytes is out of range"),
            ({"first_ns": -1}, "whose first_ns is out of range"),
            ({"last_ns": 1 << 63}, "whose last_ns is out of range"),
            ({"cut": 1.0}, "whose cut is float, not bool"),
            ({"side": 2}, "whose side is out of range"),
            ({"side": -5}, "whose side is out of range"),
        )
    ),
]


@pytest.mark.parametrize(("found", "said"), RUBBISH, ids=[said for _, said in RUBBISH])
@pytest.mark.parametrize("method", ["feed", "gap", "close"])
def test_rubbish_is_said_in_clear(table: type[Table], method: str, found: Any, said: str) -> None:
    t = table(bad(method, lambda *_: found), TOY)
    provoke(t)
    assert t.said == [f"bad: {said}; the flow goes on as unknown"]
    others_go_on(t)


@pytest.mark.parametrize("method", ["feed", "gap", "close"])
def test_a_field_that_is_not_there(table: type[Table], method: str) -> None:
    def gives(*_: object) -> list[Message]:
        message = Message(Kind.REQUEST, "GET")
        del message.verb
        return [message]

    t = table(bad(method, gives), TOY)
    provoke(t)
    assert "bad: AttributeError in the dissector" in t.said[0]
    others_go_on(t)


def test_fields_of_types_of_their_own_become_plain(table: type[Table]) -> None:
    odd = Message(Number(4), Text("V"), Text("T"), Number(7), key=Number(3), notes=(Text("n"),))
    t = table(bad("feed", lambda *_: [odd]), TOY)
    t.open().chunk(0, HEARD, 5)
    (entry,) = t.engine.take()
    message = entry.request
    assert message is not None
    values = (message.kind, message.verb, message.target, message.status, message.key)
    assert values == (4, "V", "T", 7, 3)
    assert {type(v) for v in (*values, *message.notes)} == {int, str}


def test_enumerations_and_wide_keys_are_fine(table: type[Table]) -> None:
    asked = Message(Kind.REQUEST, "V", key=1 << 127)
    answer = Message(Kind.RESPONSE, status=HTTPStatus.NOT_FOUND, key=1 << 127, side=Side.SERVER)
    t = table(bad("feed", lambda *_: [asked, answer]), TOY)
    t.open().chunk(0, HEARD, 5)
    (entry,) = t.engine.take()
    assert entry.response is not None
    assert type(entry.response.status) is int


def test_long_values_are_cut_and_marked(table: type[Table]) -> None:
    long = Message(4, "v" * 10_000, "t" * 10_000, head=bytes(100_000), body=bytes(100_000))
    t = table(bad("feed", lambda *_: [long]), TOY)
    t.open().chunk(0, HEARD, 5)
    (entry,) = t.engine.take()
    message = entry.request
    assert message is not None
    assert (len(message.verb), len(message.target)) == (limits.TARGET, limits.TARGET)
    assert (len(message.head), len(message.body)) == (limits.BODY_KEPT, limits.BODY_KEPT)
    assert message.truncated
    assert entry.truncated


# ---------------------------------------------------------------- second thoughts


class Meddles:
    """Changes what it has handed over."""

    def __init__(self, how: Callable[[Message], None]) -> None:
        self.how = how
        self.given: list[Message] = []

    def feed(self, side: Side, data: bytes) -> list[Message]:
        for message in self.given:
            self.how(message)
        message = Message(Kind.RESPONSE if side else Kind.REQUEST, "V", body=data, size=len(data))
        self.given = [message]
        return [message]

    def gap(self, side: Side, missing: int) -> list[Message]:
        return []

    def close(self) -> list[Message]:
        for message in self.given:
            self.how(message)
        return self.given


def deletes(message: Message) -> None:
    for name in Message.__struct_fields__:
        delattr(message, name)


def empties(message: Message) -> None:
    for name in Message.__struct_fields__:
        setattr(message, name, None)


@pytest.mark.parametrize("how", [deletes, empties])
def test_what_was_handed_over_is_not_its_own_any_more(
    table: type[Table], how: Callable[[Message], None]
) -> None:
    t = table(ProtocolSpec(name="bad", dissector=lambda: Meddles(how), magic=(b"BAD",)), TOY)
    guard = t.open()
    got = t.talk(guard, "> BAD a\n > b\n < c\n > d\n < e")
    assert rows(got) == [("V", "V", "ok"), ("V", "V", "ok")]
    assert [m.body for e in got for m in (e.request, e.response) if m] == [
        b"BAD a\n", b"c\n", b"b\n", b"e\n"
    ]  # fmt: skip
    guard.end(END_FIN, t.ns)
    assert rows(t.engine.take()) == [("V", "-", "unanswered")]
    assert t.engine.ledger.check() == []
    assert t.engine.tally.reserved == 0


# ---------------------------------------------------------------- how often


class Clinging(Feeder):
    """Keeps what it puts messages into, and has its way with that later."""

    def __init__(self, later: Callable[[Found], None]) -> None:
        self.later = later

    def take(self, side: int, data: bytes, found: Found) -> None:
        self.found = found

    def gap(self, side: Side, missing: int) -> list[Message | Switch]:
        return []

    def close(self) -> list[Message | Switch]:
        self.later(self.found)
        return []


class Fed(Toy, Feeder):
    """A toy that is fed the same way."""

    feed = Feeder.feed  # type: ignore[assignment]

    def take(self, side: int, data: bytes, found: Found) -> None:
        for message in Toy.feed(self, Side(side), data):
            found.append(message)


def one_more(found: Found) -> None:
    found.append(Message(Kind.REQUEST, "FOREIGN", size=1))


def a_hole(found: Found) -> None:
    message = Message(Kind.REQUEST, "FOREIGN", size=1)
    found.append(message)
    del message.head


def ruin(found: Found) -> None:
    found.append(Message(Kind.REQUEST, "FOREIGN", size=1))
    found.count = -1
    found.more = None  # type: ignore[assignment]


@pytest.mark.parametrize("later", [one_more, a_hole, ruin])
def test_what_is_found_too_late_is_in_no_other_flow(
    table: type[Table], later: Callable[[Found], None]
) -> None:
    spec = ProtocolSpec(name="bad", dissector=lambda: Clinging(later), magic=(b"BAD ",))
    t = table(spec, ProtocolSpec(name="toy", dissector=Fed, magic=(b"TOY ",)))
    provoke(t)
    others_go_on(t)


def test_one_that_raises_half_of_the_time_is_switched_off(table: type[Table]) -> None:
    turns = itertools.count()

    def half(*arguments: Any) -> list[Message]:
        if next(turns) % 2:
            raise ValueError
        return [GOOD]

    t = table(bad("feed", half), TOY)
    while not t.engine.states["bad"].tripped:
        provoke(t)
    assert t.engine.states["bad"].flows <= 2 * limits.BREAKER_ERRORS
    assert t.said[-1] == "bad is switched off: 100 unexpected exceptions"
    others_go_on(t)


def test_a_rare_mistake_is_forgiven(table: type[Table]) -> None:
    t = table(bad("feed", raising(ValueError)), TOY)
    t.engine.states["bad"].flows = 1_000_000
    for _ in range(2 * limits.BREAKER_ERRORS):
        provoke(t)
    assert not t.engine.states["bad"].tripped


def test_who_is_switched_off_is_called_no_more(table: type[Table]) -> None:
    calls: list[str] = []

    class Counts(Toy):
        def gap(self, side: Side, missing: int) -> Any:
            calls.append("gap")
            return []

        def close(self) -> Any:
            calls.append("close")
            return []

        def inside(self, side: Side) -> bool:
            calls.append("inside")
            return False

    def probe(data: bytes, side: Side) -> Verdict:
        calls.append("probe")
        return Verdict.NO

    t = table(ProtocolSpec(name="bad", dissector=Counts, magic=(b"BAD ",), probe=probe), TOY)
    t.engine.states["bad"].tripped = ""
    guard, other = t.open(), t.open()
    spec = t.engine.specs["bad"]
    for one in (guard, other):
        one.begin(t.engine.named(spec.name, "told"))
    t.engine.states["bad"].tripped = "bad is switched off: so says the test"
    guard.gap(0, 5, 5)
    for one in (guard, other):
        one.end(END_FIN, 6)
    t.open().chunk(0, b"what is it?", 5)
    assert calls == []
    assert t.engine.ledger.check() == []
