# cython: annotation_typing=False
"""The engine room of `kshark.api.Framed`: drives one side's generator from a bounded buffer.

Invariants: what a generator is given does not depend on how the stream was cut; every byte is
copied and searched a bounded number of times, however slowly it drips; never more than
``Framed.limit`` bytes and one chunk are held. Compiled from this same source (``_framed.pxd``),
which takes two fifths off a small dissector's time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kshark.api import DissectError, Inner, Item, Message, Switch, Take

if TYPE_CHECKING:
    from kshark.api import Framed, Side, Step

RUNNING = 0
HUNTING = 1  # after a gap: looking for the start of a message
FAILED = 2  # after a DissectError: only a gap makes it start over
DONE = 3

TAIL = 256
"""Bytes kept between two calls of resync() that found nothing: the first line of a message."""
SPINS = 10_000
"""Steps of one feed() beyond four a byte held: a generator that turns without reading is a bug."""


class Stepper:
    """One side of a `Framed` dissector."""

    _buf: bytes | bytearray
    _kept: bytes | bytearray
    _gen: Generator[Step, Any, None] | None
    _want: Step | None

    def __init__(self, framed: Framed, side: Side) -> None:
        self._framed = framed
        self._side = side
        self._state = RUNNING
        self._gen = None
        self._want = None
        self._buf = b""
        self._at = 0  # bytes of _buf that are consumed
        self._seen = 0  # no delimiter begins before this offset
        self._used = 0  # bytes consumed since the last message
        self._lost = 0  # bytes among them that the capture lost
        self._skipped = False  # bytes among them fit nowhere, after a gap
        self._taking = False  # within a Take:
        self._left = 0  # bytes it still wants
        self._room = 0  # bytes it still keeps
        self._kept = b""

    def feed(self, data: bytes) -> Iterable[Item]:
        """The messages that `data` completes. An error comes after the messages before it."""
        out: list[Item] = []
        if self._state >= FAILED:
            return out
        if self._buf:
            self._buf += data
        else:
            self._buf = data
        try:
            if self._state == RUNNING or self._found():
                self._run(out)
        except DissectError as error:
            return self._failed(out, error)
        return out

    def gap(self, missing: int) -> Iterable[Item]:
        """Skip a hole that lies within a `Take`; else give up the message and look for the next."""
        out: list[Item] = []
        if self._state == DONE:
            return out
        try:
            if self._taking and missing <= self._left:
                self._left -= missing
                self._used += missing
                self._lost += missing
                self._room = 0  # what comes after the hole does not belong to what was kept
                self._run(out)
            else:
                self._end(out)
                self._stop(HUNTING)
                for message in out:
                    if isinstance(message, Message):
                        message.cut = message.truncated = True
        except DissectError as error:
            return self._failed(out, error)
        return out

    def inside(self) -> bool:
        """Whether a `Take` waits for bytes: the extent of the message is known."""
        return self._taking

    def close(self) -> Iterable[Item]:
        """The stream ended: let the generator say what that completes."""
        out: list[Item] = []
        found: Iterable[Item] = out
        try:
            self._end(out)
        except DissectError as error:
            found = self._failed(out, error)
        else:
            self._stop(DONE)
        for one in out:
            if isinstance(one, Message) and one.side < 0:
                one.side = self._side
        return found

    def _run(self, out: list[Item]) -> None:
        """Answer the generator's wishes while the buffer can."""
        spins = SPINS + 4 * (len(self._buf) - self._at)
        gen = self._gen
        try:
            if gen is None:
                gen = self._gen = self._framed.parse(self._side)
                self._want = next(gen)
            while True:
                piece: Any = None
                if isinstance(self._want, (Message, Switch, Inner)):
                    self._emit(self._want, out)
                else:
                    piece = self._piece(self._want)
                    if piece is None:
                        break
                spins -= 1
                if spins < 0:
                    raise RuntimeError(
                        f"{type(self._framed).__name__}.parse() turns without reading"
                    )
                self._want = gen.send(piece)
        except StopIteration:
            self._stop(DONE)
        self._trim()

    def _emit(self, message: Item, out: list[Item]) -> None:
        if isinstance(message, Message):
            if not message.size:
                message.size = self._used
            self._used = 0
            if self._skipped:
                message.notes = (*message.notes, "resync")
                self._skipped = False
            if self._lost:
                message.gap_bytes += self._lost
                message.truncated = True
                self._lost = 0
        out.append(message)

    def _piece(self, want: object) -> bytes | None:
        """What the generator asked for, or None while it has not come."""
        if isinstance(want, int):
            return self._exactly(want)
        if isinstance(want, bytes):
            return self._until(want)
        if isinstance(want, Take):
            return self._taken(want)
        name, what = type(self._framed).__name__, type(want).__name__
        raise TypeError(
            f"{name}.parse() yielded {what}, not int, bytes, Take, Message, Switch or Inner"
        )

    def _exactly(self, size: int) -> bytes | None:
        if size < 0:
            raise DissectError(f"length {size}")
        if size > self._framed.limit:
            raise self._over()
        if len(self._buf) - self._at < size:
            return None
        return self._cut(size)

    def _until(self, delimiter: bytes) -> bytes | None:
        limit = self._framed.limit
        found = self._buf.find(delimiter, max(self._at, self._seen))
        if found >= 0:
            size = found + len(delimiter) - self._at
            if size > limit:
                raise self._over()
            return self._cut(size)
        if len(self._buf) - self._at >= limit:
            raise self._over()
        self._seen = len(self._buf) - len(delimiter) + 1
        return None

    def _taken(self, take: Take) -> bytes | None:
        if not self._taking:
            if take.size < 0:
                raise DissectError(f"length {take.size}")
            self._taking, self._left, self._room, self._kept = True, take.size, take.keep, b""
        size = min(self._left, len(self._buf) - self._at)
        self._left -= size
        keep = min(size, self._room)
        if keep > 0:
            self._room -= keep
            piece = self._cut(keep)
            if self._kept:
                self._kept += piece
            else:
                self._kept = piece if not self._left else bytearray(piece)
            size -= keep
        self._at += size
        self._used += size
        if self._left:
            return None
        self._taking = False
        return bytes(self._kept)

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._buf[self._at : self._at + size])
        self._at += size
        self._used += size
        return piece

    def _trim(self) -> None:
        """Forget what is consumed. What is left is copied once, and grows in place from then on."""
        if self._at == len(self._buf):
            self._buf = b""
        elif isinstance(self._buf, bytes):
            self._buf = bytearray(self._buf[self._at :])
        else:
            del self._buf[: self._at]
        self._seen = max(0, self._seen - self._at)
        self._at = 0

    def _found(self) -> bool:
        """Whether a message begins in the bytes that came since the gap."""
        data = bytes(self._buf)
        offset = self._framed.resync(self._side, data)
        if not 0 <= offset <= len(data):
            self._buf = bytearray(data[-TAIL:])
            self._used += len(data) - len(self._buf)
            self._skipped = True
            return False
        self._buf = data[offset:]
        self._used += offset
        self._skipped = self._skipped or offset > 0
        self._state = RUNNING
        return True

    def _end(self, out: list[Item]) -> None:
        """Raise EOFError where the generator waits, and take what it still says."""
        gen, self._gen = self._gen, None
        if gen is not None:
            partial = self._kept if self._taking else self._buf[self._at :]
            self._used += len(self._buf) - self._at
            try:
                want = gen.throw(EOFError(bytes(partial)))
                while isinstance(want, (Message, Switch, Inner)):
                    self._emit(want, out)
                    want = gen.send(None)
            except (StopIteration, EOFError):
                pass
            gen.close()

    def _stop(self, state: int) -> None:
        """The generator returned or failed: this side says no more."""
        self._state = state
        self._gen = self._want = None  # a generator holds its dissector: break the circle
        self._buf, self._kept = b"", b""
        self._at = self._seen = self._used = self._lost = 0
        self._taking = self._skipped = False

    def _failed(self, out: list[Item], error: DissectError) -> Iterable[Item]:
        """Close this side; the messages that came before the error go first, then it is raised."""
        self._stop(FAILED)
        if not out:
            raise error
        return _then_raise(out, error)

    def _over(self) -> DissectError:
        return DissectError(f"frame over {self._framed.limit / 1024:g} KiB")


def _then_raise(out: list[Item], error: DissectError) -> Iterator[Item]:
    yield from out
    raise error
