"""Bytes to a file descriptor, without ever blocking the event loop for long.

Pipes and terminals are written without blocking: standard output is opened afresh through ``/proc``,
because setting ``O_NONBLOCK`` on the inherited description would change it for the shell as well. A
regular file is written in the loop while that is quick, and in a thread while it is slow (*measured*,
400 KB into the page cache beside a busy loop: 4 ms in the loop; 37 ms in a thread, most of it
spent waiting for the interpreter's lock).

What could not be written stays in `pending`: nothing is lost between two tries, and no line is halved.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from kshark.api import Entry, PluginError, SinkBusy

STDOUT: Final = "-"
PIECE: Final = 1 << 20
"""Bytes given to one write; between two the loop runs."""
SLOW_WRITE: Final = 0.01
"""Seconds that a write to a file may take before the next ones go to a thread."""
FULL_TRIES: Final = 10
"""Times in a row that a full disk is answered with `SinkBusy` before the sink gives up: about 10 s."""
CLOSE_WAIT: Final = 1.0
"""Seconds that closing waits for a reader who does not read."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENXIO)


def problem(name: str, error: OSError) -> PluginError:
    """One clear line for what the system refused."""
    if error.errno in _GONE:
        return PluginError(
            "standard output was closed" if name == STDOUT else f"{name}: nobody reads it"
        )
    where = _where(name)
    if error.errno in _FULL:
        return PluginError(f"{where}: the disk is full; free space or choose another target")
    return PluginError(f"{where}: {os.strerror(error.errno or errno.EIO).lower()}")


def _where(name: str) -> str:
    return "standard output" if name == STDOUT else name


def _open_stdout() -> int:
    """Standard output: pipes and terminals as a description of our own that does not block."""
    mode = os.fstat(1).st_mode
    if stat.S_ISFIFO(mode) or os.isatty(1):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open("/proc/self/fd/1", flags)
        except OSError:  # another user's pipe (privileges were dropped), or no /proc: see _sender
            pass
    return os.dup(1)


def open_target(name: str, *, truncate: bool = False, mode: int = 0o666) -> int:
    """A descriptor for standard output ("-") or a path, to which everything is appended.

    Raises `PluginError`. A FIFO without a reader is refused and not waited for.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if name == STDOUT:
            return _open_stdout()
        return os.open(name, flags | (os.O_TRUNC if truncate else 0), mode)
    except OSError as error:
        raise problem(name, error) from None


class Held:
    """The batch that is being written, to know it again after `SinkBusy`."""

    def __init__(self) -> None:
        self._batch: Sequence[Entry] = ()

    def resumes(self, batch: Sequence[Entry]) -> bool:
        """Whether this batch was begun and not finished. It is held from now on."""
        held, self._batch = self._batch, batch
        return bool(held and batch) and held[0] is batch[0]

    def done(self) -> None:
        """It was written: hold it, and the bodies in it, no longer."""
        self._batch = ()


class Output:
    """An open descriptor and what still has to be written to it."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        mode = os.fstat(fd).st_mode
        self.regular = stat.S_ISREG(mode)
        self.unread = False  # it waits for who reads it
        self.pending: deque[memoryview] = deque()
        self._send = _sender(fd, mode)
        self._slow = False
        self._refused = 0

    def put(self, data: bytes) -> None:
        """Take bytes to be written by the next `flush`."""
        if data:
            self.pending.append(memoryview(data))

    def flush_now(self) -> None:
        """Write what can be written at once; whatever stands in the way shows at the next `flush`."""
        with suppress(OSError):
            while self.pending:
                self._taken(self._send(self.pending[0]))

    async def flush(self) -> None:
        """Write all that is pending. Raises `SinkBusy` (call again) or `PluginError` (give up)."""
        while self.pending:
            try:
                await self._write()
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._refuse(error)
            else:
                self._refused = 0

    async def close(self) -> None:
        """Write the rest if its reader takes it soon, and close."""
        try:
            async with asyncio.timeout(CLOSE_WAIT):
                await self.flush()
        except SinkBusy as busy:
            raise PluginError(str(busy)) from None
        except TimeoutError:
            left = sum(map(len, self.pending))
            where = _where(self.name)
            raise PluginError(f"{where}: {left} bytes were not taken by the reader") from None
        finally:
            self.pending.clear()
            os.close(self.fd)

    def _refuse(self, error: OSError) -> None:
        trouble = problem(self.name, error)
        self._refused += 1
        if self.regular and error.errno in _FULL and self._refused <= FULL_TRIES:
            raise SinkBusy(str(trouble)) from None
        self.pending.clear()
        raise trouble from None

    async def _write(self) -> None:
        """One write of what is pending, which becomes shorter by what was taken."""
        piece = self.pending[0][:PIECE]
        start = time.monotonic()
        written = await self._in_thread(piece) if self._slow else self._send(piece)
        self._slow = self.regular and time.monotonic() - start > SLOW_WRITE
        self._taken(written)
        if self.pending:
            await asyncio.sleep(0)

    def _taken(self, size: int) -> None:
        """So many bytes of the first piece are written."""
        rest = self.pending.popleft()[size:]
        if rest:
            self.pending.appendleft(rest)

    async def _in_thread(self, piece: memoryview) -> int:
        """Write in a thread; cancelled, wait for it all the same, since what it wrote is written."""
        task = asyncio.ensure_future(asyncio.to_thread(self._send, piece))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._taken(await task)
            raise

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self.fd, ready.set)
        self.unread = True
        try:
            await ready.wait()
        finally:
            self.unread = False
            loop.remove_writer(self.fd)


def _sender(fd: int, mode: int) -> Callable[[memoryview], int]:
    """How to write to this kind of descriptor without blocking."""
    if stat.S_ISSOCK(mode):
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

        def send(piece: memoryview) -> int:
            with socket.socket(fileno=os.dup(fd)) as peer:
                return peer.send(piece, flags)

        return send
    if os.get_blocking(fd) and (stat.S_ISFIFO(mode) or os.isatty(fd)):
        return lambda piece: _careful_write(fd, piece)
    return lambda piece: os.write(fd, piece)


def _careful_write(fd: int, piece: memoryview) -> int:
    """For a blocking pipe: pipe(7) promises that, once writable, PIPE_BUF bytes do not block."""
    _, writable, _ = select.select((), (fd,), (), 0)
    if not writable:
        raise BlockingIOError
    return os.write(fd, piece[: select.PIPE_BUF])
