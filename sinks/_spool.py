"""A folder of payloads that wait to be sent: first in, first out, bounded in bytes, there after a restart.

One file a payload, written aside and renamed, so that a crash leaves a whole payload or none; its name holds
its number and how many entries are in it. A folder belongs to one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from kshark.api import PluginError

NAME: Final = re.compile(r"(\d{12})-(\d{1,9})\.payload\Z")
SUM: Final = 4
"""Bytes at the head of a file: the CRC-32 of the rest, which is not whole after some losses of power."""


class Kept(NamedTuple):
    """A payload on the disk."""

    number: int
    entries: int
    size: int
    own: bool  # of this run; else one before it left it here

    @property
    def name(self) -> str:
        return f"{self.number:012d}-{self.entries}.payload"


class Spool:
    """The folder `path`, in which payloads of `limit` bytes may lie."""

    def __init__(self, path: str, limit: int, what: str) -> None:
        self._folder = Path(path)
        self._limit = limit
        self._what = what
        self._lock = -1
        self.waiting: deque[Kept] = deque()
        self.bytes = 0

    def open(self) -> None:
        """Take the folder, and what an earlier run left in it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise PluginError(f"{self._what}: spool {self._folder} is another process's") from None
        except OSError as error:
            self.close()
            raise PluginError(f"{self._what}: spool {self._folder}: {error.strerror}") from None
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".new":
                path.unlink(missing_ok=True)
            elif found := NAME.match(path.name):
                size = path.stat().st_size
                self.waiting.append(Kept(int(found[1]), int(found[2]), size, own=False))
                self.bytes += size

    @property
    def next_number(self) -> int:
        """A number after all that are here."""
        return self.waiting[-1].number + 1 if self.waiting else 1

    @property
    def own(self) -> int:
        """Entries of this run that lie here."""
        return sum(kept.entries for kept in self.waiting if kept.own)

    @property
    def inherited(self) -> int:
        """Entries that an earlier run left here."""
        return sum(kept.entries for kept in self.waiting if not kept.own)

    def room(self, size: int) -> bool:
        return self.bytes + size + SUM <= self._limit

    def put(self, number: int, payload: bytes, entries: int) -> None:
        """Keep a payload; raises `OSError` where the disk takes it not."""
        kept = Kept(number, entries, len(payload) + SUM, own=True)
        aside = self._folder / f"{kept.name}.new"
        try:
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(zlib.crc32(payload).to_bytes(SUM, "big") + payload)
            aside.rename(self._folder / kept.name)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self.waiting.append(kept)
        self.bytes += kept.size
        if len(self.waiting) > 1 and self.waiting[-2].number > number:  # older than what lies here
            self.waiting = deque(sorted(self.waiting))

    def read(self, kept: Kept) -> bytes | None:
        """The payload, or None if it is damaged."""
        try:
            data = (self._folder / kept.name).read_bytes()
        except OSError:
            return None
        payload = data[SUM:]
        return payload if zlib.crc32(payload).to_bytes(SUM, "big") == data[:SUM] else None

    def drop(self, kept: Kept) -> None:
        """Forget a payload."""
        self.waiting.remove(kept)
        self.bytes -= kept.size
        (self._folder / kept.name).unlink(missing_ok=True)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
