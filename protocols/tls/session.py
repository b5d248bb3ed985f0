"""The encrypted part of a connection, opened where its secrets are known.

Every record is authenticated: one that does not open under the key and number that are due is tried under the next
key of its side (handshake, data, after each KeyUpdate), and after a loss under further numbers; then nothing is
guessed. Records that come before their secrets wait. Limits: TLS_WAITING bytes, TLS_SEQUENCES
numbers, TLS_TRIES in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from kshark import limits
from kshark.api import Side

from .cipher import Aead13, Opener, Suite, openers12, suite_of
from .codes import EARLY_DATA, ENCRYPT_THEN_MAC, TLS12
from .hello import Hello
from .keylog import Secrets
from .records import HEAD, Record

EARLY: Final = "client early"
EPOCHS: Final = ((EARLY, "client handshake", "client data"),
                 ("server handshake", "server data"))  # fmt: skip
LOST: Final = "a loss after which no record opens"
SMALLEST: Final = HEAD + 17
"""Bytes of the shortest encrypted record."""


class Plain(msgspec.Struct, gc=False):
    """What a record holds."""

    side: int
    type: int
    data: bytes
    early: bool = False
    lost: int = 0  # bytes that it held, where it had a hole: `data` is empty
    skipped: int = -1  # records that are lost before it under the same key; -1: under another one


class Lost(Exception):
    """Nothing further of this connection can be opened; its text says why."""


class Lane:
    """One side."""

    def __init__(self, epochs: tuple[str, ...]) -> None:
        self.waiting: list[Record] = []
        self.epochs = list(epochs)  # secrets whose turn comes
        self.epoch = ""
        self.opener: Opener | None = None
        self.number = 0  # of the next record
        self.doubt = 0  # so many records may be missing before it
        self.tries = 0  # numbers tried since the loss


class Session:
    """Both sides; `put` records, and take what they hold from `drain`."""

    def __init__(self, secrets: Secrets, client: Hello) -> None:
        self.secrets = secrets
        self.client = client
        self.server: Hello | None = None
        self.suite: Suite | None = None
        self.tls13 = False
        self.known: Mapping[str, bytes] = {}
        self.early = client.get(EARLY_DATA) is not None
        self.accepted: bool | None = None  # whether early data is; None: not said yet
        self.lanes = tuple(Lane(epochs if self.early else epochs[-2:]) for epochs in EPOCHS)
        self.held = 0

    def begin(self, server: Hello, tls13: bool) -> None:
        """The ServerHello says how."""
        self.server, self.tls13 = server, tls13
        if server.chosen < TLS12:
            raise Lost("a version before 1.2, which is not decrypted")
        self.suite = suite_of(server.ciphers[0] if server.ciphers else 0, tls13)
        if self.suite is None:
            raise Lost("a cipher that is not read")

    def put(self, side: int, record: Record) -> None:
        """One encrypted record."""
        self.lanes[side].waiting.append(record)
        self.held += HEAD + len(record.body)

    @property
    def open(self) -> bool:
        """Whether secrets are known."""
        return bool(self.known)

    @property
    def stuck(self) -> bool:
        """Whether records wait for secrets that are not there, though others are."""
        client, server = (bool(lane.waiting) for lane in self.lanes)
        return server or (client and not self._undecided)

    @property
    def _undecided(self) -> bool:
        """Whether what the client sends may be early data that the server does not want."""
        return self.early and self.tls13 and self.accepted is None

    def drain(self) -> Iterator[Plain]:
        """What can be opened; the server's first, whose words decide on early data."""
        if self.suite is None or not (self.known or self._ask()):
            self._bounded()
            return
        for side in (Side.SERVER, Side.CLIENT):
            yield from self._drain(side)
        self._bounded()

    @property
    def lacks(self) -> str:
        """Why records wait, "" where none do."""
        if not self.held:
            return ""
        return "secrets missing" if self.known else "no secrets of it in the key log"

    def _bounded(self) -> None:
        if self.held > limits.TLS_WAITING:
            raise Lost(self.lacks)

    def _ask(self) -> bool:
        """Look for the secrets once more."""
        found = self.secrets.of(self.client.random)
        if self.tls13:
            if "server handshake" in found or "server data" in found:
                self.known = found
        elif "master" in found and self.suite is not None and self.server is not None:
            self.known = found
            seed = self.server.random + self.client.random
            last = self.server.get(ENCRYPT_THEN_MAC) is not None
            both = openers12(self.suite, found["master"], seed, last)
            for lane, opener in zip(self.lanes, both, strict=True):
                lane.opener, lane.epochs = opener, []
        return self.open

    def _drain(self, side: int) -> Iterator[Plain]:
        lane = self.lanes[side]
        while lane.waiting:
            if side == Side.CLIENT and self._undecided:
                return
            record = lane.waiting[0]
            plain = self._opened(side, lane, record)
            if plain is None:
                return
            lane.waiting.pop(0)
            self.held -= HEAD + len(record.body)
            if plain.type:
                yield plain

    def _opened(self, side: int, lane: Lane, record: Record) -> Plain | None:
        """What it holds; of type 0 where nobody may read it; None: its secret is not there yet."""
        if record.missing:
            return self._torn(side, lane, record)
        found, due, opener = None, lane.number, lane.opener
        if lane.opener is not None:
            found = self._under(lane, lane.opener, lane.number, record)
        if found is None and lane.epochs:
            found = self._next_epoch(lane, record)
            if found is None and lane.epochs and not self.known.get(lane.epochs[0]):
                return None
        if found is None and isinstance(lane.opener, Aead13) and not lane.epochs:
            found = self._updated(lane, lane.opener, record)
        if found is None:
            return self._failed(side, lane)
        number, kind, data = found
        lane.number, lane.doubt, lane.tries = number + 1, 0, 0
        early = lane.epoch == EARLY
        skipped = number - due if lane.opener is opener else -1
        hidden = early and not self.accepted
        return Plain(side, 0 if hidden else kind, data, early, skipped=skipped)

    def _torn(self, side: int, lane: Lane, record: Record) -> Plain:
        """One with a hole: the next one has the next number, or the first of another key."""
        lane.number += 1
        lane.doubt = max(lane.doubt, 1)
        return Plain(side, record.type, b"", lost=max(1, record.size - self.overhead(side)))

    def overhead(self, side: int) -> int:
        """Bytes that a record of a side has more than what it holds; with AES-CBC, at least."""
        opener = self.lanes[side].opener
        return opener.overhead if opener is not None else 0

    def _next_epoch(self, lane: Lane, record: Record) -> tuple[int, int, bytes] | None:
        """Under the keys whose turn comes: the next one; after a loss, or for early data, the one after it."""
        for name in list(lane.epochs):
            secret = self.known.get(name) or self._more(name)
            if secret is not None:
                opener = Aead13(self._suite(), secret)
                found = self._under(lane, opener, 0, record)
                if found is not None:
                    lane.opener, lane.epoch = opener, name
                    del lane.epochs[: lane.epochs.index(name) + 1]
                    return found
            if name == EARLY:
                if secret is None or lane.opener is None:
                    lane.epochs.remove(name)
            elif secret is None or not lane.doubt:
                break
        return None

    def _failed(self, side: int, lane: Lane) -> Plain:
        """Early data without its secret are passed over; all else is the end."""
        if side == Side.CLIENT and self.early and lane.opener is None:
            return Plain(side, 0, b"")
        raise Lost("a record that does not open under its key")

    def _suite(self) -> Suite:
        assert self.suite is not None
        return self.suite

    def _more(self, name: str) -> bytes | None:
        """A secret that may have been written since."""
        if self.tls13 and name not in self.known:
            self.known = self.secrets.of(self.client.random) or self.known
        return self.known.get(name)

    def _updated(self, lane: Lane, opener: Aead13, record: Record) -> tuple[int, int, bytes] | None:
        """Under the key that a KeyUpdate makes (RFC 8446 section 7.2)."""
        later = opener.updated()
        found = self._under(lane, later, 0, record)
        if found is not None:
            lane.opener = later
        return found

    def _under(
        self, lane: Lane, opener: Opener, first: int, record: Record
    ) -> tuple[int, int, bytes] | None:
        """(number, type, content) under one key, and one of the numbers that it may have."""
        for number in range(first, first + lane.doubt + 1):
            if number > first:
                lane.tries += 1
                if lane.tries > limits.TLS_TRIES:
                    raise Lost(LOST)
            found = opener.open(number, record.head, record.body)
            if found is not None:
                return number, *found
        return None

    # ------------------------------------------------------------ after a loss

    def lose(self, side: int, missing: int) -> None:
        """Bytes are lost between records, and so perhaps as many records as fit in."""
        lane = self.lanes[side]
        lane.doubt = min(lane.doubt + missing // SMALLEST + 2, limits.TLS_SEQUENCES)

    def resumed(self, side: int, record: Record) -> Plain | None:
        """What a record after a loss holds, None where these bytes are none."""
        try:
            plain = self._opened(side, self.lanes[side], record)
        except Lost as error:
            if str(error) == LOST:
                raise
            return None
        return plain if plain is not None and plain.type else None
