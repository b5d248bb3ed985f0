"""A backend at work, with its engine: what it gives is looked at before anybody relies on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Final, cast

from kshark import limits
from kshark.api import Backend, Block, CaptureStats, Coverage, Entry, Flow
from kshark.breaker import Charge, Post, ours
from kshark.clock import Clock
from kshark.engine import Engine
from kshark.faults import Faults
from kshark.given import Rubbish
from kshark.steps import Steps

NO_LINK: Final = -1
"""Link type of the blocks of a worker, which are no packets."""


class Source:
    """A backend with its engine. `make` is what made the backend: a stranger's is watched."""

    def __init__(
        self,
        label: str,
        backend: Backend,
        engine: Engine,
        faults: Faults,
        remote: bool = False,
        make: object = None,
        post: Post | None = None,
    ) -> None:
        self.label = label
        self.backend = backend
        self.engine = engine
        self.faults = faults
        self.live = bool(backend.live)
        # Once closed, it still has blocks to give, and ends by itself.
        self.drains = remote or bool(getattr(backend, "drains", False))
        self.remote = remote  # a worker process: what fails there has begun
        self.own = remote or ours(make)
        self.post = post or Post()
        self.charge = Charge(f"backend {label}", limits.BREAKER_CALL)
        self.begun = False  # it was asked for a block: its sockets are open
        self.waiting = False  # for the next block
        self.clock = Clock(self.live)
        self.left = False  # it did not stop: nothing that it gives counts any more
        self.blocks = 0
        self.bytes = 0
        self.packets = 0
        self.told = 0  # notes that were said
        self.closed = False
        self.unreadable = False  # its books cannot be read
        self.books = CaptureStats()  # as of the last look
        names = getattr(backend, "name", None)
        self.names: Callable[[Flow], None] | None = names if callable(names) else None
        leave = getattr(backend, "opaque", None)
        # Of a worker process neither the backend nor the engine is here.
        self.leave: Callable[[Flow, int], None] | None = (
            leave if callable(leave) and not remote else None
        )
        if self.leave is not None and not engine.keeps:  # else packets are wanted whole
            engine.unread = []

    async def next(self, blocks: AsyncIterator[Block]) -> Block | None:
        """The next block; None after the last."""
        self.waiting = self.begun = True
        self.clock.wait()
        try:
            if self.own:
                return await anext(blocks, None)
            return await Steps(self.post, self.charge, cast(Any, anext), blocks, None)
        finally:
            self.waiting = False

    def opened(self) -> AsyncIterator[Block]:
        """The iterator of its blocks."""
        blocks = (
            self.backend.blocks() if self.own else self.post.call(self.charge, self.backend.blocks)
        )
        if not isinstance(blocks, AsyncIterator):
            raise Rubbish(f"blocks() gave {type(blocks).__name__}, not an async iterator")
        return blocks

    async def end(self, blocks: AsyncIterator[Block]) -> None:
        """No more blocks are wanted."""
        if isinstance(blocks, AsyncGenerator):
            if self.own:
                await blocks.aclose()
            else:
                await Steps(self.post, self.charge, blocks.aclose)

    def feed(self, block: Block) -> list[Entry]:
        """The packets of one block into the engine; what fails in there costs the rest of the block."""
        if not self.own:
            checked(block)
        self.blocks += 1
        self.packets += block.count
        self.bytes += len(block.data)
        try:
            found = self.post.work(self.engine.feed, block)
            if not self.remote:
                self.clock.block(block, self.engine.wire.now)
            return self.named(found)
        except Exception as error:
            where = "packets of a block"
            self.faults.blame(self.label, where, error, "the rest of the block is lost")
            if sum(self.faults.counts.values()) >= limits.BREAKER_ERRORS:
                raise
            return self.named(self.engine.take())

    def named(self, entries: list[Entry]) -> list[Entry]:
        """The same, with the processes at the ends of their flows, where the backend knows them."""
        if self.leave is not None and self.engine.unread:
            self.leave_out()
        name = self.names
        if name is None:
            return entries
        for entry in entries:
            flow = entry.flow
            if flow.client.pid is None or flow.server.pid is None:
                try:
                    if self.own:
                        name(flow)
                    else:
                        self.post.call(self.charge, name, flow)
                except Exception as error:
                    self.faults.blame(self.label, "name", error, "it is not asked for names again")
                    self.names = None
                    break
        return entries

    def leave_out(self) -> None:
        """Tell the backend of the connections that nobody reads any more."""
        unread, self.engine.unread = self.engine.unread, []
        leave = self.leave
        for flow, seen_ns in unread or ():
            try:
                if leave is not None:
                    if self.own:
                        leave(flow, seen_ns)
                    else:
                        self.post.call(self.charge, leave, flow, seen_ns)
            except Exception as error:
                outcome = "it gives all bytes of opaque connections"
                self.faults.blame(self.label, "opaque", error, outcome)
                self.engine.unread = None
                return

    def tick(self) -> list[Entry]:
        """Time passes without packets, where they come as they are captured."""
        now = self.clock.now(self.waiting) if self.live or self._grows() else 0
        return self.named(self.post.work(self.engine.tick, now)) if now else []

    def ending(self) -> Iterator[list[Entry]]:
        """The capture is over: what that completes, step by step."""
        steps = iter(self.engine.ending())
        while (batch := self.post.work(next, steps, None)) is not None:
            yield self.named(batch)

    def _grows(self) -> bool:
        if self.own:
            return bool(getattr(self.backend, "grows", False))
        try:
            return self.post.call(self.charge, getattr, self.backend, "grows", False) is True
        except Exception:  # a stranger's property; without it time stands, as in a file
            return False

    async def close(self) -> None:
        if self.own:
            await self.backend.close()
        else:
            await Steps(self.post, self.charge, self.backend.close)

    def read_books(self) -> list[str]:
        """Read the backend's books; gives the notes that are new. Raises what the backend raises."""
        if self.own:
            self.books = self.backend.stats()
        else:
            self.books = copied(self.post.call(self.charge, self.backend.stats))
        new = self.books.notes[self.told :]
        self.told += len(new)
        return new


