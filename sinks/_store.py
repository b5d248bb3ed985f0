"""A target that bytes are appended to: standard output, or a file that rotates by size and age.

The writer decides where it may be cut (`room` says how much still fits), so a record is never divided
between two files. ``out.ndjson`` becomes ``out.20260102T030405Z-1.ndjson`` when it is full, and a new
``out.ndjson`` is begun; age is looked at whenever something is written.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from kshark.api import Entry, PluginError
from kshark.sinks._codec import CODECS, Codec, Packing, pack_file, packing_of
from kshark.sinks._output import STDOUT, Held, Output, open_target, problem

THREAD: Final = 64 * 1024
"""Bytes from which on compressing is done in a thread: about 1 ms at zlib's speed."""

Fsync = Literal["never", "rotate", "batch"]


class StoreOptions(msgspec.Struct, kw_only=True, frozen=True):
    """What the sinks that store have in common."""

    target: str
    rotate_bytes: int = 0
    rotate_seconds: float = 0
    keep: int = 0
    packing: Packing = "none"
    fsync: Fsync = "never"
    truncate: bool = False
    mode: int = 0o666

    @property
    def rotates(self) -> bool:
        return bool(self.rotate_bytes or self.rotate_seconds)


class Store:
    """The open target.

    A write asks `resumes`, then flushes; puts and flushes as `room` allows, with `rotate` between; and
    ends with `done`.
    """

    def __init__(self, options: StoreOptions, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._name = options.target
        self._live: Packing = packing_of(options.target)
        if self._live == "none" and not options.rotates:
            self._live = options.packing
            if self._live != "none" and options.target != STDOUT:
                self._name = f"{options.target}.{self._live}"
        self._names = Names(self._name)
        self._held = Held()
        self._codec: Codec | None = None
        self._packing: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Open the target; raises `PluginError`."""
        options = self._options
        if options.packing != "none" or self._live != "none":
            CODECS[options.packing if options.packing != "none" else self._live]()  # is it there?
        self._begin(truncate=options.truncate)
        if options.rotates and (self._name == STDOUT or not self._output.regular):
            os.close(self._output.fd)
            name = "standard output" if self._name == STDOUT else self._name
            raise PluginError(f"{name} cannot rotate, only a file can: give the sink one")

    def _begin(self, *, truncate: bool) -> None:
        options = self._options
        self._output = Output(
            open_target(self._name, truncate=truncate, mode=options.mode), self._name
        )
        self._size = os.fstat(self._output.fd).st_size if self._output.regular else 0
        self._began = time.monotonic()
        self._codec = CODECS[self._live]() if self._live != "none" else None

    @property
    def plain_path(self) -> Path | None:
        """The file, if it is one whose end can be read."""
        return Path(self._name) if self._output.regular and self._codec is None else None

    @property
    def unread(self) -> bool:
        """Whether it waits for who reads the pipe that it writes to."""
        return self._output.unread

    def resumes(self, batch: Sequence[Entry]) -> bool:
        """Whether the batch is the one that found the disk full the last time."""
        return self._held.resumes(batch)

    @property
    def room(self) -> int | None:
        """Bytes until the file is full; None = no end."""
        limit = self._options.rotate_bytes
        return max(limit - self._size, 0) if limit else None

    @property
    def empty(self) -> bool:
        """Nothing is in the file: it takes a record of any size, and does not rotate."""
        return not self._size

    @property
    def old(self) -> bool:
        """Whether the age has come at which the file rotates."""
        age, limit = time.monotonic() - self._began, self._options.rotate_seconds
        return bool(limit) and age >= limit

    async def put(self, data: bytes) -> None:
        """Take bytes for the next `flush`."""
        if self._codec is not None:
            pack = self._codec.pack
            data = await asyncio.to_thread(pack, data) if len(data) > THREAD else pack(data)
        if self.empty:
            self._began = time.monotonic()
        self._size += len(data)
        self._output.put(data)

    async def flush(self) -> None:
        """Write what was put. Raises `SinkBusy` and `PluginError`."""
        await self._output.flush()

    async def done(self) -> None:
        """A batch is written: forget it, and to the disk with it if that is asked for."""
        self._held.done()
        if self._options.fsync == "batch":
            await self._fsync()

    async def _fsync(self) -> None:
        if self._output.regular:
            try:
                await asyncio.to_thread(os.fsync, self._output.fd)
            except OSError as error:
                raise problem(self._name, error) from None

    async def close(self) -> None:
        """End the stream, write the rest, and wait for what is being packed."""
        try:
            await self._end()
        finally:
            if self._packing is not None:
                await self._packing

    async def _end(self) -> None:
        if self._codec is not None:
            self._output.put(self._codec.end())
            self._codec = None
        try:
            if self._options.fsync != "never":
                await self._output.flush()
                await self._fsync()
        finally:
            await self._output.close()

    # -- rotation

    async def rotate(self) -> None:
        """Put the file aside under a dated name and begin a new one. Nothing may be pending."""
        await self._end()
        path = Path(self._name)
        aside = self._names.next()
        try:
            path.rename(aside)
        except FileNotFoundError:
            self._say(f"{path} was moved or removed by somebody else; a new one is begun")
        except OSError as error:
            raise problem(self._name, error) from None
        if self._packing is not None:
            await self._packing
        self._packing = asyncio.create_task(asyncio.to_thread(self._tidy, aside))
        self._begin(truncate=False)

    def _tidy(self, aside: Path) -> None:
        """Pack the file put aside and drop the oldest ones; in a thread. A failure loses no entry."""
        try:
            if self._options.packing != "none" and self._live == "none" and aside.exists():
                pack_file(aside, self._options.packing)
            if self._options.keep:
                self._names.drop_all_but(self._options.keep)
        except OSError as error:
            self._say(f"{aside} is left as it is: {os.strerror(error.errno or 0).lower()}")


class Names:
    """Names of the files that a target leaves behind."""

    def __init__(self, target: str) -> None:
        path = Path(target)
        name, packed = path.name, ""
        if packing_of(name) != "none":
            name, _, end = name.rpartition(".")
            packed = f".{end}"
        stem, dot, end = name.rpartition(".")
        self._folder = path.parent
        self._stem, self._suffix = (stem, f".{end}{packed}") if dot and stem else (name, packed)
        self._stamp = ""
        self._count = 0
        self._pattern = re.compile(
            re.escape(self._stem) + r"\.(\d{8}T\d{6}Z)-(\d+)" + re.escape(self._suffix)
        )

    def next(self) -> Path:
        """A name that is free: the time of the rotation (UTC) and a number within its second."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        if stamp != self._stamp:
            self._stamp = stamp
            self._count = max((n for at, n, _ in self._left() if at == stamp), default=0)
        self._count += 1
        return self._folder / f"{self._stem}.{stamp}-{self._count}{self._suffix}"

    def drop_all_but(self, keep: int) -> None:
        """Remove the oldest, by the names alone: a copy that somebody touched keeps its age."""
        for _, _, path in self._left()[:-keep]:
            path.unlink(missing_ok=True)

    def _left(self) -> list[tuple[str, int, Path]]:
        """Rotated files, packed or not, oldest first."""
        found = []
        for path in self._folder.iterdir():
            name = path.name
            plain = self._pattern.match(name)
            if plain is not None and name[plain.end() :] in ("", ".gz", ".zst"):
                found.append((plain[1], int(plain[2]), path))
        return sorted(found)
