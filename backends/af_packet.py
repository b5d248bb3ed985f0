"""The ``af_packet`` backend: live packets of this machine's interfaces (Linux, CAP_NET_RAW).

One TPACKET_V3 ring a network namespace, all interfaces in it, timestamps of the kernel in nanoseconds.
Invariants: a block's memory is the consumer's until it asks for the next one; each packet of the loopback
comes once; what the kernel dropped since nobody read is in ``stats().dropped["kernel"]``.
VLAN tags that the kernel took off stay off.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Final

from kshark.api import BackendSpec, Block, CaptureStats, Options, PluginError, hookimpl, option
from kshark.backends import _bpf, _netns, _privileges
from kshark.backends._ring import RETIRE_MS, Shape
from kshark.backends._tap import Numbers, Plan, Tap, globs, index_bytes, unmatched
from kshark.limits import KIB, MIB, NOTES

SNAPLEN: Final = 256 * KIB


class AfPacketOptions(Options):
    """Options of the ``af_packet`` backend."""

    target: Annotated[
        str | list[str], option("Interfaces by name or glob, joined by + (eth*+lo); all if empty")
    ] = ""
    bpf: Annotated[
        str, option("Only packets that match this tcpdump expression; the kernel checks it")
    ] = ""
    netns: Annotated[
        list[str],
        option("Network namespaces instead of our own: path, `ip netns` name or process id"),
    ] = []
    ring_bytes: Annotated[
        int, option("Memory for packets that wait, shared out among the namespaces", unit="bytes")
    ] = 32 * MIB
    block_bytes: Annotated[int, option("Memory of one block of a ring", unit="bytes")] = MIB
    snaplen: Annotated[int, option("Bytes taken of each packet", unit="bytes")] = SNAPLEN
    fanout: Annotated[
        int, option("Group of the worker processes that share the packets; 0 is none")
    ] = 0
    worker: Annotated[
        int, option("Number of this worker in its group; only the first notes links")
    ] = 0
    user: Annotated[
        str, option("Become this user, without privileges, once the sockets are open")
    ] = ""
    promisc: Annotated[bool, option("Take frames that are addressed to other stations, too")] = (
        False
    )


class AfPacket:
    """Live packets; see the module. Opened by `open`, or by the first step of `blocks`."""

    live = True
    drains = True

    def __init__(self, options: AfPacketOptions) -> None:
        self._options = options
        self._taps: list[Tap] = []
        self._numbers = Numbers()
        self._epoll: select.epoll | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closing = False
        self._running = False
        self._received = 0
        self._notes: list[str] = []
        self._said: set[str] = set()

    def open(self) -> None:
        """Open the sockets and rings, then drop privileges where the user asks for it."""
        if self._epoll is not None or self._closing:
            return
        reason = _privileges.missing()
        if reason:
            raise PluginError(f"af_packet: {reason}")
        options = self._options
        places = _netns.distinct(options.netns)
        plan = self._plan(len(places))
        taps: list[Tap] = []
        with ExitStack() as undo:
            for place, netns in enumerate(places):
                tap = Tap(place, netns, plan, self._numbers, self._note)
                undo.callback(tap.close)
                taps.append(tap)
            if why := unmatched(plan.globs, taps):
                raise PluginError(f"af_packet: {why}")
            for tap in taps:
                tap.start()
            if options.user:
                _privileges.drop(options.user)
            undo.pop_all()
        self._index = bytearray(index_bytes(plan.shape)), bytearray(index_bytes(plan.shape))
        self._taps = taps
        self._watch()

    async def blocks(self) -> AsyncIterator[Block]:
        """The packets, a block at a time, until `close`; each is borrowed until the next step."""
        self.open()
        self._running = True
        try:
            while not self._closing:
                ready = self._ready()
                for tap in ready:
                    found = tap.read(*self._index)
                    for block in found:
                        self._received += block.count
                        yield block
                    tap.give_back(found)
                    await asyncio.sleep(0)  # others have their turn, however busy the ring is
                if not ready:
                    await self._wait()
            async for block in self._rest():
                yield block
        finally:
            self._running = False
            self._release()

    async def _rest(self) -> AsyncIterator[Block]:
        """What the rings hold at the end: nothing new comes in, what has come is handed over."""
        if self._epoll is None or self._epoll.closed:
            return
        for tap in self._taps:
            tap.ring.filter(_bpf.REJECT)
        await asyncio.sleep(2 * RETIRE_MS / 1_000)
        for tap in self._taps:
            while tap.ring.ready:
                found = tap.read(*self._index)
                for block in found:
                    self._received += block.count
                    yield block
                tap.give_back(found)

    def stats(self) -> CaptureStats:
        """Packets handed over, and those that were lost: ``kernel`` (nobody read in time)."""
        kernel = unsound = 0
        for tap in self._taps:
            tap.ring.count()
            kernel += tap.ring.dropped
            unsound += tap.walker.unsound
            if tap.ring.freezes:
                self._note_once("the ring was full: set a larger ring_bytes, or filter by bpf")
            if tap.walker.foreign:
                self._note_once("frames of a link that has neither Ethernet nor IP are left out")
        lost = {"kernel": kernel, "unsound": unsound}
        dropped = {reason: count for reason, count in lost.items() if count}
        return CaptureStats(self._received, dropped, list(self._notes))

    async def close(self) -> None:
        """End `blocks`, once it has given what the rings hold."""
        self._closing = True
        if self._waiter is not None:
            _wake(self._waiter)
        elif not self._running:
            self._release()

    def _plan(self, places: int) -> Plan:
        """What the options mean, for each of so many namespaces."""
        options = self._options
        for name, least, most in _RANGES:
            if not least <= getattr(options, name) <= most:
                raise PluginError(f"af_packet: {name} must be between {least} and {most}")
        return Plan(
            globs(options.target),
            _bpf.compile_expression(options.bpf, options.snaplen),
            Shape(options.ring_bytes // places, options.block_bytes),
            options.fanout,
            options.promisc,
        )

    def _note(self, text: str) -> None:
        if self._options.worker == 0 and len(self._notes) < NOTES:
            self._notes.append(text)

    def _note_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._note(text)

    def _watch(self) -> None:
        """One descriptor that is readable when any ring or link has news."""
        self._epoll = select.epoll()
        self._rings = {tap.ring.fileno(): tap for tap in self._taps}
        self._links = {tap.links.fileno(): tap for tap in self._taps}
        for descriptor in (*self._rings, *self._links):
            self._epoll.register(descriptor, select.EPOLLIN)

    def _ready(self) -> list[Tap]:
        """Follow the links; give the taps that have a block, each once."""
        assert self._epoll is not None
        events = [descriptor for descriptor, _ in self._epoll.poll(0)]
        for descriptor in events:
            if descriptor in self._links:
                self._links[descriptor].refresh()
        return [self._rings[d] for d in events if d in self._rings and self._rings[d].ring.ready]

    async def _wait(self) -> None:
        """Until any descriptor is readable, or `close`.

        The reader is there only while we wait: a block that the consumer still holds keeps the
        descriptor readable, and the loop would spin.
        """
        assert self._epoll is not None
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        loop.add_reader(self._epoll.fileno(), _wake, self._waiter)
        try:
            await self._waiter
        finally:
            loop.remove_reader(self._epoll.fileno())
            self._waiter = None

    def _release(self) -> None:
        """Close everything that is open."""
        self._closing = True
        if self._epoll is not None and not self._epoll.closed:
            self._epoll.close()
        for tap in self._taps:
            tap.close()


_RANGES: Final = (
    ("ring_bytes", 2 * 4 * KIB, 1 << 32),
    ("block_bytes", 4 * KIB, 16 * MIB),
    ("snaplen", 64, MIB),
    ("fanout", 0, 65_535),
)
"""Options, least and most. ring_bytes: tp_block_nr times tp_block_size is 32 bits in the kernel."""


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="af_packet",
            make=AfPacket,
            options=AfPacketOptions,
            doc="Live packets of this machine's network interfaces, by a ring shared with the kernel.",
            available=_privileges.missing,
            rank=10,
        )
    ]
