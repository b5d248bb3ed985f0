"""A plugin file for the tests: everything in it misbehaves as ``BAD_HOW`` says, in the place that it names.

The fake packets of ``fake_plugin.py`` are its protocol's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Any

from fake_plugin import block

from kshark.api import (
    BackendSpec,
    Block,
    CaptureStats,
    Context,
    Details,
    EnricherSpec,
    Entry,
    Kind,
    Message,
    Options,
    ProtocolSpec,
    Side,
    SinkSpec,
    doc,
    hookimpl,
    option,
)

HOW = os.environ.get("BAD_HOW", "")


def does(place: str, *arguments: Any) -> Any:
    """What was asked for at this place, if anything."""
    where, _, how = HOW.partition(":")
    return DEEDS[how](*arguments) if where == place and how in DEEDS else None


def spins(*_: Any) -> None:
    while True:
        pass


def raises(kind: type[BaseException]) -> Any:
    def deed(*_: Any) -> None:
        raise kind("secret\nof a peer")

    return deed


def clears(batch: Any) -> None:
    batch.clear()
    raise ValueError("after that")


def spoils(entries: Sequence[Entry]) -> Any:
    """Makes some of the entries unusable, each in a way of its own."""
    first, second, third, fourth, *_ = entries
    first.request = first.response = None
    del second.request.verb  # type: ignore[union-attr]
    third.flow = None  # type: ignore[assignment]
    fourth.request.target = 5  # type: ignore[union-attr]
    return entries


class Evil(Exception):
    def __str__(self) -> str:
        raise SystemExit


DEEDS: dict[str, Any] = {
    "spin": spins,
    "sleep": lambda *_: time.sleep(3600),
    "clear": clears,
    "spoil": spoils,
    "more": lambda batch: [*batch, *batch],
    "tuple": tuple,
    "none": lambda *_: None,
    "exit": raises(SystemExit),
    "interrupt": raises(KeyboardInterrupt),
    "generator": raises(GeneratorExit),
    "cancel": raises(asyncio.CancelledError),
    "value": raises(ValueError),
    "evil": lambda *_: (_ for _ in ()).throw(Evil()),
    "dict": lambda *_: {"a": 1},
}

# ---------------------------------------------------------------- a protocol


class Shown(Details):
    """What it says"""

    text: Annotated[str, doc("Text")] = ""


class Hears:
    def feed(self, side: Side, data: bytes) -> list[Message]:
        does("feed")
        return [Message(Kind.ONEWAY, "ASK", body=data, size=len(data))]

    def gap(self, side: Side, missing: int) -> list[Message]:
        return []

    def close(self) -> list[Message]:
        return []


def details(message: Message) -> Any:
    return does("details", message) or Shown(text="fine")


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    does("register_protocols")
    return [
        ProtocolSpec(
            name="ask",
            dissector=Hears,
            transport="udp",
            magic=(b"????",),
            request=Shown,
            response=Shown,
            details=details,
        )
    ]


# ---------------------------------------------------------------- a sink


class SinkOptions(Options):
    target: Annotated[str, option("Nothing")] = ""


class Sink:
    def __init__(self, options: SinkOptions, context: Context) -> None:
        does("sink.make")
        self.context = context
        self.got = 0

    async def open(self) -> None:
        does("sink.open")
        await self.awaits("open")
        if HOW.startswith("sink.task"):
            asyncio.create_task(self.task())  # noqa: RUF006 - careless
        if HOW == "sink.callback:spin":
            asyncio.get_running_loop().call_soon(spins)
        if HOW == "sink.thread:value":
            thread = threading.Thread(target=raises(ValueError), name="plugin's")
            thread.start()
        if HOW == "sink.thread:sleep":
            threading.Thread(target=time.sleep, args=(3600,), name="sleeper").start()

    async def task(self) -> None:
        if HOW == "sink.task:deaf":
            await deaf()
        does("sink.task")

    async def awaits(self, where: str) -> None:
        """Waits for ever, for a cancellation or not even for that."""
        if f"sink.{where}:hang" == HOW:
            await asyncio.Event().wait()
        if f"sink.{where}:deaf" == HOW:
            await deaf()

    async def write(self, batch: Sequence[Entry]) -> None:
        does("sink.write", batch)
        await self.awaits("write")
        self.context.encode(batch, full=True)
        self.got += len(batch)

    async def close(self) -> None:
        print(f"badsink got {self.got}", file=sys.stderr)
        does("sink.close")
        await self.awaits("close")


async def deaf() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


class NotAsync:
    def __init__(self, options: Any, context: Any) -> None: ...
    def open(self) -> None: ...
    def write(self, batch: Any) -> None: ...
    def close(self) -> None: ...


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(name="badsink", make=Sink, options=SinkOptions),
        SinkSpec(name="notasync", make=NotAsync),  # type: ignore[arg-type]
    ]


# ---------------------------------------------------------------- an enricher


class Enricher:
    def __init__(self, options: Any, context: Context) -> None:
        does("enricher.make")

    def enrich(self, batch: list[Entry]) -> Any:
        found = does("enricher", batch)
        return batch if found is None and not HOW.endswith("none") else found


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    return [EnricherSpec(name="bad", make=Enricher)] if HOW.startswith("enricher") else []


# ---------------------------------------------------------------- a backend

GOOD = block(0, 10)
FAR = b"\xff" * 24
"""An index record whose every number is as large as can be: negative time, far outside of the data."""
BLOCKS: dict[str, Any] = {
    "none": None,
    "int": 5,
    "empty": Block(b"", b"", 0, 1, ()),
    "count": Block(GOOD.data, GOOD.index, 10**6, 1, ("x",)),
    "negative": Block(GOOD.data, GOOD.index, -1, 1, ("x",)),
    "float": Block(GOOD.data, GOOD.index, 1.5, 1, ("x",)),  # type: ignore[arg-type]
    "text": Block("packets", "index", 1, 1, ("x",)),
    "ifaces": Block(GOOD.data, GOOD.index, 10, 1, ["x"]),  # type: ignore[arg-type]
    "iface": Block(GOOD.data, GOOD.index, 10, 1, (5,)),  # type: ignore[arg-type]
    "far": Block(GOOD.data, FAR * 10, 10, 1, ("x",)),
    "late": Block(GOOD.data, b"\xff" * 7 + b"\x7f" + GOOD.index[8:], 10, 1, ("x",)),
    "early": Block(GOOD.data, bytes(7) + b"\x80" + GOOD.index[8:], 10, 1, ("x",)),
    "link": Block(GOOD.data, GOOD.index, 10, 1 << 40, ("x",)),
}


class Backend:
    live = False

    def __init__(self, options: Any) -> None:
        does("backend.make")
        self.books = CaptureStats()

    async def blocks(self) -> Any:
        self.books.received += 10
        yield GOOD
        does("backend.blocks")
        if HOW == "backend.blocks:hang":
            await asyncio.Event().wait()
        if HOW == "backend.blocks:deaf":
            await deaf()
        where, _, how = HOW.partition(":")
        if where == "block":
            yield BLOCKS[how]
        yield block(100, 10)

    def stats(self) -> Any:
        found = does("backend.stats")
        if HOW == "backend.stats:rubbish":
            return SimpleNamespace(received="x", dropped=[], notes=5)
        if HOW == "backend.stats:fields":
            return CaptureStats("x", {1: 2}, [3])  # type: ignore[arg-type,dict-item,list-item]
        return found or self.books

    async def close(self) -> None:
        does("backend.close")
        if HOW == "backend.close:hang":
            await asyncio.Event().wait()


class Plain(Backend):
    """Its blocks are no asynchronous iterator."""

    def blocks(self) -> Any:
        return [GOOD]


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(name="badback", make=Backend),
        BackendSpec(name="plainback", make=Plain),
    ]
