"""TLS: the handshake of a connection is one exchange.

The request is the ClientHello. The response is what the server says in the handshake, or the alert that ended it; it
is given when nothing more can come in clear that changes it: both sides encrypt, or one gave up. Then the flow is
handed over to ``tcp``, which counts its bytes and looks at none of them.

Invariant: of what is encrypted nothing is kept and nothing is said, but that a record which holds two bytes, where
a handshake message is due, is an alert.
Limits: TLS_RECORD, TLS_MESSAGE, TLS_FLIGHT, TLS_NAME, TLS_WARNINGS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kshark import limits
from kshark.api import Kind, Message, NotMine, Side, Switch

from .codes import (
    ALERT,
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_STATUS,
    CHANGE_CIPHER,
    CLIENT_HELLO,
    CLOSE_NOTIFY,
    DATA,
    EARLY_DATA,
    EXTENSIONS,
    FATAL,
    HANDSHAKE,
    HELLO_DONE,
    KEY_EXCHANGE,
    SERVER_HELLO,
    SSL2,
    TLS13,
    USER_CANCELED,
    alert_name,
    version_name,
)
from .ending import Ending
from .hello import Hello, client_hello, server_hello, ssl2_hello
from .records import Foreign, Record, Records
from .ssl2 import SERVER_HELLO2, SHORTEST, is_ssl2, right, size_of

CLIENT, SERVER = Side.CLIENT, Side.SERVER
LONE_ALERT: Final = (11, 19)
"""Bytes of a record of TLS 1.3 that holds an alert: two, a type, and a tag of 8 or 16."""
SHOWN: Final = (
    SERVER_HELLO,
    EXTENSIONS,
    CERTIFICATE,
    KEY_EXCHANGE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_STATUS,
)
"""Messages of a server that details() reads."""


class Half:
    """One side."""

    def __init__(self) -> None:
        self.records = Records()
        self.shake = bytearray()  # handshake messages that are not whole yet
        self.kept = b""  # those that details() reads
        self.counted = 0  # bytes of records that a message has counted
        self.secret = False  # up to TLS 1.2: it encrypts from now on
        self.sealed = 0  # encrypted records
        self.blind = False  # where its handshake messages begin is lost
        self.gap = 0  # bytes lost

    def keep(self, message: bytes) -> bool:
        """One more message; false where that is too much."""
        if len(self.kept) + len(message) > limits.TLS_FLIGHT:
            return False
        self.kept += message
        return True

    def count(self) -> int:
        """Bytes that belong to the message which ends now."""
        size = self.records.consumed - self.counted
        self.counted = self.records.consumed
        return size


class Handshake:
    """A `kshark.api.Dissector` that opens nothing."""

    def __init__(self) -> None:
        self.halves = (Half(), Half())
        self.hello: Hello | None = None  # of the client
        self.server: Hello | None = None
        self.tls13 = False
        self.ending = Ending()
        self.notes: list[str] = []
        self.settled = False  # the response is given
        self.over = False
        self.out: list[Any] = []

    # ------------------------------------------------------------ the contract

    def feed(self, side: Side, data: bytes) -> list[Any]:
        """The next bytes of a side."""
        return self.given(lambda: self.fed(side, data))

    def gap(self, side: Side, missing: int) -> list[Any]:
        """Bytes are lost: of one record, or with the framing."""
        return self.given(lambda: self.missed(side, missing))

    def close(self) -> list[Any]:
        """The flow ends; a handshake that has not ended is cut."""
        return self.given(self.cut)

    def inside(self, side: Side) -> bool:
        """Whether what comes is of known extent: the rest of a record that has a hole."""
        return self.halves[side].records.skip > 0

    def given(self, step: Callable[[], None]) -> list[Any]:
        """What one call finds."""
        self.out = []
        if not self.over:
            step()
        found, self.out = self.out, []
        return found

    # ------------------------------------------------------------ records

    def fed(self, side: int, data: bytes) -> None:
        """Records one by one."""
        records = self.halves[side].records
        try:
            if not (records.begun or records.skip) and is_ssl2(bytes(records.buffer[:1]) or data):
                rest = self.old_hello(side, data)
                if rest is None or self.over:
                    return
                data = rest
            for record in records.feed(data):
                self.record(side, record)
                if self.over:
                    return
        except Foreign:
            self.foreign(side)

    def record(self, side: int, record: Record) -> None:
        """One record, whole or damaged."""
        half, kind = self.halves[side], record.type
        half.gap += record.missing
        if half.secret or kind == DATA:
            self.encrypted(side, record)
        elif kind == HANDSHAKE:
            self.shake(side, record)
        elif self.hello is None and self.server is None:
            self.leave("joined in mid-stream")
        elif kind == CHANGE_CIPHER:
            self.changes(side)
        elif kind == ALERT and len(record.body) == 2:
            self.alert(side, record.body)

    def changes(self, side: int) -> None:
        """From now on this side encrypts; up to TLS 1.2, that is (RFC 8446 section 5)."""
        blind = self.halves[SERVER].blind
        if self.tls13 or (self.server is None and not blind):
            return
        self.halves[side].secret = True
        if side == SERVER:
            self.ending.resumed = not (self.ending.full or blind)
        if self.halves[1 - side].secret:
            self.settle()

    def encrypted(self, side: int, record: Record) -> None:
        """What comes now says by its place and size alone how the handshake went."""
        half = self.halves[side]
        half.sealed += 1
        if self.server is None and not self.halves[SERVER].blind:
            if self.hello is None:
                self.leave("joined in mid-stream")
            return  # else early data
        if half.sealed == 1 and self.lone_alert(side, record):
            self.fail(0, "encrypted_alert", side)
        elif side == CLIENT if self.tls13 else record.type == DATA:
            self.settle()

    def lone_alert(self, side: int, record: Record) -> bool:
        """Whether it can be nothing but an alert in place of a handshake message."""
        early = self.hello is None or self.hello.get(EARLY_DATA) is not None
        return self.tls13 and record.size in LONE_ALERT and not (side == CLIENT and early)

    def alert(self, side: int, body: bytes) -> None:
        """An alert that can be read."""
        level, code = body
        if level == FATAL or code == CLOSE_NOTIFY or (self.tls13 and code != USER_CANCELED):
            self.fail(code, alert_name(code), side)
        elif len(self.notes) < limits.TLS_WARNINGS:
            self.notes.append(f"warning-{alert_name(code)}")

    # ------------------------------------------------------------ handshake messages

    def shake(self, side: int, record: Record) -> None:
        """A record of them."""
        half = self.halves[side]
        if half.blind:
            return
        half.shake += record.body
        if record.missing:
            self.messages(side)
            self.torn(side)
        else:
            self.messages(side)

    def messages(self, side: int) -> None:
        """Those that have come whole."""
        half = self.halves[side]
        at, held = 0, len(half.shake)
        while held - at >= 4 and not self.over:
            size = 4 + int.from_bytes(half.shake[at + 1 : at + 4], "big")
            if size > limits.TLS_MESSAGE:
                self.notes.append("long-message")
                half.blind, at = True, held
                break
            if held - at < size:
                break
            self.message(side, bytes(half.shake[at : at + size]))
            at += size
        del half.shake[:at]

    def message(self, side: int, message: bytes) -> None:
        """One of them."""
        kind = message[0]
        if side == SERVER:
            self.said(kind, message)
        elif self.hello is not None:
            if kind == CERTIFICATE and not self.halves[CLIENT].keep(message):
                self.ending.truncated = True
        elif kind == CLIENT_HELLO:
            self.greet(client_hello(message), message)
        else:
            self.leave("joined in mid-stream")

    def said(self, kind: int, message: bytes) -> None:
        """A message of the server."""
        if kind == SERVER_HELLO:
            self.answer(server_hello(message))
        elif self.server is None and not self.ending.retry:
            if self.hello is None:
                self.leave("joined in mid-stream")
            return  # HelloRequest
        if kind in (CERTIFICATE, KEY_EXCHANGE, HELLO_DONE):
            self.ending.full = True
        if kind in SHOWN and not self.halves[SERVER].keep(message):
            self.ending.truncated = True

    def greet(self, hello: Hello, message: bytes, *, cut: bool = False) -> None:
        """The client begins: that is the request."""
        self.hello = hello
        half = self.halves[CLIENT]
        request = Message(Kind.REQUEST, "hello", self.name(), key=1, side=CLIENT)
        request.head = message[: limits.BODY_KEPT]
        request.cut, request.gap_bytes, half.gap = cut, half.gap, 0
        request.truncated = cut or request.gap_bytes > 0 or len(message) > limits.BODY_KEPT
        if hello.problem and not request.truncated:
            request.notes = ("malformed-hello",)
        request.size = half.count()
        self.out.append(request)

    def answer(self, server: Hello) -> None:
        """A ServerHello, or a HelloRetryRequest."""
        self.tls13 = server.chosen >= TLS13
        if server.retry:
            self.ending.retry = True
        else:
            self.server = server

    def torn(self, side: int) -> None:
        """A hole in the handshake messages of a side: where the next begins is not known."""
        half = self.halves[side]
        half.blind = True
        part = bytes(half.shake)
        half.shake.clear()
        if side == SERVER:
            self.ending.truncated = True
            half.keep(part)
        elif self.hello is None:
            self.greet(client_hello(part), part)

    def name(self) -> str:
        """The server's, as the client says it."""
        return self.hello.server_name[: limits.TLS_NAME] if self.hello is not None else ""

    # ------------------------------------------------------------ the end

    def settle(self, *, cut: bool = False) -> None:
        """The response: nothing more in clear will change it."""
        if self.settled:
            return
        self.settled = True
        half, end = self.halves[SERVER], self.ending
        end.tls13, end.established = self.tls13, not (end.alert or cut)
        verb = version_name(self.server.chosen) if self.server is not None else ""
        verb = version_name(SSL2) if end.ssl2 else verb
        response = Message(Kind.RESPONSE, verb, end.alert, end.code, not end.alert, key=1)
        response.head, response.body, response.extra = half.kept, self.halves[CLIENT].kept, end
        response.side, response.cut, response.gap_bytes = SERVER, cut, half.gap
        response.truncated = cut or end.truncated or half.gap > 0
        response.notes = tuple(self.notes)
        response.size = half.count()
        half.kept = self.halves[CLIENT].kept = b""
        self.out.append(response)
        if end.established:
            self.established()
        else:
            self.leave("a handshake that failed" if end.alert else "a handshake with losses")

    def established(self) -> None:
        """What follows is encrypted."""
        self.leave("encrypted")

    def fail(self, code: int, text: str, side: int) -> None:
        """Somebody gives up."""
        if not self.settled:
            self.ending.code, self.ending.alert, self.ending.side = code, text, side
            self.settle()

    def foreign(self, side: int) -> None:
        """What comes is not TLS: the other end speaks in clear, or this has been taken for what it is not."""
        if self.hello is None and self.server is None:
            raise NotMine("not TLS")
        self.fail(0, "not_tls", side)
        self.leave("not TLS")

    def cut(self) -> None:
        """The end of the handshake is not seen."""
        client, server = self.halves
        if self.hello is None and client.shake[:1] == bytes([CLIENT_HELLO]):
            part = bytes(client.shake)
            self.greet(client_hello(part), part, cut=True)
        if not self.settled and (self.server is not None or server.gap or server.shake):
            if server.shake:
                self.torn(SERVER)
            self.settle(cut=True)

    def missed(self, side: int, missing: int) -> None:
        """A hole: within a record, or somewhere."""
        half = self.halves[side]
        if not half.records.gap(missing):
            self.lost(side, missing)
        elif (record := half.records.over()) is not None:
            self.record(side, record)

    def lost(self, side: int, missing: int) -> None:
        """Where the next record of a side begins is lost."""
        self.halves[side].gap += missing
        self.cut()
        if self.hello is not None:
            self.settle(cut=True)
        self.leave("a handshake with losses")

    def leave(self, reason: str) -> None:
        """Nothing more is read of this flow."""
        if not self.over:
            self.over = True
            self.out.append(Switch(context=self.name(), opaque=reason))

    # ------------------------------------------------------------ SSLv2

    def old_hello(self, side: int, data: bytes) -> bytes | None:
        """A hello as SSLv2 frames it; gives the bytes after it, None while it is not whole."""
        half = self.halves[side]
        records = half.records
        held = bytes(records.buffer) + data
        if len(held) >= SHORTEST and not right(held, Side(side)):
            raise Foreign
        if len(held) < SHORTEST or len(held) < size_of(held):
            records.buffer[:] = held
            return None
        size = size_of(held)
        message, rest = held[:size], held[size:]
        records.buffer.clear()
        records.consumed += size
        records.begun = True
        if side == CLIENT:
            self.greet(ssl2_hello(message[2:]), message)
        elif message[2] == SERVER_HELLO2:
            self.ending.ssl2 = True
            half.keep(message)
            self.settle()
        return rest
