"""``--workers N``: one process a core, each with its backends (one fanout group) and its engines.

The parent runs enrichers, redaction and sinks, and adds up the ledgers. Between them is a socket pair a
worker: frames of a length, a kind and a msgpack payload. A worker stops when its socket ends, so a
parent that is killed leaves none behind; one that dies itself is said, and the others go on.

To the parent's `Capture` a worker looks like a backend whose blocks are frames, with an engine that
unpacks them.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec

from kshark import limits
from kshark.api import Block, CaptureStats, Entry, Flow, Message, Options, PluginError, SinkSpec
from kshark.app import FAILED, WRONG, Capture
from kshark.breaker import interrupted
from kshark.engine import Engine
from kshark.interrupts import SIGNALS
from kshark.lane import LaneOptions
from kshark.plan import Chosen, Plan
from kshark.source import Source

HEAD: Final = struct.Struct("<IB")  # length of the payload, kind
ENTRIES, ACCOUNT = 1, 2
ACCOUNTS: Final = 0.5
"""Seconds between two accounts of a worker."""
REAP: Final = 2.0
"""Seconds that a worker has to exit once its socket ended."""
EXTRA: Final = 1
"""Extension type of `Message.extra`: a protocol's own object, for its details()."""
PICKLE: Final = b"\x80"
"""First byte of a pickle; a list in msgpack never begins so."""

Say = Callable[[str], None]


class Account(msgspec.Struct, array_like=True):
    """What a worker tells of itself, now and then and at its end."""

    ledger: dict[str, Any]
    said: list[str]
    code: int
    open: bool
    ended: bool


@dataclass(slots=True)
class Child:
    """A worker as the parent holds it."""

    number: int
    pid: int
    socket: socket.socket


# ---------------------------------------------------------------- entries on the way


def pack(batch: Sequence[Entry]) -> bytes:
    """Entries as msgpack; what a protocol keeps in ``extra`` goes along, where it can.

    What msgpack refuses (text that is no UTF-8, keys of more than 64 bits) goes as a pickle.
    """
    for message in _messages(batch):
        if not isinstance(message.extra, str | int | None) or _wide(message.extra):
            message.extra = _packed(message.extra)
    try:
        return msgspec.msgpack.encode(batch)
    except (UnicodeEncodeError, OverflowError):
        return pickle.dumps(batch)


def _messages(batch: Sequence[Entry]) -> Iterator[Message]:
    return (m for e in batch for m in (e.request, e.response) if m is not None)


def _wide(extra: object) -> bool:
    return isinstance(extra, int) and extra.bit_length() > 63


def _packed(extra: Any) -> msgspec.msgpack.Ext | None:
    """A protocol's own object on its way; None where it cannot leave its process (a lambda, an open file)."""
    try:
        return msgspec.msgpack.Ext(EXTRA, pickle.dumps(extra))
    except BaseException as error:  # a plugin's object
        if interrupted(error):
            raise
        return None


def _extension(code: int, data: Any) -> Any:
    """Trusted: it comes from a process that we have forked ourselves. What it makes of itself may fail."""
    try:
        return pickle.loads(data)
    except BaseException as error:
        if interrupted(error):
            raise
        return None


_decode: Final = msgspec.msgpack.Decoder(list[Entry], ext_hook=_extension)


class Unpacker:
    """Frames back to entries that share their flows, as sinks expect it.

    What enrichers make of a flow stays with it, while it is one of the last `ROW_FLOWS`.
    """

    def __init__(self) -> None:
        self._young: dict[str, tuple[Flow, Flow]] = {}  # as it came, and as it is shared
        self._old: dict[str, tuple[Flow, Flow]] = {}

    def unpack(self, data: Any) -> list[Entry]:
        batch: list[Entry]
        if data[:1] == PICKLE:
            batch = pickle.loads(data)
            for message in _messages(batch):
                if isinstance(message.extra, msgspec.msgpack.Ext):
                    message.extra = _extension(EXTRA, message.extra.data)
        else:
            batch = _decode.decode(data)
        for entry in batch:
            entry.flow = self._shared(entry.flow)
        return batch

    def _shared(self, flow: Flow) -> Flow:
        held = self._young.get(flow.id)
        if held is None:
            held = self._old.get(flow.id)
            if len(self._young) >= limits.ROW_FLOWS:
                self._old, self._young = self._young, {}
        if held is None or held[0] != flow:  # it changed its protocol
            held = (copy(flow), flow)
        self._young[flow.id] = held
        return held[1]


