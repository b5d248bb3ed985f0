"""Framers: where a message ends, so that a struct is given whole ones.

Each says the same thing in four ways: `take` reads the next message from a stream (the kept part of it),
`size` tells the length of the one that begins at an offset, `seal` writes the right length into a message
that was built, `LIMIT` bounds what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from kshark.api import DissectError, Step, Take

LIMIT: Final = 65_536
"""Bytes of a message that the struct is given; a longer one is parsed from its beginning."""
MOST: Final = 16 * 1024 * 1024
"""Bytes of the longest message that is believed, unless a framer is given another `most`: more is no length, so
that a side which lost its place says so soon. Give the protocol's own limit where it has one."""
VARINT: Final = 4
"""Bytes of a variable length: 28 bits, as in MQTT (MQTT 5.0 section 1.5.5)."""


class Frame(Protocol):
    """What a `Grammar` asks of its framer; write your own where none of ours fits."""

    def take(self) -> Generator[Step, Any, tuple[bytes, bool]]:
        """Read one message: its bytes (at most LIMIT), and whether these are all."""
        ...

    def size(self, data: bytes, at: int) -> int:
        """Length of the message that begins at `at`; 0: not enough bytes to tell; -1: none does."""
        ...

    def seal(self, raw: bytes) -> bytes:
        """`raw` with its length written in."""
        ...


class _Counted:
    """A head from which the length of the whole follows.

    `first`, where given, are the bytes that a message may begin with: what begins otherwise is none,
    so that the framing is found again sooner after a loss.
    """

    most: int
    first: Container[int] | None

    def _begins(self, data: bytes, at: int) -> bool:
        return self.first is None or data[at] in self.first

    def _need(self) -> int:
        raise NotImplementedError

    def size(self, data: bytes, at: int) -> int:
        raise NotImplementedError

    def take(self) -> Generator[Step, Any, tuple[bytes, bool]]:
        head: bytes = yield self._need()
        total = self.size(head, 0)
        while total == 0:  # the head itself is of variable length
            head += yield 1
            total = self.size(head, 0)
        if total < 0:
            raise DissectError(f"no length: {head[:8].hex(' ')}")
        if total == len(head):
            return head, True
        body: bytes = yield Take(total - len(head), LIMIT - len(head))
        return head + body, len(head) + len(body) == total


@dataclass(frozen=True)
class LengthPrefix(_Counted):
    """A length of `width` bytes at offset `at`: the whole message has ``length + adjust`` bytes.

    By default `adjust` is ``at + width``: the length counts what comes after it. ``adjust=0``: it counts the whole
    message. Otherwise it is the number of bytes that the length does not count: those before it, its own, and
    what else of the head is left out. A length over `most`, or under that of the head, is none.
    `first`, where given, are the bytes that a message may begin with.

    >>> LengthPrefix(2).size(b"\\0\\3abc", 0), LengthPrefix(2, adjust=0).size(b"\\0\\5abc", 0)
    (5, 5)
    """

    width: int
    at: int = 0
    endian: Literal["big", "little"] = "big"
    adjust: int | None = None
    most: int = MOST
    first: Container[int] | None = None

    def _need(self) -> int:
        return self.at + self.width

    def _more(self) -> int:
        return self._need() if self.adjust is None else self.adjust

    def size(self, data: bytes, at: int) -> int:
        if len(data) - at < self._need():
            return 0
        start = at + self.at
        total = int.from_bytes(data[start : start + self.width], self.endian) + self._more()
        return total if self._need() <= total <= self.most and self._begins(data, at) else -1

    def seal(self, raw: bytes) -> bytes:
        value = (len(raw) - self._more()).to_bytes(self.width, self.endian)
        return raw[: self.at] + value + raw[self._need() :]


@dataclass(frozen=True)
class VarintPrefix(_Counted):
    """A length of one to four bytes at offset `at`, seven bits each, the low ones first (MQTT).

    It counts what comes after it; `adjust` is what it does not count of that. `most` and `first` as in
    `LengthPrefix`.
    """

    at: int = 0
    adjust: int = 0
    most: int = MOST
    first: Container[int] | None = None

    def _need(self) -> int:
        return self.at + 1

    def size(self, data: bytes, at: int) -> int:
        value = 0
        if at < len(data) and not self._begins(data, at):
            return -1
        for number in range(VARINT):
            place = at + self.at + number
            if place >= len(data):
                return 0
            value |= (data[place] & 127) << (7 * number)
            if data[place] < 128:
                total = value + self.at + number + 1 + self.adjust
                return total if self._need() <= total <= self.most else -1
        return -1

    def seal(self, raw: bytes) -> bytes:
        end = self.at
        while end < len(raw) and end < self.at + VARINT - 1 and raw[end] > 127:
            end += 1
        value = len(raw) - end - 1 - self.adjust
        out = bytearray(raw[: self.at])
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
        return bytes(out) + raw[end + 1 :]


@dataclass(frozen=True)
class Fixed(_Counted):
    """A head of `head` bytes; `more` tells from it how many bytes follow (none by default).

    `most` and `first` as in `LengthPrefix`; a negative number of `more` is none.
    """

    head: int
    more: Callable[[bytes], int] | None = None
    most: int = MOST
    first: Container[int] | None = None

    def _need(self) -> int:
        return self.head

    def size(self, data: bytes, at: int) -> int:
        if len(data) - at < self.head:
            return 0
        more = 0 if self.more is None else self.more(data[at : at + self.head])
        sound = 0 <= more <= self.most - self.head and self._begins(data, at)
        return self.head + more if sound else -1

    def seal(self, raw: bytes) -> bytes:
        return raw


@dataclass(frozen=True)
class Delimited:
    """All up to and with a delimiter; a message over LIMIT is an error."""

    delimiter: bytes

    def take(self) -> Generator[Step, Any, tuple[bytes, bool]]:
        raw: bytes = yield self.delimiter
        return raw, True

    def size(self, data: bytes, at: int) -> int:
        found = data.find(self.delimiter, at)
        return found + len(self.delimiter) - at if found >= 0 else 0

    def seal(self, raw: bytes) -> bytes:
        return raw if raw.endswith(self.delimiter) else raw + self.delimiter


@dataclass(frozen=True)
class Datagram:
    """A datagram is a message: for UDP."""

    def take(self) -> Generator[Step, Any, tuple[bytes, bool]]:
        raise NotImplementedError("a datagram is not read from a stream")
        yield

    def size(self, data: bytes, at: int) -> int:
        return len(data) - at

    def seal(self, raw: bytes) -> bytes:
        return raw
