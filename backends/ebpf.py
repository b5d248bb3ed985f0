"""The ``ebpf`` backend: what processes send and receive, with their names, by programs in the kernel (Linux >= 5.13).

Each call that moves bytes through a socket comes as an IP packet with the connection's own numbers (bpf/segment.h),
so a flow is put together as from a network, and what did not fit the ring is a gap of known size and place.
Beside that comes who it was: `Owners`. Not seen are io_uring, sockets of the kernel, what is forwarded, and the bytes
(not the number) of sendfile and splice.

Invariants: a block's memory is the consumer's until it asks for the next one; what was lost is in ``stats()``, by
reason. Everything in the kernel goes with this process, however it ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Annotated, Final

from kshark.api import (
    BackendSpec,
    Block,
    CaptureStats,
    Coverage,
    Flow,
    Options,
    PluginError,
    hookimpl,
    option,
)
from kshark.backends import _hooks, _privileges, _sockets, _tls, _uring
from kshark.backends._libbpf import BpfError, Object
from kshark.backends._looks import BLOCK, ROW, Pace, lent, room
from kshark.backends._opaque import mark
from kshark.backends._owners import Owners
from kshark.backends._pressure import Pressure
from kshark.backends._ringbuf import Ring
from kshark.backends._shift import Shift
from kshark.backends._sockets import Wanted
from kshark.backends._tls import Tls
from kshark.backends._tls_coverage import machine
from kshark.limits import KIB, MIB, NOTES

RAW_IP: Final = 101
"""Link type of the blocks (LINKTYPE_RAW)."""
IFACES: Final = ("sockets",)
LOST: Final = (
    "ring",
    "scratch",
    "calls",
    "messages",
    "unreadable",
    "unaddressed",
    "sampled",
    "missed",
)
"""Reasons, in the order of `enum ks_counter` in bpf/moved.h."""
SAMPLED, MISSED, CUT, UNSEEN, TWICE, OPAQUE, COUNTERS = 6, 7, 8, 9, 10, 11, 12
"""Some of them, the other counters there, and how many."""
CUT_TLS: Final = "calls of TLS libraries with more than {} bytes are cut: see payload"
LEAST: Final = 8 + 16 + 28
"""Bytes of the smallest record: header, head, and the headers of a packet."""
FILTERS: Final = ("ports", "pids", "comms", "netns", "cgroups")
"""Options that may change while it runs."""
LOOK: Final = 1.0
"""Seconds between two looks at whether it is too much."""


class EbpfOptions(Options):
    """Options of the ``ebpf`` backend."""

    ports: Annotated[
        list[int],
        option("Only sockets with one of these ports at either end; the kernel checks it"),
    ] = []
    pids: Annotated[list[int], option("Only calls of these processes; the kernel checks it")] = []
    comms: Annotated[
        list[str], option("Only calls of processes of these names (15 bytes); the kernel checks it")
    ] = []
    netns: Annotated[
        list[str],
        option("Only sockets of these network namespaces: path, `ip netns` name or process id"),
    ] = []
    cgroups: Annotated[
        list[str],
        option(
            "Only calls of processes in these control groups (paths) or below; the kernel checks it"
        ),
    ] = []
    hooks: Annotated[
        _hooks.Names,
        option("Where calls are hooked; auto tries them in this order, bcc where there is no BTF"),
    ] = "auto"
    payload: Annotated[int, option("Bytes taken of each call", unit="bytes")] = 16 * KIB
    ring_bytes: Annotated[
        int, option("Memory for calls that wait, rounded up to a power of two", unit="bytes")
    ] = 64 * MIB
    tls: Annotated[
        bool, option("Read what processes send over TLS, in clear, at their TLS libraries")
    ] = True
    user: Annotated[
        str, option("Become this user, without privileges, once the programs are attached")
    ] = ""


def wanted_by(options: EbpfOptions) -> Wanted:
    """What these options ask of the programs; `PluginError` for what cannot be."""
    wanted = Wanted(
        options.ports,
        options.pids,
        options.comms,
        options.netns,
        options.cgroups,
        options.payload,
        options.ring_bytes,
    )
    wanted.check()
    return wanted


class Ebpf:
    """Live calls; see the module. Opened by `open`, or by the first step of `blocks`."""

    live = True
    drains = True

    def __init__(self, options: EbpfOptions) -> None:
        self._options = options
        self._wanted = wanted_by(options)
        self._owners = Owners()
        self._pressure = Pressure(options.payload)
        self._looked, self._fullest, self._lost = 0.0, 0, 0
        self._facts: dict[str, str] = {}
        self._shift = Shift()
        self._any_opaque = False
        self._questions = _sockets.questions(Wanted())
        self._programs: _hooks.Programs | None = None
        self._tls: Tls | None = None
        self._ring: Ring | None = None
        self._counts = [0] * COUNTERS
        self._received = 0
        self._notes: list[str] = []
        self._closing = self._running = False
        self._tls_counts = [0] * _tls.COUNTERS
        self._covered: list[Coverage] = []
        self._announced = True  # that there will be blocks of what is within connections

    def open(self) -> None:
        """Load and attach the programs, then drop privileges where the user asks for it."""
        if self._ring is not None or self._closing:
            return
        with ExitStack() as undo:
            undo.callback(self._release)
            try:
                self._load()
            except BpfError as error:
                raise PluginError(f"ebpf: {_sockets.explained(error)}") from None
            if self._options.user:
                _privileges.drop(self._options.user)
            undo.pop_all()

    def name(self, flow: Flow) -> None:
        """Say which processes the ends of a flow are, where that is known."""
        self._owners.name(flow)
        if flow.protocol == "tls" and self._tls is not None:
            for end in (flow.client, flow.server):
                self._tls.speaks(end.pid, end.comm)

    def renew(self, options: EbpfOptions) -> None:
        """Other filters from now on; `PluginError` for what cannot be, or not while it runs: all stays then."""
        for key in self._options.__struct_fields__:
            if key not in FILTERS and getattr(options, key) != getattr(self._options, key):
                raise PluginError(f"ebpf: {key} cannot change while it runs")
        wanted = wanted_by(options)
        new = _sockets.questions(wanted)
        programs = self._programs
        if programs is not None:
            if not isinstance(programs, Object):
                raise PluginError("ebpf: with bcc, filters cannot change while it runs")
            try:
                _sockets.ask(programs, new, self._questions)
            except BpfError as error:
                raise PluginError(f"ebpf: {_sockets.explained(error)}") from None
        self._options, self._wanted, self._questions = options, wanted, new

    def opaque(self, flow: Flow, seen_ns: int) -> None:
        """Leave out what a connection carries from now on: its lengths are told, its bytes are not copied."""
        if not isinstance(self._programs, Object):  # those of bcc have all copied
            return
        mark(self._programs, flow, seen_ns - self._shift.now())
        if not self._any_opaque:
            self._any_opaque = True
            self._limit()

    async def blocks(self) -> AsyncIterator[Block]:
        """The calls as packets, a block at a time, until `close`; each is borrowed until the next step."""
        self.open()
        self._running = True
        pace = Pace()
        try:
            while not self._closing:
                found = 0
                for block in self._read():
                    found += len(block.data)
                    yield block
                self._relieve()
                await asyncio.sleep(pace.pause(found))
            left = self._ring.waiting if self._ring else 0
            while left > 0:  # what comes meanwhile is no part of it
                before = left
                for block in self._read():
                    left -= len(block.data)
                    yield block
                if left == before:
                    break
        finally:
            self._running = False
            self._release()

    def stats(self) -> CaptureStats:
        """Calls and states handed over, and those that were lost, by reason."""
        self._count()
        counts = self._counts
        lost = dict(zip(LOST, counts, strict=False))
        if self._ring and self._ring.unsound:
            lost["unsound"] = self._ring.unsound
        extra = self._tls_counts
        lost |= dict(zip(_tls.LOST, extra, strict=False))
        for number, text in (
            (0, "the ring was full: set a larger ring_bytes, or filter by ports or pids"),
            (CUT, f"calls of more than {self._wanted.payload} bytes are cut: see payload"),
            (SAMPLED, "under pressure: calls of some connections are left out, all of each"),
            (UNSEEN, "the bytes of sendfile and splice pass through no process: they are gaps"),
        ):
            if counts[number] and text not in self._notes:
                self._note(text)
        for number, text in (
            (_tls.CUT, CUT_TLS.format(self._wanted.payload)),
            (_tls.HIDDEN, "TLS of unknown connections is left out: only some are wanted"),
        ):
            if extra[number] and text not in self._notes:
                self._note(text)
        facts = self._facts | {"payload": str(self._pressure.step.payload)}
        facts["told"] = f"1 in {self._pressure.step.one_in}"
        found = list(self._tls.coverage.values()) if self._tls is not None else self._covered
        spared = {"opaque": counts[OPAQUE]} if counts[OPAQUE] else {}
        lost = {reason: count for reason, count in lost.items() if count}
        return CaptureStats(self._received, lost, list(self._notes), facts, found, spared)

    async def close(self) -> None:
        """End `blocks`, once it has given what the ring holds."""
        self._closing = True
        if not self._running:
            self._release()

    def _load(self) -> None:
        self._questions = _sockets.questions(self._wanted)
        chosen = _hooks.choose(self._wanted, self._options.hooks)
        programs = self._programs = chosen.programs
        ring = programs.map("ring")
        self._ring, self._room = Ring(ring.fd, ring.size), ring.size
        self._rows = room(LEAST), room(LEAST), room(LEAST), room(LEAST)
        # After attaching: a socket that is opened in between is in both.
        self._owners.begin(chosen.hooks.sockets(programs))
        self._facts = {"hooks": chosen.hooks.name, "not": chosen.instead or "none"}
        if chosen.hooks.at_calls and (unseen := _uring.note()):
            self._note(unseen)
        self._note(f"hooks: {chosen}")
        if self._options.tls and (shared := chosen.by_libbpf) is not None:
            self._tls = _tls.begin(shared, self._wanted, self._note)
            self._announced = self._tls is None
        elif self._options.tls:
            self._note("TLS stays closed: reading it needs BTF")

    def _read(self) -> Iterator[Block]:
        """What the ring holds: first who it is of, then the packets."""
        if self._ring is None:
            return
        self._fullest = max(self._fullest, self._ring.waiting)
        data, counts = self._ring.read(BLOCK, self._shift.now(), self._rows)
        packets, processes, clear, news = counts
        for at in memoryview(self._rows[1])[: processes * ROW].cast("I")[2 :: ROW // 4]:
            self._owners.tell(data[at:])
        for at in memoryview(self._rows[3])[: news * ROW].cast("I")[2 :: ROW // 4]:
            if self._tls is not None and (unbound := self._tls.tell(data[at:])):
                self._owners.unbound(*unbound)
        self._received += packets
        if not self._announced:
            self._announced = True
            yield Block(b"", b"", 0, RAW_IP, IFACES, within="tls")
        view = data[:]
        with lent((view, data)):
            for count, index, within in (
                (packets, self._rows[0], ""),
                (clear, self._rows[2], "tls"),
            ):
                if count:
                    rows = memoryview(index)[: count * ROW]
                    yield Block(view, rows, count, RAW_IP, IFACES, within=within)
        self._ring.give_back()

    def _relieve(self) -> None:
        """Take less where it is too much, and more again where it is not."""
        now = time.monotonic()
        if now - self._looked < LOOK or self._ring is None or self._programs is None:
            return
        if said := _hooks.mend(self._programs):
            self._note(said)
        self._count()
        lost, fill = self._counts[0] - self._lost, self._fullest / self._room
        self._looked, self._fullest, self._lost = now, 0, self._counts[0]
        worst = self._pressure.worst
        if self._pressure.look(lost, fill):
            step = self._pressure.step
            self._limit()
            if self._pressure.worst > worst and step.one_in == 1:
                self._note(
                    f"under pressure: {step.payload} bytes of each call are taken for a while"
                )

    def _limit(self) -> None:
        step = self._pressure.step
        if self._programs is not None:
            _sockets.set_limits(self._programs, step.payload, step.one_in, self._any_opaque)

    def _count(self) -> None:
        if self._tls is not None:
            self._tls_counts = self._tls.counts()
            self._covered = list(self._tls.coverage.values())
        if self._programs is not None:
            self._counts = self._programs.map("counts").counters(COUNTERS)
            self._counts[MISSED] += _hooks.misses(self._programs)

    def _note(self, text: str) -> None:
        if len(self._notes) < NOTES:
            self._notes.append(text)

    def _release(self) -> None:
        """Detach and close everything that is open."""
        self._closing = True
        self._count()
        programs, self._programs = self._programs, None
        tls, self._tls = self._tls, None
        if self._ring is not None:
            self._ring.close()
        if programs is not None:
            # The kernel waits at each tracepoint until nobody is in it, a second in all; not so at our end.
            closing = [programs.close] if tls is None else [tls.close, programs.close]
            thread = threading.Thread(target=_all, args=(closing,), daemon=True)
            thread.start()


def _coverage() -> list[Coverage]:
    """The processes that have a socket and a use for TLS; none where it cannot be read at all."""
    if _hooks.no_btf():
        return []
    owners = Owners()
    owners.begin(_sockets.open_sockets(), listening=True)
    return list(machine(owners.processes()))


def _all(steps: Iterable[Callable[[], None]]) -> None:
    for step in steps:
        step()


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="ebpf",
            make=Ebpf,
            options=EbpfOptions,
            doc="What processes send and receive, with their names, by programs in the kernel.",
            available=_hooks.missing,
            how=_hooks.how,
            rank=20,
            coverage=_coverage,
        )
    ]