# ---------------------------------------------------------------- the worker


class _Pipe:
    """The worker's only sink: its parent."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        self._end.setblocking(False)

    async def write(self, batch: Sequence[Entry]) -> None:
        await self.send(ENTRIES, pack(batch))

    async def send(self, kind: int, payload: bytes) -> None:
        async with self._turn:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(self._end, HEAD.pack(len(payload), kind) + payload)

    async def close(self) -> None: ...


def _work(plan: Plan, end: socket.socket) -> int:
    """The life of a worker process."""
    from kshark.loop import running
    from kshark.session import loop_factory, sampling

    said: list[str] = []
    pipe = _Pipe(end)
    packets = any(chosen.spec.packets for chosen in plan.sinks)
    spec = SinkSpec(name="pipe", make=lambda options, context: pipe, packets=packets)
    plan = replace(
        plan,
        run=msgspec.structs.replace(plan.run, duration=0.0, count=0, redact=False),
        sinks=[Chosen("pipe", spec, Options(), LaneOptions())],
        enrichers=[],
        filter=None,  # the parent's business: enrichers may add what it asks for
        workers=1,
    )
    capture = Capture(plan, said.append)
    with running(loop_factory(plan), said.append) as loop, sampling(capture, said.append):
        loop.run(_life(capture, pipe, end, said))
    return capture.code


async def _life(capture: Capture, pipe: _Pipe, end: socket.socket, said: list[str]) -> None:
    async def account(ended: bool) -> None:
        lines, said[:] = said[:], []
        report = Account(capture.snapshot(), lines, capture.code, capture.announced, ended)
        await pipe.send(ACCOUNT, msgspec.msgpack.encode(report))

    async def accounts() -> None:
        opened = asyncio.Event()
        capture.announce = opened.set
        while True:
            await account(False)
            with suppress(TimeoutError):
                await asyncio.wait_for(opened.wait(), ACCOUNTS)
            opened.clear()

    async def orphaned() -> None:
        with suppress(OSError):  # "reset", if the parent left something unread
            await asyncio.get_running_loop().sock_recv(end, 1)
        capture.stop()

    end.setblocking(False)
    beside = [asyncio.create_task(accounts()), asyncio.create_task(orphaned())]
    try:
        await capture.run()
    except PluginError as error:
        said.append(str(error))
        capture.code = WRONG
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    await account(True)


def _become(plan: Plan, number: int, end: socket.socket) -> None:
    """Be a worker, in the forked process; never returns."""
    code = FAILED
    try:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)  # the parent decides, its socket tells
        for group, chosen in enumerate(plan.backends, os.getppid()):
            chosen.options = msgspec.structs.replace(
                chosen.options, fanout=group % 65_535 + 1, worker=number
            )
        code = _work(plan, end)
    except OSError:
        code = FAILED  # the parent is gone
    finally:
        os._exit(code)


# ---------------------------------------------------------------- the parent


def spawn(plan: Plan) -> list[Child]:
    """Fork the workers; before there is an event loop or a thread."""
    children: list[Child] = []
    for number in range(plan.workers):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            for child in children:
                child.socket.close()
            _become(plan, number, theirs)
        theirs.close()
        children.append(Child(number, pid, ours))
    return children


class Remote:
    """A worker, as a backend and as an engine."""

    live = True

    def __init__(self, child: Child, say: Say, opened: Callable[[], None]) -> None:
        self.child = child
        self.say = say
        self.opened = opened  # called once the worker's backends are
        self.account = Account({}, [], 0, False, False)
        self.received = 0
        self.died = False
        self.ledger = SimpleNamespace(snapshot=self._snapshot)
        self._unpacker = Unpacker()
        self._writer: asyncio.StreamWriter | None = None

    # -- as a backend

    async def blocks(self) -> AsyncIterator[Block]:
        end = self.child.socket
        reader, self._writer = await asyncio.open_connection(sock=end, limit=limits.MIB)
        try:
            while not self.account.ended:
                size, kind = HEAD.unpack(await reader.readexactly(HEAD.size))
                payload = await reader.readexactly(size)
                if kind == ACCOUNT:
                    self._read_account(payload)
                    payload = b""
                yield Block(payload, b"", 0, -1)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.died = True
            text = f"worker {self.child.number} died ({_end_of(self.child)}); the others go on"
            raise PluginError(text) from None
        finally:
            self._writer.close()

    def _read_account(self, payload: bytes) -> None:
        self.account = msgspec.msgpack.decode(payload, type=Account)
        for text in self.account.said:
            self.say(text)
        if self.account.open:
            self.opened()

    def stats(self) -> CaptureStats:
        total = CaptureStats()
        for books in self.account.ledger.get("backends", {}).values():
            total.received += books["received"]
            for reason, count in books["dropped"].items():
                total.dropped[reason] = total.dropped.get(reason, 0) + count
        return total

    async def close(self) -> None:
        if self.account.ended or self.died:
            return
        if self._writer is not None:
            self._writer.write_eof()
        else:
            self.child.socket.shutdown(socket.SHUT_WR)

    # -- as an engine

    def feed(self, block: Block) -> list[Entry]:
        batch = self._unpacker.unpack(block.data) if block.data else []
        self.received += len(batch)
        return batch

    def tick(self, now_ns: int) -> list[Entry]:
        return []

    def ending(self) -> list[list[Entry]]:
        return []

    def _snapshot(self) -> dict[str, Any]:
        found = dict(self.account.ledger) or Engine([]).ledger.snapshot()
        for name in ("backends", "delivery", "sinks"):
            found.pop(name, None)
        return found

    def lost(self) -> dict[str, int]:
        """Entries that the worker made, as of its last account, and that have not come."""
        missing = sum(self.account.ledger.get("entries", {}).values()) - self.received
        if not missing or not (self.account.ended or self.died):
            return {}
        return {f"worker {self.child.number}": missing}

    def check(self) -> list[str]:
        """What does not balance between a worker that ended well and us."""
        ended = self.account.ended
        sinks = self.account.ledger.get("sinks", {}) if ended else {}
        dropped = sum(n for sink in sinks.values() for n in sink["dropped"].values())
        missing = sum(self.lost().values())
        if not ended or missing == dropped:
            return []
        return [f"worker {self.child.number}: {missing} entries missing, {dropped} accounted for"]


def _end_of(child: Child) -> str:
    code = _reap(child)
    if code is None:
        return "it closed its socket"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _reap(child: Child) -> int | None:
    """The exit code of a worker that has ended; kills one that does not within `REAP`."""
    if not child.pid:
        return None
    deadline = time.monotonic() + REAP
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            child.pid = 0
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    child.pid = 0
    return os.waitstatus_to_exitcode(status)


class Shared(Capture):
    """The parent's side of a run with workers."""

    def __init__(self, plan: Plan, say: Say, children: Sequence[Child]) -> None:
        super().__init__(plan, say)
        self.children = children
        self.remotes: list[Remote] = []
        self._told: set[str] = set()

    def make_sources(self) -> list[Source]:
        self.remotes = [Remote(child, self._once, self.opened) for child in self.children]
        names = "+".join(chosen.label for chosen in self.plan.backends)
        return [
            Source(
                f"{names} worker {remote.child.number}",
                remote,
                cast(Engine, remote),
                self.faults,
                remote=True,
            )
            for remote in self.remotes
        ]

    def mistaken(self) -> bool:
        return any(remote.account.code == WRONG for remote in self.remotes)

    def lost_between(self) -> dict[str, int]:
        return {name: n for remote in self.remotes for name, n in remote.lost().items()}

    def check(self) -> list[str]:
        return [*super().check(), *(text for remote in self.remotes for text in remote.check())]

    def _judge(self) -> None:
        super()._judge()
        self.code = max(self.code, *(remote.account.code for remote in self.remotes))
        if self.lost_between():
            self.code = max(self.code, FAILED)

    def _once(self, text: str) -> None:
        """What several workers say is said once."""
        if text not in self._told and len(self._told) < limits.NOTES:
            self._told.add(text)
            self.say(text)

    def reap(self) -> None:
        """Collect the processes; after this none of them is left."""
        for child in self.children:
            child.socket.close()
        for child in self.children:
            _reap(child)
