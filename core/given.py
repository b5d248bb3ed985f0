"""What a plugin's dissector gave, looked at before the engine trusts it.

A message is taken over as a copy of plain values: its dissector may keep the one that it gave, change it and
delete its fields, and the compiled modules read fields as memory. What cannot be a message raises `Rubbish`,
whose text may be shown: it names types and fields, never what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec.structs import astuple

from kshark import limits
from kshark.api import (
    DissectError,
    Endpoint,
    Entry,
    Flow,
    Inner,
    Item,
    Kind,
    Message,
    Outcome,
    Side,
    Switch,
)

MESSAGES = limits.MESSAGES
TEXT = limits.TARGET
BODY = limits.BODY_KEPT
NOTES = limits.MESSAGE_NOTES
NOTE = limits.NOTE
KEY = limits.KEY_BITS
LARGEST = (1 << 63) - 1
# Of the types themselves, whatever a subclass makes of them; by these names, lest a compiler takes the operator.
PLUS, AS_TEXT, SLICE = int.__add__, str.__str__, bytes.__getitem__
LENGTH, WALK = tuple.__len__, tuple.__iter__
ARGS = vars(BaseException)["args"].__get__


class Rubbish(TypeError):
    """A plugin gave what its contract does not allow."""


def gather(found: Iterable[Item]) -> tuple[list[Item], DissectError | None]:
    """What a call into a dissector gives, as a list; what it gives before an error counts."""
    if type(found) is list and len(found) <= MESSAGES:
        return found, None
    given: list[Item] = []
    try:
        for message in islice(listed(found), MESSAGES + 1):
            given.append(message)  # noqa: PERF402 - an error must not take them along
    except DissectError as error:
        return given, error
    if len(given) > MESSAGES:
        raise Rubbish(f"it gave more than {MESSAGES} messages at once")
    return given, None


def listed(found: object) -> Iterator[Any]:
    """An iterator over it, where it may be a list of messages."""
    try:
        if not isinstance(found, str | bytes | dict):
            return iter(found)  # type: ignore[call-overload,no-any-return]
    except TypeError:
        pass
    raise Rubbish(f"it gave {type(found).__name__}, not a list of messages")


def checked(message: Message) -> Message:
    """A copy of a stranger's message; `Rubbish` where a field cannot be what it says."""
    values = astuple(message)  # AttributeError where a field was deleted
    (
        kind,
        verb,
        target,
        status,
        ok,
        key,
        size,
        head,
        body,
        truncated,
        notes,
        gap,
        first,
        last,
        _,
        cut,
        side,
        protocol,
    ) = values
    if (
        (type(kind) is Kind or type(kind) is int)
        and type(verb) is str
        and type(target) is str
        and type(status) is int
        and type(ok) is bool
        and type(key) is int
        and type(size) is int
        and type(head) is bytes
        and type(body) is bytes
        and type(truncated) is bool
        and type(notes) is tuple
        and type(gap) is int
        and type(first) is int
        and type(last) is int
        and type(cut) is bool
        and (type(side) is int or type(side) is Side)
        and type(protocol) is str
        and not notes
        and 1 <= kind <= 4
        and -LARGEST <= status <= LARGEST
        and -LARGEST <= key <= LARGEST
        and 0 <= size <= LARGEST
        and 0 <= gap <= LARGEST
        and 0 <= first <= LARGEST
        and 0 <= last <= LARGEST
        and -1 <= side <= 1
        and len(verb) <= TEXT
        and len(target) <= TEXT
        and len(head) <= BODY
        and len(body) <= BODY
    ):
        return Message(*values)
    return mended(message)


def mended(message: Message) -> Message:
    """The same without haste: plain values of those that have a type of their own, long ones cut."""
    made = Message(
        number(message.kind, "kind", 1, 4),
        text(message.verb, "verb"),
        text(message.target, "target"),
        number(message.status, "status"),
        truth(message.ok, "ok"),
        wide(message.key),
        number(message.size, "size", 0),
        octets(message.head, "head"),
        octets(message.body, "body"),
        truth(message.truncated, "truncated"),
        notes_of(message.notes),
        number(message.gap_bytes, "gap_bytes", 0),
        number(message.first_ns, "first_ns", 0),
        number(message.last_ns, "last_ns", 0),
        message.extra,
        truth(message.cut, "cut"),
        number(message.side, "side", -1, 1),
        text(message.protocol, "protocol"),
    )
    if max(len(made.verb), len(made.target)) > TEXT or max(len(made.head), len(made.body)) > BODY:
        made.verb, made.target = made.verb[:TEXT], made.target[:TEXT]
        made.head, made.body = made.head[:BODY], made.body[:BODY]
        made.truncated = True
    return made


