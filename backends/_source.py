"""Where the bytes of a capture come from: a file, a pipe, a growing file; unpacked where compressed.

`fill` never waits: it gives None where nothing is there yet, and `waits_on` then says on what: a file
descriptor that turns readable, or `MOMENT` (a growing file has no such thing). So one code path serves
synchronous readers and the event loop, and a slow pipe blocks neither.
"""

from __future__ import annotations

import os
import select
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, Protocol

from kshark.api import PluginError
from kshark.backends import _packed
from kshark.backends._classic import Damaged

MOMENT: Final = -1
"""Nothing to wait on: look again after `PAUSE`."""
PAUSE: Final = 0.2
"""Seconds between two looks at a growing file. tail -f: 1 s."""
PIECE: Final = 64 * 1024
"""Compressed bytes read at once: a pipe's capacity on Linux."""
PIPE_INTO_IT: Final = "pipe a capture into it: tcpdump -U -w - | kshark run --read -"
ZSTD_MISSING: Final = "is zstd-compressed: install the package zstandard (pip) or zstd (apt, dnf)"


class Source(Protocol):
    """Bytes, in order."""

    def fill(self, room: memoryview) -> int | None:
        """Put bytes into `room` and say how many; 0 at the end, None if there is nothing yet."""
        ...

    def waits_on(self) -> int: ...

    def close(self) -> None: ...


class Replaced(Exception):
    """A followed file is another one now, or was cut: begin anew. The text says which."""


def open_file(target: str, follow: bool) -> File:
    """Open a path, or "-" for standard input; one clear line where that cannot be."""
    name = "standard input" if target == "-" else target
    fd = _standard_input() if target == "-" else _opened(target)
    mode = os.fstat(fd).st_mode
    why = ""
    if stat.S_ISDIR(mode):
        why = f"is a directory, give a file or a pattern such as '{name.rstrip('/')}/*.pcap'"
    elif os.isatty(fd):
        why = f"is a terminal, {PIPE_INTO_IT}"
    if why:
        os.close(fd)
        raise PluginError(f"{name} {why}")
    return File(fd, target, follow and stat.S_ISREG(mode))


def check_file(path: str) -> None:
    """`PluginError` where a file cannot be opened."""
    if path != "-" and not Path(path).is_fifo():
        open_file(path, False).close()


def _opened(path: str) -> int:
    try:  # without blocking, since a FIFO without a writer would
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        why = "there is no such file, check the path"
    except PermissionError:
        why = f"no permission to read it, run as its owner or: sudo chmod a+r {path}"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = f"cannot be opened ({error})"
    raise PluginError(f"{path}: {why}")


def _standard_input() -> int:
    """A descriptor of our own; a closed one may have been taken by the event loop, which is no file."""
    try:
        if stat.S_IFMT(os.fstat(0).st_mode):
            return os.dup(0)
    except OSError:
        pass
    raise PluginError(f"standard input is closed, {PIPE_INTO_IT}")


class File:
    """A file or a pipe. `follow`: its end is not the end, unless it is replaced or cut."""

    def __init__(self, fd: int, path: str, follow: bool) -> None:
        self.fd = fd
        self.taken = 0
        self._path = path
        self._follow = follow
        info = os.fstat(fd)
        self.regular = stat.S_ISREG(info.st_mode)
        self.size = info.st_size if self.regular else 0
        self._poll: select.poll | None = None
        if not self.regular:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)

    def fill(self, room: memoryview) -> int | None:
        if self._poll is not None and not self._poll.poll(0):
            return None
        try:
            count = os.readv(self.fd, [room])
        except BlockingIOError:
            return None
        except OSError as error:
            raise Damaged(f"reading fails: {error.strerror}") from None
        self.taken += count
        if not count and self._follow:
            self._look()
            return None
        return count

    def _look(self) -> None:
        """At the end of a growing file: is it still the same one?"""
        here = os.fstat(self.fd)
        self.size = here.st_size
        if here.st_size < self.taken:
            raise Replaced(f"was cut to {here.st_size} bytes after {self.taken} were read")
        try:
            there = os.stat(self._path) if self._path != "-" else here
        except OSError:
            return  # between removal and the new one; the old one may still grow
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise Replaced("was replaced by another file")

    def waits_on(self) -> int:
        return MOMENT if self._poll is None else self.fd

    def close(self) -> None:
        os.close(self.fd)


