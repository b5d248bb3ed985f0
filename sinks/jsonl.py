"""Entries as NDJSON, one object a line, to standard output or to a file that may rotate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from kshark.api import Context, Entry, Options, SinkSpec, hookimpl, option
from kshark.sinks._codec import Packing
from kshark.sinks._store import Fsync, Store, StoreOptions


class JsonlOptions(Options):
    """Options of the sink ``jsonl``."""

    target: Annotated[str, option('A file; "-" is standard output', unit="file")] = "-"
    full: Annotated[bool, option("With the protocol's own object: details and bodies")] = False
    rotate_bytes: Annotated[
        int, option("Begin a new file before this one is larger; 0 = never", unit="bytes")
    ] = 0
    rotate_seconds: Annotated[
        float, option("Begin a new file when this one is older; 0 = never", unit="seconds")
    ] = 0
    keep: Annotated[int, option("Rotated files to keep, the oldest go; 0 = all")] = 0
    compress: Annotated[
        Packing,
        option(
            "Compress: rotated files, or what is written where nothing rotates. A target that ends "
            "in .gz or .zst is compressed as it is written"
        ),
    ] = "none"
    fsync: Annotated[
        Fsync, option("When the disk must have it: never, at each rotation and end, each batch")
    ] = "never"
    mode: Annotated[Literal["append", "truncate"], option("What becomes of an existing file")] = (
        "append"
    )


class Jsonl:
    """The sink; a line is never divided between two files."""

    def __init__(self, options: JsonlOptions, context: Context) -> None:
        self._context = context
        self._full = options.full
        self._lines = b""
        self._at = 0  # how far into _lines we are: a batch may fill several files
        self._store = Store(
            StoreOptions(
                target=options.target,
                rotate_bytes=options.rotate_bytes,
                rotate_seconds=options.rotate_seconds,
                keep=options.keep,
                packing=options.compress,
                fsync=options.fsync,
                truncate=options.mode == "truncate",
            ),
            context.say,
        )

    async def open(self) -> None:
        self._store.open()
        path = self._store.plain_path
        if path is not None and _ends_within_a_line(path):
            await self._store.put(b"\n")  # a crash left half a line: ours shall not join it

    async def write(self, batch: Sequence[Entry]) -> None:
        store = self._store
        if not store.resumes(batch):
            self._lines, self._at = self._context.encode(batch, full=self._full), 0
        await store.flush()
        while self._at < len(self._lines):
            if not store.empty and (store.old or not self._cut()):
                await store.rotate()
            end = self._cut() or self._line()
            piece = (
                self._lines[self._at : end] if self._at or end < len(self._lines) else self._lines
            )
            self._at = end
            await store.put(piece)
            await store.flush()
        self._lines = b""
        await store.done()

    def _cut(self) -> int:
        """Where the lines end that the file has room for; 0 if not even one."""
        room = self._store.room
        if room is None or self._at + room >= len(self._lines):
            return len(self._lines)
        return self._lines.rfind(b"\n", self._at, self._at + room) + 1

    def _line(self) -> int:
        """Where the next line ends: it goes into an empty file even if it is larger than that."""
        return self._lines.index(b"\n", self._at) + 1

    @property
    def waits_for_reader(self) -> bool:
        return self._store.unread

    async def close(self) -> None:
        await self._store.close()


def _ends_within_a_line(path: Path) -> bool:
    """Whether a file's last line is not ended."""
    try:
        with path.open("rb") as file:
            return (
                file.seek(0, os.SEEK_END) > 0
                and file.seek(-1, os.SEEK_END) >= 0
                and (file.read(1) != b"\n")
            )
    except OSError:
        return False  # may be written but not read


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="jsonl",
            make=Jsonl,
            options=JsonlOptions,
            doc="One JSON object a line, to a file or standard output",
        )
    ]
