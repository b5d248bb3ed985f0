"""A plugin file for the tests: backends and sinks that behave as their options say.

Loaded like anybody's, by ``--plugin tests/fake_plugin.py``. A fake packet is a UDP datagram from a port
of its own, so that each is a flow and an entry.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from kshark.api import (
    INDEX_FORMAT,
    BackendSpec,
    Block,
    CaptureStats,
    Context,
    EnricherSpec,
    Entry,
    Options,
    PluginError,
    SinkSpec,
    hookimpl,
    option,
)


def packet(number: int) -> bytes:
    """An Ethernet frame with one UDP datagram, from port 1024 + number."""
    payload = b"?" * 20
    udp = struct.pack(">HHHH", 1024 + number % 60_000, 9999, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0)
    return bytes(12) + b"\x08\x00" + head + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + udp


def block(first: int, count: int) -> Block:
    frames = [packet(n) for n in range(first, first + count)]
    index, at = b"", 0
    for n, frame in enumerate(frames, first):
        now = 1_700_000_000_000_000_000 + n * 1000
        index += struct.pack(INDEX_FORMAT, now, at, len(frame), len(frame), 0, 0)
        at += len(frame)
    return Block(b"".join(frames), index, count, 1, ("fake0",))


class FakeOptions(Options):
    """What the fake backend shall do."""

    target: Annotated[str | list[str], option("Nothing")] = ""
    packets: Annotated[int, option("Packets in all")] = 100
    step: Annotated[int, option("Packets a block")] = 10
    ends: Annotated[bool, option("End after the packets, else wait for more")] = True
    fails: Annotated[int, option("Raise before this block, counted from 1")] = 0
    how: Annotated[str, option("What it raises: plugin | error | stats")] = "error"
    lost: Annotated[int, option("Packets that the kernel dropped")] = 0
    note: Annotated[str, option("Something to tell")] = ""
    spins: Annotated[bool, option("Never wait, like a file that never ends")] = False
    kills: Annotated[int, option("Send ourselves this signal before the last block")] = 0


class SharedOptions(FakeOptions):
    """What a backend that several workers share shall do."""

    fanout: Annotated[int, option("Group")] = 0
    worker: Annotated[int, option("Number in the group")] = 0
    dies: Annotated[int, option("This worker kills itself at the second block")] = -1
    wrong: Annotated[int, option("This worker cannot start")] = -1


class Fake:
    def __init__(self, options: FakeOptions, live: bool) -> None:
        self.options, self.live = options, live
        self.given = 0
        self.closed = False
        self.wake = asyncio.Event()

    async def blocks(self) -> AsyncIterator[Block]:
        options, number = self.options, 0
        while options.spins or self.given < options.packets:
            number += 1
            if number == options.fails:
                if options.how == "plugin":
                    raise PluginError("fake: the interface is gone")
                raise RuntimeError("fake trouble\nsecond line")
            if options.kills and self.given + options.step >= options.packets:
                os.kill(os.getpid(), options.kills)
            yield block(self.given, options.step)
            self.given += options.step
        if not options.ends:
            await self.wake.wait()

    def stats(self) -> CaptureStats:
        if self.options.how == "stats":
            raise RuntimeError("no books")
        dropped = {"kernel": self.options.lost} if self.options.lost else {}
        return CaptureStats(self.given, dropped, [self.options.note] if self.options.note else [])

    async def close(self) -> None:
        self.closed = True
        self.wake.set()


class Shared(Fake):
    """Each worker has packets of its own."""

    options: SharedOptions

    async def blocks(self) -> AsyncIterator[Block]:
        options = self.options
        if options.wrong in (options.worker, 99):
            raise PluginError("shared: no such interface")
        if not options.fanout:
            raise PluginError("shared: workers without a group")
        for number in range(0, options.packets, options.step):
            if number and options.dies == options.worker:
                await asyncio.sleep(0.2)
                os.kill(os.getpid(), 9)
            self.given += options.step
            yield block(options.worker * 1000 + number, options.step)
            await asyncio.sleep(0)
        if not options.ends:
            await self.wake.wait()


class SinkOptions(Options):
    """What the fake sink shall do."""

    target: Annotated[str, option("Nothing")] = ""
    how: Annotated[str, option("ok | open | make | raise | hang | slow | block | close")] = "ok"


class FakeSink:
    def __init__(self, options: SinkOptions, context: Context) -> None:
        if options.how == "make":
            raise ValueError("cannot be made")
        self.options = options
        self.got = 0

    async def open(self) -> None:
        if self.options.how == "open":
            raise PluginError("fake sink: no such place")

    async def write(self, batch: Sequence[Entry]) -> None:
        how = self.options.how
        if how == "raise":
            raise RuntimeError("fake sink trouble")
        if how == "hang":
            await asyncio.Event().wait()
        if how == "slow":
            await asyncio.sleep(0.01)
        if how == "block":
            time.sleep(3600)
        self.got += len(batch)

    async def close(self) -> None:
        print(f"fakesink got {self.got}", file=sys.stderr)
        if self.options.how == "close":
            raise RuntimeError("cannot close")


class EnricherOptions(Options):
    how: Annotated[str, option("ok | raise | rubbish | drop")] = "ok"


class FakeEnricher:
    def __init__(self, options: EnricherOptions, context: Context) -> None:
        self.how = options.how

    def enrich(self, batch: list[Entry]) -> Any:
        if self.how == "raise":
            raise KeyError("pod")
        if self.how == "rubbish":
            return [1, 2]
        return batch[::2] if self.how == "drop" else batch


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(name="fakefile", make=lambda o: Fake(o, False), options=FakeOptions),
        BackendSpec(name="fakelive", make=lambda o: Fake(o, True), options=FakeOptions, rank=1),
        BackendSpec(name="shared", make=lambda o: Shared(o, True), options=SharedOptions, rank=1),
        BackendSpec(
            name="nowhere",
            make=lambda o: Fake(o, True),
            options=FakeOptions,
            rank=99,
            available=lambda: "needs another kernel: buy one",
        ),
    ]


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [SinkSpec(name="fakesink", make=FakeSink, options=SinkOptions)]


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    if os.environ.get("KSHARK_ENRICHER_FAKE_HOW"):
        return [EnricherSpec(name="fake", make=FakeEnricher, options=EnricherOptions)]
    return []
