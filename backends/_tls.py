"""TLS in clear: which files hold a TLS library, and the programs of bpf/tls.bpf.c at their functions.

A probe is at a file: it serves every process that maps that file, now and later. Files are found in the maps of all
processes at the start, in the places of libraries (so that a program that lives for a moment is read as well), and
when a file with code is mapped for the first time that anybody does: the kernel tells, and a thread looks, some 10 ms
later. Containers have files of their own, which are reached through the process.

Invariants: a file that cannot be hooked has its reason kept; whatever is attached goes with this process.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from glob import glob
from struct import Struct
from typing import Any, Final, NamedTuple

from kshark.api import Coverage
from kshark.backends import _libbpf, _tls_cost
from kshark.backends._libbpf import BpfError, Object
from kshark.backends._maps import FileKey, Mapped, mapped, processes
from kshark.backends._sockets import Wanted
from kshark.backends._tls_coverage import Seen, cover
from kshark.backends._tls_files import Found, examine
from kshark.bpf import program
from kshark.limits import TLS_FILES, TLS_PROCESSES

NEWS: Final = Struct("<IIQQ44s16s4x")
"""struct ks_news_record of bpf/clear.h behind its head: what, process, device, inode, ends, name."""
UNBOUND, FILE_MAPPED = 0, 1
SLOTS: Final = 2
"""SLOTS of bpf/clear.h."""
SHARED: Final = ("ring", "questions", "pids", "comms", "ports", "spaces", "groups")
"""Maps of the programs at sockets that these use, too."""
PLACES: Final = (
    "/lib*/libssl.so*",
    "/lib/*/libssl.so*",
    "/usr/lib*/libssl.so*",
    "/usr/lib/*/libssl.so*",
    "/usr/local/lib*/libssl.so*",
    "/usr/lib*/libgnutls.so*",
    "/usr/lib/*/libgnutls.so*",
)
LOST: Final = ("tls_ring", "tls_slot", "tls_unreadable")
"""Reasons, in the order of `enum ks_counter` in bpf/clear.h; then bytes cut, calls hidden."""
CUT, HIDDEN, COUNTERS = 3, 4, 5
AT_SOCKETS: Final = ("sock_send_length", "sock_recv_length", "vm_unmapped_area")
"""Tracepoints (Linux 6.3) that tell what else system calls do, all of which are slower while one is watched."""
AGAIN: Final = (0.0, 0.1)
"""Seconds after the news of a file when its process is looked at: what it maps first, and what it maps then."""
NAMES: Final = 6
"""Files that the first line names."""
SWEEP: Final = 60.0
"""Seconds after which files that nobody maps any more are let go."""


class File(NamedTuple):
    """A file that was looked at."""

    path: str
    found: Found
    links: tuple[int, ...] = ()
    why: str = ""  # it is not hooked

    @property
    def hooked(self) -> bool:
        return bool(self.links)


class Task(NamedTuple):
    """For the thread: look at a process, which mapped a new file, or was seen to speak TLS."""

    at: float
    pid: int
    file: bytes


class Tls:
    """The hooks, from `start` to `close`. `note` hears what a user should know."""

    def __init__(self, sockets: Object, wanted: Wanted, note: Callable[[str], None]) -> None:
        self._note = note
        self.files: dict[FileKey, File] = {}
        self.coverage: dict[int, Coverage] = {}
        self._counts = [0] * COUNTERS
        self._numbered: dict[int, str] = {}  # libraries, by the number of their file
        self._speakers: dict[int, str] = {}
        self._said: set[tuple[str, str]] = set()
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = self._nested = False
        at_sockets = _libbpf.has_tracepoints(AT_SOCKETS)
        self._around = "passing_" if at_sockets else "during_"
        self._programs = Object(
            program("tls"),
            without="during_" if at_sockets else "passing_",
            constants={"own_pid": os.getpid(), "payload": wanted.payload},
            sizes={"slots": _libbpf.cpus() * SLOTS},
            share=[sockets.map(name) for name in SHARED],
        )
        try:
            self._programs.load()
        except BaseException:
            self._programs.close()
            raise

    def start(self) -> None:
        """Hook what is there, and watch for what comes."""
        price = _tls_cost.told(_tls_cost.cost(self._programs))
        for name in ("on_connection", "on_exec", f"{self._around}mmap"):
            self._programs.attach(name)
        self._look(Mapped(_key(path), 0, path, "") for path in libraries())
        for pid in processes():
            self._look(mapped(pid) or ())
        self._thread = threading.Thread(target=self._work, name="kshark-tls", daemon=True)
        self._thread.start()
        hooked = listed(file.path for file in self.hooked)
        if hooked or not self.refused:
            self._note(f"TLS in clear: {hooked or 'no library yet'}{'; ' * bool(price)}{price}")
        for why, paths in self.refused.items():
            self._note(f"TLS of {listed(paths)} is not read in clear: {why}")

    def tell(self, record: Any) -> tuple[int, bytes, bytes] | None:
        """Take in a record of the ring; of a session without connection, give process, ends and name."""
        what, pid, device, inode, ends, name = NEWS.unpack_from(record)
        if what == UNBOUND:
            return pid, ends, name
        seen = Struct("<QQ").pack(device, inode)
        for pause in AGAIN:
            self._queue.put(Task(time.monotonic() + pause, pid, seen))
        return None

    def counts(self) -> list[int]:
        """What was lost and left out, in the order of `LOST`, `CUT`, `HIDDEN`."""
        if not self._closed:
            self._counts = self._programs.map("clear_counts").counters(COUNTERS)
        return self._counts

    def speaks(self, pid: int | None, name: str | None) -> None:
        """A process was seen to speak TLS: see whether it is read in clear."""
        if pid and pid not in self._speakers and len(self._speakers) < TLS_PROCESSES:
            self._speakers[pid] = name or ""
            self._queue.put(Task(time.monotonic(), pid, b""))

    def close(self) -> None:
        """Detach everything. It takes a while: the kernel waits until nobody is in a program."""
        self.counts()
        with self._lock:
            self._closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        self._programs.close()

    @property
    def hooked(self) -> list[File]:
        return [file for file in list(self.files.values()) if file.hooked]

    @property
    def refused(self) -> dict[str, list[str]]:
        """Files with a library that are not hooked, by the reason."""
        found: dict[str, list[str]] = {}
        for file in list(self.files.values()):
            if file.found.library and file.why:
                found.setdefault(file.why, []).append(file.path)
        return found

    def _work(self) -> None:
        """The thread: look at processes that mapped a new file."""
        due: list[Task] = []
        last = time.monotonic()
        while not self._closed:
            now = time.monotonic()
            pause = min([task.at for task in due] + [last + SWEEP]) - now
            try:
                item = self._queue.get(timeout=max(pause, 0.001))
                if item is None:
                    return
                due.append(item)
            except queue.Empty:
                pass
            now = time.monotonic()
            for task in due:
                if task.at <= now:
                    self._do(task)
            due = [task for task in due if task.at > now]
            if now - last >= SWEEP:
                last = now
                self._sweep()

    def _do(self, task: Task) -> None:
        there = mapped(task.pid)
        self._look(there or ())
        if task.file:
            if there is None:  # gone before we came: whoever maps it next shall be told of
                self._programs.map("files").drop(task.file)
            return
        name = self._speakers[task.pid]
        if library := self._reader(task.pid):
            self.coverage[task.pid] = Coverage(task.pid, name, library, True)
        elif there and (found := cover(task.pid, name, self._seen, speaks=True)):
            self.coverage[task.pid] = found
            if not found.hooked and (name, found.why) not in self._said and len(self._said) < NAMES:
                self._said.add((name, found.why))
                self._note(f"TLS of {name} ({found.pid}) is not read in clear: {found.why}")

    def _seen(self, one: Mapped) -> Seen:
        file = self.files.get(one.key)
        return Seen(Found()) if file is None else Seen(file.found, file.why)

    def _look(self, there: Iterable[Mapped]) -> None:
        for one in there:
            if one.key not in self.files and one.key[1] and not self._closed:
                self.files[one.key] = self._hook(one)

    def _reader(self, pid: int) -> str:
        """The library at which a process was read already, "" if it was not."""
        raw = self._programs.map("readers").get(pid.to_bytes(4, sys.byteorder))
        return self._numbered.get(int.from_bytes(raw, sys.byteorder), "") if raw else ""

    def _hook(self, one: Mapped) -> File:
        """Examine a file, and attach to it."""
        path = one.open_as() if one.pid else one.path
        found = examine(path)
        if not found.probes:
            return File(one.path, found, why=found.why)
        if len(self.hooked) >= TLS_FILES:
            return File(one.path, found, why=f"over {TLS_FILES} files are hooked")
        links: list[int] = []
        number = len(self._numbered) + 1
        self._numbered[number] = found.library
        try:
            with self._lock:
                if self._closed:
                    return File(one.path, found, why="it is the end")
                self._watch_calls()
                links.extend(  # those before the one that is refused stay in it
                    self._programs.attach_uprobe(one.program, path, one.offset, cookie=number)
                    for one in found.probes
                )
        except BpfError as error:
            for link in links:
                self._programs.unlink(link)
            return File(one.path, found, why=explained(error))
        return File(one.path, found, tuple(links))

    def _watch_calls(self) -> None:
        """What a library's functions call: only once there is one."""
        if not self._nested:
            self._nested = True
            for name in self._programs.loaded:
                if name.startswith(self._around) and not name.endswith("mmap"):
                    self._programs.attach(name)

    def _sweep(self) -> None:
        """Let go of files that no process maps; those in the places of libraries stay."""
        used = {one.key for pid in processes() for one in mapped(pid) or ()}
        used |= {_key(path) for path in libraries()}
        for key in [key for key in self.files if key not in used]:
            for link in self.files.pop(key).links:
                self._programs.unlink(link)


def begin(sockets: Object, wanted: Wanted, note: Callable[[str], None]) -> Tls | None:
    """Hook TLS; without it, where that cannot be, the rest goes on, and a note says why."""
    try:
        made = Tls(sockets, wanted, note)
    except BpfError as error:
        note(f"TLS is not read in clear: {error.strerror}")
        return None
    try:
        made.start()
    except BpfError as error:
        made.close()
        note(f"TLS is not read in clear: {explained(error)}")
        return None
    return made


def libraries() -> list[str]:
    """TLS libraries of this machine, in use or not."""
    found = (os.path.realpath(path) for place in PLACES for path in glob(place))
    return list(dict.fromkeys(found))


def listed(paths: Iterable[str]) -> str:
    """The names of some files, for a line."""
    names = sorted({path.rpartition("/")[2] for path in paths})
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more


def explained(error: BpfError) -> str:
    """Why a probe is refused."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return "needs CAP_SYS_ADMIN"
    return str(error.strerror)


def _key(path: str) -> FileKey:
    """As a process's maps have it."""
    try:
        stat = os.stat(path)
    except OSError:
        return "", 0
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}", stat.st_ino