class Pushed:
    """A file of which the first bytes were taken already: they come first."""

    def __init__(self, file: File, head: bytes) -> None:
        self._file = file
        self._head = head

    def fill(self, room: memoryview) -> int | None:
        if not self._head:
            return self._file.fill(room)
        count = min(len(self._head), len(room))
        room[:count] = self._head[:count]
        self._head = self._head[count:]
        return count

    def waits_on(self) -> int:
        return self._file.waits_on()

    def close(self) -> None:
        """The file is its opener's."""


class Unpacked:
    """What is in a compressed source, member after member; zeros after the last one are padding."""

    def __init__(self, packed: Source, make: Callable[[], _packed.Decompressor]) -> None:
        self._packed = packed
        self._make = make
        self._member: _packed.Decompressor | None = make()
        self._piece = bytearray(PIECE)
        self._fresh = b""

    def fill(self, room: memoryview) -> int | None:
        while True:
            out = self._unpack(len(room))
            if out:
                room[: len(out)] = out
                return len(out)
            count = self._packed.fill(memoryview(self._piece))
            if count is None:
                return None
            if not count:
                if self._member is not None:
                    raise Damaged("the compressed data ends early")
                return 0
            self._fresh = bytes(self._piece[:count])

    def _unpack(self, most: int) -> bytes:
        while True:
            if self._member is None:
                self._fresh = self._fresh.lstrip(b"\0")
                if not self._fresh:
                    return b""
                self._member = self._make()
            if not self._fresh and self._member.needs_input:
                return b""
            try:
                out = self._member.decompress(self._fresh, most)
            except _packed.ERRORS as error:
                raise Damaged(f"the compressed data is damaged ({error})") from None
            self._fresh = b""
            if self._member.eof:
                self._fresh, self._member = self._member.unused_data, None
            if out:
                return out

    def waits_on(self) -> int:
        return self._packed.waits_on()

    def close(self) -> None:
        self._packed.close()


class ZstdCommand:
    """zstd by its command, where Python lacks the package; a thread feeds it."""

    def __init__(self, packed: Source) -> None:
        self._packed = packed
        self._process = subprocess.Popen(
            ["zstd", "-dcq"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout
        self._out = File(self._process.stdout.fileno(), "-", follow=False)
        self._closing = False
        self._thread = threading.Thread(target=self._pump, name="kshark-zstd", daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        piece = memoryview(bytearray(PIECE))
        assert self._process.stdin
        try:
            while not self._closing:
                count = self._packed.fill(piece)
                if count is None:
                    pause(self._packed.waits_on(), PAUSE)
                elif count:
                    self._process.stdin.write(piece[:count])
                    self._process.stdin.flush()
                else:
                    break
            self._process.stdin.close()
        except (OSError, ValueError, Damaged):
            pass  # zstd went away: its exit status tells

    def fill(self, room: memoryview) -> int | None:
        count = self._out.fill(room)
        if count == 0 and self._process.wait():
            raise Damaged("the compressed data is damaged or ends early")
        return count

    def waits_on(self) -> int:
        return self._out.waits_on()

    def close(self) -> None:
        self._closing = True
        self._process.kill()
        self._process.wait()
        self._thread.join(2 * PAUSE)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except OSError:
                pass  # what was buffered for a dead zstd


def unpacked(file: File, name: str, follow: bool) -> Generator[int, None, Source]:
    """The capture's own bytes, once its first ones are there; yields what to wait on until then."""
    head, piece = b"", memoryview(bytearray(_packed.LONGEST))
    while len(head) < _packed.LONGEST:
        count = file.fill(piece[len(head) :])
        if count is None:
            yield file.waits_on()
            continue
        if not count:
            break
        head = bytes(piece[: len(head) + count])
    source, packing = Pushed(file, head), _packed.kind(head)
    if not packing:
        return source
    if follow:
        raise PluginError(f"{name} is {packing}-compressed: follow works on plain captures only")
    make = _packed.maker(packing)
    if make is not None:
        return Unpacked(source, make)
    if shutil.which("zstd") is None:
        raise PluginError(f"{name} {ZSTD_MISSING}")
    return ZstdCommand(source)


def pause(fd: int, seconds: float | None = None) -> None:
    """Wait, and block, until `fd` is readable (or `seconds` are over)."""
    poll = select.poll()
    if fd != MOMENT:
        poll.register(fd, select.POLLIN)
    elif seconds is None:
        seconds = PAUSE
    poll.poll(None if seconds is None else int(seconds * 1000))
