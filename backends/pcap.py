"""Backend ``pcap``: packets from capture files and pipes.

    kshark run --read capture.pcap           pcap and pcapng; gzip, zstd, bzip2, xz by their content
    kshark run --read 'ring/*.pcap'          many, in the order of their first packets
    tcpdump -U -w - | kshark run --read -    a packet is handed over as soon as it is read
    kshark run --backend pcap:ring.pcap,follow=true     a file that still grows

Files wait for the engine: nothing is lost here but what a file itself lost or lacks, and that is in
`stats`. Times are those of the file; a simple packet block (pcapng) has none and gets its predecessor's.
"""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Annotated, Final

from kshark.api import (
    BackendSpec,
    Block,
    CaptureStats,
    Options,
    PluginError,
    hookimpl,
    option,
)
from kshark.backends._classic import Damaged
from kshark.backends._reader import Books, Reader
from kshark.backends._records import INDEX
from kshark.backends._source import (
    MOMENT,
    PAUSE,
    File,
    Replaced,
    check_file,
    open_file,
    pause,
    unpacked,
)
from kshark.limits import KIB, MIB

BLOCK: Final = 1 * MIB
"""Measured: a twentieth quicker than 256 KiB, since each block is a turn of the event loop; more gains nothing."""
LEAST, MOST, PEEK = 4 * KIB, 64 * MIB, 64 * KIB
NEVER: Final = 2**63

Steps = Generator[Block | int, None, None]


class PcapOptions(Options):
    """Options of the backend ``pcap``."""

    target: Annotated[
        str, option("File, pattern such as 'ring/*.pcap', or - for standard input", unit="file")
    ] = ""
    follow: Annotated[bool, option("Wait for more at the end of the file, until interrupted")] = (
        False
    )
    block_bytes: Annotated[int, option("Bytes read at once", unit="bytes")] = BLOCK


class PcapBackend:
    """Reads captures; `blocks` for the event loop, `read` without one."""

    live = False

    def __init__(self, options: PcapOptions) -> None:
        if not options.target:
            raise PluginError("pcap: say what to read: --read FILE, or --read - for standard input")
        if not LEAST <= options.block_bytes <= MOST:
            raise PluginError("pcap: block_bytes must be from 4KiB to 64MiB")
        self._options = options
        self._books = Books()
        self._file: File | None = None
        self._reader: Reader | None = None
        self._done = 0  # bytes of files that are read
        self._ahead = 0  # bytes of files that are not yet opened
        self._closed = False

    def check(self) -> None:
        """`PluginError` where the file cannot be read."""
        target = self._options.target
        if os.path.lexists(target) or not glob.has_magic(target):
            check_file(target)

    async def blocks(self) -> AsyncIterator[Block]:
        """Blocks until the end; each one's memory is reused for the next."""
        steps = self._steps()
        try:
            for step in steps:
                if isinstance(step, int):
                    await _wait(step)
                else:
                    yield step
        finally:
            steps.close()

    def read(self) -> Iterator[Block]:
        """The same without an event loop: blocks the thread while it waits."""
        steps = self._steps()
        try:
            for step in steps:
                if isinstance(step, int):
                    pause(step)
                else:
                    yield step
        finally:
            steps.close()

    def stats(self) -> CaptureStats:
        return self._books.stats(self._reader.dropped() if self._reader else {})

    @property
    def grows(self) -> bool:
        """Whether packets come as somebody captures them: through a pipe, or at the end of the file."""
        return self._file is not None and (self._options.follow or not self._file.regular)

    def progress(self) -> tuple[int, int]:
        """Bytes read (as stored, so compressed ones) and in total, 0 where that is not known."""
        now = self._file
        if now is None:
            return self._done, self._done + self._ahead
        total = max(now.size, now.taken) + self._done + self._ahead if now.size else 0
        return self._done + now.taken, total

    async def close(self) -> None:
        self._closed = True

    def _steps(self) -> Steps:
        """Blocks, and between them what to wait on."""
        paths = self._paths()
        sizes = [_size(path) for path in paths]
        for at, path in enumerate(paths):
            self._ahead = sum(sizes[at + 1 :])
            again = True
            while again and not self._closed:
                again = yield from self._capture(path)

    def _capture(self, path: str) -> Generator[Block | int, None, bool]:
        """One file; true if it is to be read anew, since it is another one now."""
        name = "standard input" if path == "-" else path
        self._reader = reader = Reader(name, self._options.block_bytes, self._books)
        self._file = file = open_file(path, self._options.follow)
        try:
            yield from self._filled(file, reader)
            reader.end()
        except Damaged as damage:
            reader.end(str(damage))
        except Replaced as change:
            self._books.note(f"{name} {change}; reading goes on at its start")
            return True
        finally:
            file.close()
            self._books.lost(reader.dropped())
            self._done += file.taken
            self._file = self._reader = None
        return False

    def _filled(self, file: File, reader: Reader) -> Steps:
        source = yield from unpacked(file, reader.name, self._options.follow)
        try:
            while not self._closed:
                count = source.fill(reader.room())
                if count is None:
                    yield source.waits_on()
                elif count:
                    yield from reader.took(count)
                else:
                    return
        finally:
            source.close()

    def _paths(self) -> list[str]:
        """The files that the target names, in the order of their first packets."""
        target = self._options.target
        if target == "-" or os.path.lexists(target) or not glob.has_magic(target):
            return [target]
        paths = sorted(path for path in glob.glob(target, recursive=True) if os.path.isfile(path))
        if not paths:
            raise PluginError(f"{target}: no file matches this pattern")
        if len(paths) > 1 and self._options.follow:
            raise PluginError(f"{target}: follow takes one file, and {len(paths)} match")
        return self._by_time(paths) if len(paths) > 1 else paths

    def _by_time(self, paths: list[str]) -> list[str]:
        """Sorted by first packet; a file that cannot be read is noted, unless none can."""
        dated, trouble = [], []
        for path in paths:
            try:
                dated.append((_first_ns(path), path))
            except PluginError as error:
                trouble.append(str(error))
        if not dated:
            raise PluginError(trouble[0])
        for line in trouble:
            self._books.note(f"{line} (skipped)")
        return [path for _, path in sorted(dated)]


def read_blocks(path: str, *, follow: bool = False, block_bytes: int = BLOCK) -> Iterator[Block]:
    """The blocks of a capture, without an event loop; each one's memory is reused for the next.

    >>> sum(block.count for block in read_blocks("x.pcap"))  # doctest: +SKIP
    2090000
    """
    options = PcapOptions(target=path, follow=follow, block_bytes=block_bytes)
    yield from PcapBackend(options).read()


@hookimpl
def register_backends() -> Iterable[BackendSpec]:
    """The backend that the command line's ``--read`` means."""
    text = "Capture files and pipes: pcap, pcapng, compressed or growing"
    return [BackendSpec(name="pcap", make=PcapBackend, options=PcapOptions, doc=text, rank=0)]


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _first_ns(path: str) -> int:
    """Time of a file's first packet; of one without packets the end of time."""
    for block in read_blocks(path, block_bytes=PEEK):
        return int(INDEX.unpack_from(block.index)[0])
    return NEVER


async def _wait(fd: int) -> None:
    """Until `fd` is readable, without blocking the loop."""
    if fd == MOMENT:
        await asyncio.sleep(PAUSE)
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
