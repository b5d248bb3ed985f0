"""What wsproto and websockets write is what is read, and what they refuse is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_kit import C, S, dissector
from websockets import frames as theirs
from websockets.exceptions import WebSocketException
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from kshark import api
from kshark.api import DissectError, Side
from kshark.protocols.websocket.details import details
from kshark.protocols.websocket.frames import Frame, fault

Said = tuple[str, bytes]

TEXTS = st.text(max_size=200).map(lambda said: said * 3)
EVENTS = st.one_of(
    TEXTS.map(lambda said: TextMessage(said)),
    st.binary(max_size=300).map(lambda data: BytesMessage(data)),
    st.binary(max_size=125).map(lambda data: Ping(data)),
    st.binary(max_size=125).map(lambda data: Pong(data)),
)
CUTS = st.integers(1, 400)


def extension(bits: int, alone: bool) -> PerMessageDeflate:
    made = PerMessageDeflate(
        client_no_context_takeover=alone, server_no_context_takeover=alone,
        client_max_window_bits=bits, server_max_window_bits=bits,
    )  # fmt: skip
    made._enabled = True
    return made


def offered(bits: int, alone: bool) -> str:
    words = [
        "permessage-deflate",
        f"client_max_window_bits={bits}",
        f"server_max_window_bits={bits}",
    ]
    if alone:
        words += ["client_no_context_takeover", "server_no_context_takeover"]
    return "; ".join(words)


def said(event: object) -> Said:
    """What an event says, as (verb, content)."""
    if isinstance(event, TextMessage):
        return "text", event.data.encode()
    if isinstance(event, BytesMessage):
        return "binary", bytes(event.data)
    assert isinstance(event, Ping | Pong)
    return ("ping" if isinstance(event, Ping) else "pong"), bytes(event.payload)


def heard(message: api.Message) -> Said:
    shown = details(message)
    assert shown.notes == []
    data = shown.body.encode()
    if shown.body_encoding:
        data = base64.b64decode(data)
    return message.verb, data


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from(list(Side)),
    events=st.lists(st.tuples(EVENTS, st.booleans()), min_size=1, max_size=12),
    deflate=st.none() | st.tuples(st.integers(9, 15), st.booleans()),
    cut=CUTS,
)
def test_wsproto(
    side: Side,
    events: list[tuple[Any, bool]],
    deflate: tuple[int, bool] | None,
    cut: int,
) -> None:
    """Whole or in two fragments (with a ping between them), compressed or not, in any pieces."""
    kind = ConnectionType.CLIENT if side == C else ConnectionType.SERVER
    sender = Connection(kind, [extension(*deflate)] if deflate else [])
    stream, wanted = b"", []
    for event, halves in events:
        if halves and isinstance(event, TextMessage | BytesMessage):
            middle = len(event.data) // 2
            kind_of: Any = type(event)
            stream += sender.send(kind_of(event.data[:middle], message_finished=False))
            stream += sender.send(Ping(b"between"))
            stream += sender.send(kind_of(event.data[middle:]))
            wanted.append(("ping", b"between"))
        else:
            stream += sender.send(event)
        wanted.append(said(event))
    stream += sender.send(CloseConnection(1000, "done"))
    made = dissector(offered(*deflate) if deflate else "")
    found = [
        message
        for at in range(0, len(stream), cut)
        for message in made.feed(side, stream[at : at + cut])
        if isinstance(message, api.Message)
    ]
    assert [heard(message) for message in found[:-1]] == wanted
    shown = details(found[-1])
    assert (shown.close_code, shown.close_reason) == (1000, "done")
    assert sum(message.size for message in found) == len(stream)


@pytest.mark.parametrize("side", list(Side))
def test_every_beginning_of_a_frame(side: Side) -> None:
    """All 65,536: refused where websockets refuses them."""
    wrong = []
    for first in range(256):
        for second in range(256):
            length = {126: (126).to_bytes(2), 127: (65_536).to_bytes(8)}.get(second & 127, b"")
            data = bytes([first, second]) + length
            refused = bool(fault(first, second, side == C, 0))
            if refused != refuses(data, side == C) and not differs(first, second):
                wrong.append((first, second))
    assert wrong == []


def differs(first: int, second: int) -> bool:
    """A close frame of one byte: websockets refuses it when it parses the payload."""
    return (first & 15, second & 127) == (8, 1)


def refuses(data: bytes, client: bool) -> bool:
    def read_exact(size: int):  # type: ignore[no-untyped-def] # a generator that never waits
        nonlocal data
        part, data = data[:size].ljust(size, b"\0"), data[size:]
        yield from ()
        return part

    parsing = theirs.Frame.parse(read_exact, mask=client)
    try:
        while True:
            next(parsing)
    except StopIteration as done:
        try:
            done.value.check()
        except WebSocketException:
            return True
        return False
    except WebSocketException:
        return True


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([C, S]), st.binary(max_size=400), st.booleans())
def test_garbage(side: Side, data: bytes, known: bool) -> None:
    """Whatever comes, sizes never exceed it, and `DissectError` is the only complaint."""
    made = dissector("permessage-deflate" if known else "")
    total = 0
    for at in range(0, len(data), 50):
        try:
            for message in made.feed(side, data[at : at + 50]):
                assert isinstance(message, api.Message)
                total += message.size
                details(message)
        except DissectError:
            made.gap(side, 0)
    assert total <= len(data)


def test_the_frame_that_is_not_whole() -> None:
    frame = Frame()
    data = b"\x81\xfe\x01\x00abcd"
    assert [frame.read(data[:size], 0, True, 0) for size in range(9)] == [0] * 8 + [8]
