"""Packets that programs in the kernel copy into a ring: the common part of the ``tc`` and ``cgroup`` backends.

Nobody is woken for a packet: we look at the ring by a timer, the oftener the more comes. Invariants: a block's
memory is the consumer's until it asks for the next one; what did not fit the ring is in ``stats().dropped``.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Final, Protocol

from kshark.api import Block, CaptureStats, Flow
from kshark.backends import _privileges
from kshark.backends._libbpf import BpfError, Object
from kshark.backends._loaded import Wanted, load, watch_makers
from kshark.backends._looks import BLOCK, ROW, Pace, lent, room
from kshark.backends._owners import Owners
from kshark.backends._ringbuf import Ring
from kshark.backends._shift import Shift
from kshark.limits import NOTES

ETHERNET, RAW_IP = 1, 101
"""Link types of the blocks (LINKTYPE_*), in the order of the kinds of bpf/packet.bpf.c."""
MAKERS: Final = 2
"""The kind after them: whose a socket is."""
FULL, UNREADABLE, FOREIGN, CUT, COUNTERS = range(5)
"""Counters of bpf/packet.bpf.c, and how many."""
LEAST: Final = 8 + 16 + 88
"""Bytes of the smallest record: header, head, and who made a socket."""
CHECK: Final = 1.0
"""Seconds between two looks whether the programs are attached still."""


class Points(Protocol):
    """Where the programs are attached: the links of some namespaces, or a cgroup."""

    @property
    def names(self) -> tuple[str, ...]:
        """What `Block.ifaces` says."""
        ...

    def attach(self, programs: Callable[[], Object]) -> None:
        """Load programs, once or oftener, and attach them; `PluginError` for what a user can mend."""
        ...

    def follow(self) -> None:
        """Take in what has changed, without waiting."""
        ...

    def check(self) -> None:
        """Look whether all is attached still."""
        ...

    def detach(self) -> None:
        """Nothing new comes in from now on; may be called twice."""
        ...


class Packets:
    """Live packets; see the module. Opened by `open`, or by the first step of `blocks`."""

    live = True
    drains = True

    def __init__(self, wanted: Wanted, points: Callable[[Callable[[str], None]], Points]) -> None:
        self._wanted = wanted
        self._notes: list[str] = []
        self._points = points(self._note)
        self._objects: list[Object] = []
        self._ring: Ring | None = None
        self._counts: list[int] = [0] * COUNTERS
        self._received = 0
        self._shift = Shift()
        self._owners = Owners()
        self._closing = self._running = False

    def open(self) -> None:
        """Load and attach the programs, then drop privileges where the user asks for it."""
        if self._ring is not None or self._closing:
            return
        self._wanted.check()
        with ExitStack() as undo:
            undo.callback(self.release)
            self._points.attach(self._load)
            if self._wanted.options.user:
                _privileges.drop(self._wanted.options.user)
            undo.pop_all()

    def name(self, flow: Flow) -> None:
        """Say which processes the ends of a flow are, where that is known."""
        self._owners.name(flow)

    async def blocks(self) -> AsyncIterator[Block]:
        """The packets, a block at a time, until `close`; each is borrowed until the next step."""
        self.open()
        self._running = True
        pace, checked, clock = Pace(), 0.0, asyncio.get_running_loop().time
        try:
            while not self._closing:
                self._points.follow()
                if clock() - checked > CHECK:
                    self._points.check()
                    checked = clock()
                found = 0
                for block in self._read():
                    found += len(block.data)
                    yield block
                await asyncio.sleep(pace.pause(found))
            self._points.detach()
            while self._objects and self._ring and self._ring.waiting and not self._ring.unsound:
                for block in self._read():
                    yield block
                await asyncio.sleep(0)  # a packet may be being written still
        finally:
            self._running = False
            self.release()

    def stats(self) -> CaptureStats:
        """Packets handed over, and those that were lost: ``kernel`` (the ring was full)."""
        self._count()
        counts = self._counts
        unsound = self._ring.unsound if self._ring else 0
        lost = {"kernel": counts[FULL], "unreadable": counts[UNREADABLE], "unsound": unsound}
        for number, text in (
            (FULL, "the ring was full: set a larger ring_bytes, or filter by ports"),
            (
                CUT,
                f"packets of more than {self._wanted.options.snaplen} bytes are cut: see snaplen",
            ),
            (FOREIGN, "packets of a link that has neither Ethernet nor IP are left out"),
        ):
            if counts[number] and text not in self._notes:
                self._note(text)
        return CaptureStats(self._received, {r: n for r, n in lost.items() if n}, list(self._notes))

    async def close(self) -> None:
        """End `blocks`, once it has given what the ring holds."""
        self._closing = True
        if not self._running:
            self.release()

    def _load(self) -> Object:
        """The programs, loaded once more, with the ring and the counters of the first."""
        found = load(self._wanted, self._objects[:1])
        self._objects.append(found)
        if self._ring is None:
            ring = found.map("ring")
            self._ring = Ring(ring.fd, ring.size)
            self._rows = [room(LEAST) for _ in range(MAKERS + 1)]
            if self._wanted.options.processes:
                self._watch_makers(found)
        return found

    def _watch_makers(self, first: Object) -> None:
        try:
            self._objects.append(watch_makers(self._wanted, first))
        except BpfError as error:
            # Without the capability the verifier knows no such calls.
            denied = error.errno in (errno.EPERM, errno.EACCES, errno.EINVAL)
            why = "that needs CAP_PERFMON, and Linux 5.12" if denied else error.strerror
            self._note(f"the processes of packets have no names: {why}")

    def _read(self) -> Iterator[Block]:
        """What the ring holds, as blocks of one link type each."""
        if self._ring is None:
            return
        data, counts = self._ring.read(BLOCK, self._shift.now(), self._rows)
        for at in memoryview(self._rows[MAKERS])[: counts[MAKERS] * ROW].cast("I")[2 :: ROW // 4]:
            self._owners.tell(data[at:])
        views = [data]
        with lent(views):
            for rows, count, linktype in zip(self._rows, counts, (ETHERNET, RAW_IP), strict=False):
                if count:
                    views.append(data[:])
                    self._received += count
                    index = memoryview(rows)[: count * ROW]
                    yield Block(views[-1], index, count, linktype, self._points.names)
        self._ring.give_back()

    def _count(self) -> None:
        if self._objects:
            self._counts = self._objects[0].map("counts").counters(COUNTERS)

    def _note(self, text: str) -> None:
        if len(self._notes) < NOTES:
            self._notes.append(text)

    def release(self) -> None:
        """Detach and close everything that is open."""
        self._closing = True
        self._points.detach()
        self._count()
        objects, self._objects = self._objects, []
        for found in reversed(objects):
            found.close()
        if self._ring is not None:
            self._ring.close()
