"""TLS with decryption: what follows the handshake, where the secrets of the connection are known.

Content goes on as `Inner`, with the protocol that was negotiated (ALPN) as a hint. Of a connection whose secrets are
not there (yet) the records wait; then, and after a loss from which no record opens any more, the flow is opaque.
Limits: TLS_HUNT, and those of `kshark.protocols.tls.session`.
"""

from __future__ import annotations

from typing import Any

from kshark import limits
from kshark.api import Inner, Kind, Message, Side

from .cipher import available
from .codes import (
    ALERT,
    ALPN_PROTOCOLS,
    CLOSE_NOTIFY,
    DATA,
    EARLY_DATA,
    EXTENSIONS,
    FINISHED,
    HANDSHAKE,
)
from .ending import Ending
from .handshake import CLIENT, SERVER, Handshake
from .hello import Hello, encrypted_extensions
from .keylog import Secrets
from .records import HEAD, Record
from .session import LOST, Lost, Plain, Session

EARLY_NOTE = "early-data"


class TlsDissector(Handshake):
    """A `kshark.api.Dissector`; `secrets`: where those of decryption are found."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        super().__init__()
        self.secrets = secrets
        self.session: Session | None = None
        self.alpn = ""
        self.finished = [False, False]
        self.hunting = [False, False]
        self.tries = 0
        self.gone = [0, 0]  # bytes since the last record before a loss

    def inside(self, side: Side) -> bool:
        """Also all that follows the handshake."""
        return (self.session is not None and self.settled) or super().inside(side)

    def slim(self) -> int:
        """Nothing that waits can be spared."""
        held = sum(len(h.records.buffer) + len(h.shake) + len(h.kept) for h in self.halves)
        return held + (self.session.held if self.session is not None else 0)

    def given(self, step: Any) -> list[Any]:
        def guarded() -> None:
            try:
                step()
            except Lost as error:
                self.unreadable(str(error))

        return super().given(guarded)

    def unreadable(self, why: str) -> None:
        """Nothing is opened from now on."""
        opened = self.session is not None and self.session.open
        self.session, self.ending.why = None, why
        if self.settled:
            self.leave(why)
        elif opened or self.halves[CLIENT].sealed:
            self.settle()

    # ------------------------------------------------------------ the handshake

    def greet(self, hello: Hello, message: bytes, *, cut: bool = False) -> None:
        super().greet(hello, message, cut=cut)
        if self.secrets is None or not self.secrets.asked or hello.ssl2 or not available():
            return
        if len(hello.random) == 32:
            self.session = Session(self.secrets, hello)
        else:  # nobody knows any more which secrets are its own
            self.ending.truncated = True

    def answer(self, server: Hello) -> None:
        super().answer(server)
        self.alpn = next(iter(server.alpn), "")
        if self.session is not None and self.server is not None:
            try:
                self.session.begin(server, self.tls13)
            except Lost as error:
                self.session, self.ending.why = None, str(error)

    def encrypted(self, side: int, record: Record) -> None:
        if self.session is None:
            super().encrypted(side, record)
            return
        self.session.put(side, record)
        for plain in self.session.drain():
            self.plain(plain)
            if self.over:
                return
        if self.session is not None and self.session.open and not self.session.stuck:
            self.halves[side].sealed += 1
        else:
            super().encrypted(side, record)

    def established(self) -> None:
        if self.session is None:
            self.leave(self.ending.why or "encrypted")

    def fail(self, code: int, text: str, side: int) -> None:
        """After the handshake, an alert that was opened is an entry of its own; the end of the data is none.

        A server that has answered early data may end before the client has finished its handshake.
        """
        if not self.settled and code == CLOSE_NOTIFY and self.finished[side]:
            return
        if not self.settled:
            super().fail(code, text, side)
        elif code != CLOSE_NOTIFY:
            alert = Message(Kind.ONEWAY, "alert", text, code, False, side=side)
            alert.extra = Ending(alert=text, code=code, side=side)
            self.out.append(alert)

    # ------------------------------------------------------------ what is opened

    def plain(self, plain: Plain) -> None:
        """What a record holds."""
        side = plain.side
        if not plain.lost and self.lost_finished(plain):
            self.settle()
        if plain.lost:
            self.halves[side].blind = True
            if self.settled:
                self.pass_on(side, b"", plain.lost)
        elif plain.type == DATA:
            if plain.early and EARLY_NOTE not in self.notes:
                self.notes.append(EARLY_NOTE)
            if plain.data:
                self.pass_on(side, plain.data)
        elif plain.type == ALERT and len(plain.data) == 2:
            self.alert(side, plain.data)
        elif plain.type == HANDSHAKE and not self.finished[side]:
            self.shaken(side, plain.data)

    def lost_finished(self, plain: Plain) -> bool:
        """Whether the client's last word in the handshake was in a hole: it goes on, so that was it."""
        missed = self.tls13 and plain.side == CLIENT and self.halves[CLIENT].blind
        return missed and plain.type != HANDSHAKE and not plain.early

    def cut(self) -> None:
        opened = self.session is not None and self.session.open
        if opened and self.tls13 and (self.halves[CLIENT].blind or EARLY_NOTE in self.notes):
            self.settle()
        super().cut()
        if self.settled and self.session is not None and (why := self.session.lacks):
            self.leave(why)

    def shaken(self, side: int, data: bytes) -> None:
        """Handshake messages that were encrypted; those after Finished (tickets) are of no interest."""
        half = self.halves[side]
        if not half.blind:
            half.shake += data
            self.messages(side)
        if self.tls13 and side == CLIENT and (self.finished[side] or half.blind):
            self.settle()

    def message(self, side: int, message: bytes) -> None:
        kind = message[0]
        if kind == FINISHED:
            self.finished[side] = True
        elif kind == EXTENSIONS and side == SERVER and self.session is not None:
            found = encrypted_extensions(message)
            self.alpn = next(iter(found.alpn), "")
            self.session.accepted = found.get(EARLY_DATA) is not None
        if not (self.settled or self.finished[side]):
            super().message(side, message)

    def pass_on(self, side: int, data: bytes, missing: int = 0) -> None:
        size = self.halves[side].count()
        hint = ALPN_PROTOCOLS.get(self.alpn, self.alpn)
        self.out.append(Inner(Side(side), data, size, missing, hint=hint, name=self.name()))

    # ------------------------------------------------------------ losses

    def fed(self, side: int, data: bytes) -> None:
        if self.hunting[side]:
            self.halves[side].records.buffer += data
            data = b""
            if not self.found(side):
                return
        super().fed(side, data)

    def missed(self, side: int, missing: int) -> None:
        if self.hunting[side]:
            self.lost(side, missing)
        else:
            super().missed(side, missing)

    def lost(self, side: int, missing: int) -> None:
        """Records are numbered: those after the loss are told by the number under which they open."""
        if not (self.settled and self.session is not None and self.session.open):
            super().lost(side, missing)
            return
        self.gone[side] += self.halves[side].records.forget() + missing
        self.hunting[side] = True
        self.session.lose(side, missing)

    def found(self, side: int) -> bool:
        """Whether a record opens that begins in what is held."""
        records, session = self.halves[side].records, self.session
        assert session is not None
        for at, record in records.candidates():
            if record is None:
                self.skip(side, at)
                return False
            self.tries += 1
            if self.tries > limits.TLS_HUNT:
                raise Lost(LOST)
            plain = session.resumed(side, record)
            if plain is not None:
                self.skip(side, at)
                records.drop(HEAD + len(record.body))
                self.goes_on(side, plain)
                return not self.over
        self.skip(side, max(0, len(records.buffer) - 2))
        return False

    def skip(self, side: int, size: int) -> None:
        """Bytes in which no record begins."""
        self.halves[side].records.drop(size)
        self.gone[side] += size

    def goes_on(self, side: int, plain: Plain) -> None:
        """The first record after a loss: its number tells how many are missing, and so how much they held."""
        assert self.session is not None
        missed = self.gone[side]
        if plain.skipped > 0:
            missed -= plain.skipped * (HEAD + self.session.overhead(side))
        self.hunting[side], self.tries, self.gone[side] = False, 0, 0
        self.pass_on(side, b"", max(1, missed))
        self.plain(plain)