def checked(block: object) -> None:
    """Raise `Rubbish` where a stranger's block cannot be one."""
    if type(block) is not Block:
        raise Rubbish(f"blocks() gave {type(block).__name__}, not Block")
    for name, value, expected in (
        ("count", block.count, int),
        ("linktype", block.linktype, int),
        ("ifaces", block.ifaces, tuple),
        ("within", block.within, str),
    ):
        if type(value) is not expected:
            text = f"whose {name} is {type(value).__name__}, not {expected.__name__}"
            raise Rubbish(f"blocks() gave a Block {text}")
    secrets: object = block.secrets
    if type(secrets) is not tuple or not all(type(one) is bytes for one in secrets):
        raise Rubbish("blocks() gave a Block whose secrets are not a tuple of bytes")
    if not 0 <= block.linktype < 1 << 16:
        raise Rubbish("blocks() gave a Block with a link type out of range")
    if block.count < 0 or not all(type(name) is str for name in block.ifaces):
        raise Rubbish("blocks() gave a Block with a count below 0, or ifaces that are not str")
    for name, value in (("data", block.data), ("index", block.index)):
        try:
            flat = memoryview(value).c_contiguous and memoryview(value).itemsize == 1
        except TypeError:
            flat = False
        if not flat:
            raise Rubbish(f"blocks() gave a Block whose {name} is not a buffer of bytes")


def copied(stats: object) -> CaptureStats:
    """A stranger's books as plain values; `Rubbish` where they are none."""
    if not isinstance(stats, CaptureStats):
        raise Rubbish(f"stats() gave {type(stats).__name__}, not CaptureStats")
    received, dropped, notes = stats.received, stats.dropped, stats.notes
    if (
        not isinstance(received, int)
        or not isinstance(dropped, dict)
        or not isinstance(notes, list)
        or not isinstance(stats.facts, dict)
        or not isinstance(stats.spared, dict)
    ):
        raise Rubbish("stats() gave books that are not of int, dict and list")
    counted = [*dropped.items(), *stats.spared.items()]
    if not all(isinstance(k, str) and isinstance(n, int) for k, n in counted):
        raise Rubbish("stats() gave drops that are not numbers by reason")
    kept = dict(list(dropped.items())[: limits.REASONS])
    spared = dict(list(stats.spared.items())[: limits.REASONS])
    covered = [one for one in stats.coverage[: limits.TLS_PROCESSES] if isinstance(one, Coverage)]
    lines = [str(note)[: limits.LINE] for note in notes[: limits.NOTES]]
    facts = list(stats.facts.items())[: limits.NOTES]
    ways = {str(key)[: limits.LINE]: str(value)[: limits.LINE] for key, value in facts}
    return CaptureStats(received, kept, lines, ways, covered, spared)