def sound(entry: Entry) -> bool:
    """Whether an entry that an enricher has had in its hands is still what sinks rely on."""
    try:
        flow, seq, protocol, asked, answered, outcome, gap = astuple(entry)[:7]
        return (
            type(flow) is Flow
            and type(seq) is int
            and isinstance(protocol, str)
            and type(outcome) is Outcome
            and isinstance(gap, int)
            and (asked is not None or answered is not None)
            and (asked is None or whole(asked))
            and (answered is None or whole(answered))
            and isinstance(flow.id, str)
            and isinstance(flow.transport, str)
            and isinstance(flow.backend, str)
            and known(flow.client)
            and known(flow.server)
            and (entry.extra is None or type(entry.extra) is dict)
        )
    except AttributeError:  # a field was deleted
        return False


def whole(message: object) -> bool:
    """The same of one half."""
    if type(message) is not Message:
        return False
    (_, verb, target, status, _, _, size, head, body, _, notes, gap, first, last, _, _, _, _) = (
        astuple(message)
    )
    return (
        isinstance(verb, str)
        and isinstance(target, str)
        and isinstance(status, int)
        and isinstance(size, int)
        and isinstance(head, bytes)
        and isinstance(body, bytes)
        and isinstance(gap, int)
        and isinstance(first, int)
        and isinstance(last, int)
        and type(notes) is tuple
        and (not notes or texts(notes))
    )


def texts(notes: tuple[object, ...]) -> bool:
    return all(isinstance(note, str) for note in notes)


def known(end: object) -> bool:
    """The same of one end of the flow."""
    if type(end) is not Endpoint:
        return False
    ip, port, name, pid, comm, dns, tid, cgroup, netns = astuple(end)
    return (
        isinstance(ip, str)
        and isinstance(port, int)
        and (name is None or isinstance(name, str))
        and (pid is None or isinstance(pid, int))
        and (comm is None or isinstance(comm, str))
        and (dns is None or isinstance(dns, str))
        and (tid is None or isinstance(tid, int))
        and (cgroup is None or isinstance(cgroup, str))
        and (netns is None or isinstance(netns, int))
    )


def handed(item: object) -> Switch | Inner:
    """What is no message; `Rubbish` where it is none of what else may be given."""
    if type(item) is Switch:
        protocol, client, server, _, opaque, request = astuple(item)
        if not (
            type(protocol) is type(opaque) is str
            and type(client) is type(server) is bytes
            and (request is None or type(request) is Message)
        ):
            raise Rubbish("it gave a Switch that is not of str, bytes and a Message")
        return item
    if type(item) is Inner:
        side, data, size, missing, protocol, hint, name = astuple(item)
        if not (
            (type(side) is int or type(side) is Side)
            and type(data) is bytes
            and type(size) is type(missing) is int
            and type(protocol) is type(hint) is type(name) is str
            and 0 <= side <= 1
            and 0 <= size <= LARGEST
            and 0 <= missing <= LARGEST
        ):
            raise Rubbish("it gave an Inner that is not of a side, bytes, sizes and names")
        return item
    raise Rubbish(f"it gave {type(item).__name__}, not Message, Switch or Inner")


def said(error: BaseException) -> str:
    """The text of a plugin's error, without running any code of its own."""
    args = ARGS(error)
    return args[0] if len(args) == 1 and type(args[0]) is str else type(error).__name__


# ---------------------------------------------------------------- one field


def wrong(name: str, value: object, expected: str) -> Rubbish:
    return Rubbish(f"it gave a Message whose {name} is {type(value).__name__}, not {expected}")


def number(value: object, name: str, least: int = -LARGEST, most: int = LARGEST) -> int:
    """An integer as an `int`, also where it is one of an enumeration."""
    if not isinstance(value, int):
        raise wrong(name, value, "int")
    plain = PLUS(value, 0)
    if not least <= plain <= most:
        raise Rubbish(f"it gave a Message whose {name} is out of range")
    return plain


def wide(value: object) -> int:
    """A pairing key: it may be an identifier of 128 bits."""
    if not isinstance(value, int):
        raise wrong("key", value, "int")
    plain = PLUS(value, 0)
    if plain.bit_length() > KEY:
        raise Rubbish(f"it gave a Message whose key has more than {KEY} bits")
    return plain


def text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, "str")
    return AS_TEXT(value)


def octets(value: object, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise wrong(name, value, "bytes")
    return SLICE(value, slice(None))


def truth(value: object, name: str) -> bool:
    """A yes or no. Of other types it is not asked: that may run code."""
    if value is None or type(value) in (bool, int, str, bytes):
        return bool(value)
    raise wrong(name, value, "bool")


def notes_of(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise wrong("notes", value, "a tuple of str")
    if LENGTH(value) > NOTES:
        raise Rubbish(f"it gave a Message with more than {NOTES} notes")
    notes = tuple(text(note, "note") for note in WALK(value))
    if any(len(note) > NOTE for note in notes):
        raise Rubbish(f"it gave a Message with a note of more than {NOTE} characters")
    return notes


def within(dissector: Any, side: Side) -> bool:
    """Whether a dissector says that it is within a message."""
    ask = getattr(dissector, "inside", None)
    return ask is not None and bool(ask(side))


def begun(dissector: Any, side: Side, key: int) -> bool:
    """Whether a dissector says that the answer of that key is under way."""
    ask = getattr(dissector, "answering", None)
    return ask is not None and bool(ask(side, key))
