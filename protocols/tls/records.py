"""Records of one side (RFC 8446 section 5.1): a type, a version, a length, and what they hold.

A hole inside a record costs that record alone; any other loses the framing. Limit: TLS_RECORD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from kshark import limits

from .codes import CONTENT, DATA

HEAD: Final = 5
LARGEST: Final = limits.TLS_RECORD
LIKE_A_HEAD: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")


class Record(msgspec.Struct, gc=False):
    """One record; of a damaged one what came before the hole."""

    head: bytes
    body: bytes
    missing: int = 0  # bytes of it that were lost

    @property
    def type(self) -> int:
        return self.head[0]

    @property
    def size(self) -> int:
        """Bytes that its head announces."""
        return self.head[3] << 8 | self.head[4]


class Foreign(Exception):
    """These bytes are no record."""


class Records:
    """Cuts a side into records."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.consumed = 0  # bytes of records given so far, from the first on
        self.begun = False  # a record was seen
        self.damaged: Record | None = None  # the one with a hole, until it ends
        self.skip = 0  # bytes of it to come

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that these bytes complete; `Foreign` where there cannot be one."""
        if self.skip:
            size = min(self.skip, len(data))
            self.skip -= size
            data = data[size:]
            if not self.skip:
                yield self._ended()
        self.buffer += data
        at = 0
        try:
            while len(self.buffer) - at >= HEAD:
                size = self._size(at)
                if len(self.buffer) - at < HEAD + size:
                    break
                head, body = self._parts(at, size)
                at += HEAD + size
                self.consumed += HEAD + size
                self.begun = True
                yield Record(head, body)
            if 0 < len(self.buffer) - at < HEAD and self.buffer[at] not in CONTENT:
                raise Foreign
        finally:
            del self.buffer[:at]

    def _size(self, at: int) -> int:
        """The length of the record whose head is here."""
        kind, major, minor, high, low = self.buffer[at : at + HEAD]
        size = high << 8 | low
        if kind not in CONTENT or major != 3 or minor > 4 or size > LARGEST:
            raise Foreign
        if not size and kind != DATA:  # RFC 8446 section 5.1: data alone may be empty
            raise Foreign
        return size

    def _parts(self, at: int, size: int) -> tuple[bytes, bytes]:
        middle = at + HEAD
        return bytes(self.buffer[at:middle]), bytes(self.buffer[middle : middle + size])

    def gap(self, missing: int) -> bool:
        """So many bytes are lost; whether that costs no more than one record."""
        if self.skip:
            inside = missing <= self.skip
            if inside and self.damaged is not None:
                self.damaged.missing += missing
                self.skip -= missing
            return inside
        if len(self.buffer) < HEAD:
            return False
        try:
            size = self._size(0)
        except Foreign:
            return False
        left = HEAD + size - len(self.buffer)
        if missing > left:
            return False
        head, body = self._parts(0, size)
        self.damaged = Record(head, body, missing)
        self.skip = left - missing
        self.buffer.clear()
        return True

    def over(self) -> Record | None:
        """The damaged record, where the hole reached its end."""
        return self._ended() if self.damaged is not None and not self.skip else None

    def _ended(self) -> Record:
        record, self.damaged = self.damaged, None
        assert record is not None
        self.consumed += HEAD + record.size - record.missing
        self.begun = True
        return record

    def candidates(self) -> Iterator[tuple[int, Record | None]]:
        """Where a record may begin in what is held, and it; None where it has not come whole."""
        for found in LIKE_A_HEAD.finditer(bytes(self.buffer)):
            at = found.start()
            if len(self.buffer) - at < HEAD:
                yield at, None
                return
            size = self.buffer[at + 3] << 8 | self.buffer[at + 4]
            if size > LARGEST:
                continue
            if len(self.buffer) - at < HEAD + size:
                yield at, None
                return
            yield at, Record(*self._parts(at, size))

    def forget(self) -> int:
        """Where the next record begins is lost; gives how many bytes came since the last one."""
        size = len(self.buffer)
        if self.damaged is not None:
            size += HEAD + self.damaged.size - self.skip
        self.buffer.clear()
        self.skip, self.damaged = 0, None
        return size

    def drop(self, size: int) -> None:
        """Forget the first bytes held."""
        del self.buffer[:size]
