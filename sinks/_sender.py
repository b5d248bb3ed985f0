"""Payloads sent one after another, in order, until the other side has taken them.

They wait in memory and, where there is a spool, on the disk once memory is full. Each is sent until it is taken
or refused for good; the order is that in which they came. `held` and `dropped` are the books of their entries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from kshark.sinks._backoff import Backoff
from kshark.sinks._http import Kind, Reply
from kshark.sinks._spool import Kept, Spool

TOLD: Final = 3
"""Tries in vain after which the user is told; a hiccup is not news."""


class Payload(NamedTuple):
    """What is sent at once, and how many entries are in it."""

    number: int
    entries: int
    content: bytes


class Sender:
    """The queue and the task that empties it."""

    def __init__(
        self,
        post: Callable[[bytes], Awaitable[Reply]],
        refused: Callable[[int, str, int], Mapping[str, int]],
        say: Callable[[str], None],
        memory: int,
        spool: Spool | None,
    ) -> None:
        self._post = post
        self._refused = refused
        self._say = say
        self._limit = memory
        self._spool = spool
        self._memory: deque[Payload] = deque()
        self._bytes = 0
        self._number = 1
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._backoff = Backoff()
        self._told = ""  # what the user was told that is in the way
        self._spool_full = False  # it did not take the last payload that was put
        self._spool_failed = False  # ... because the disk did not
        self._task: asyncio.Task[None] | None = None
        self.dropped: dict[str, int] = {}

    def open(self) -> None:
        if self._spool is not None:
            self._spool.open()
            self._number = self._spool.next_number
            if self._spool.inherited:
                self._say(f"{self._spool.inherited:,} entries of an earlier run wait in the spool")
        self._task = asyncio.create_task(self._run())

    @property
    def held(self) -> int:
        """Entries of this run that wait, in memory or on the disk."""
        spooled = self._spool.own if self._spool is not None else 0
        return sum(payload.entries for payload in self._memory) + spooled

    @property
    def full(self) -> bool:
        """Nothing more shall come. What comes all the same is kept."""
        return self._bytes >= self._limit and (self._spool is None or self._spool_full)

    def check(self) -> None:
        """Raises what ended the task, if anything did."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def put(self, content: bytes, entries: int) -> None:
        payload = Payload(self._number, entries, content)
        self._number += 1
        spool = self._spool
        wants = spool is not None and (spool.waiting or self._bytes + len(content) > self._limit)
        if not (wants and self._keep(payload)):
            self._memory.append(payload)
            self._bytes += len(content)
        self._wake.set()

    def _keep(self, payload: Payload) -> bool:
        """Put it on the disk, if the disk takes it."""
        assert self._spool is not None
        self._spool_full = True
        if not self._spool.room(len(payload.content)):
            return False
        try:
            self._spool.put(payload.number, payload.content, payload.entries)
        except OSError as error:
            if not self._spool_failed:
                self._say(f"the spool takes nothing: {error.strerror}")
            self._spool_failed = True
            return False
        self._spool_full = self._spool_failed = False
        return True

    async def flush(self) -> None:
        """Wait until all is sent."""
        while self._head() is not None:
            self.check()
            self._empty.clear()
            waiting = asyncio.ensure_future(self._empty.wait())
            assert self._task is not None
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def close(self) -> None:
        """Stop; what was not sent stays on the disk, or is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for payload in self._memory:
            if self._spool is None or not self._keep(payload):
                self._lose("unsent", payload.entries)
        self._memory.clear()
        if self._spool is not None:
            if left := sum(kept.entries for kept in self._spool.waiting):
                self._say(f"{left:,} entries wait in the spool for the next run")
            self._spool.close()

    # -- the task

    async def _run(self) -> None:
        while True:
            head = self._head()
            if head is None:
                self._empty.set()
                self._wake.clear()
                await self._wake.wait()
            elif isinstance(head, Kept):
                await self._send_kept(head)
            else:
                await self._send(head.content, head.entries, own=True)
                self._memory.popleft()
                self._bytes -= len(head.content)

    def _head(self) -> Payload | Kept | None:
        """The oldest that waits."""
        waiting = self._spool.waiting if self._spool is not None else ()
        heads = [*([self._memory[0]] if self._memory else ()), *([waiting[0]] if waiting else ())]
        return min(heads, key=lambda one: one.number, default=None)

    async def _send_kept(self, kept: Kept) -> None:
        assert self._spool is not None
        content = await asyncio.to_thread(self._spool.read, kept)
        if content is None:
            self._say(f"spool: {kept.name} is damaged; {kept.entries} entries lost")
            self._lose("spool damaged", kept.entries if kept.own else 0)
        else:
            await self._send(content, kept.entries, own=kept.own)
        self._spool.drop(kept)
        self._spool_full = False

    async def _send(self, content: bytes, entries: int, *, own: bool) -> None:
        """Send until it is taken or refused."""
        while True:
            reply = await self._post(content)
            if reply.kind is not Kind.LATER:
                break
            pause = self._backoff.next(reply.after)
            self._tell(reply, pause)
            await asyncio.sleep(pause)
        self._backoff.reset()
        if self._told:
            self._told = ""
            self._say("takes entries again")
        if reply.kind is Kind.REFUSED:
            lost = self._refused(reply.status, reply.text, entries)
            if lost.keys() - self.dropped.keys():
                self._say(f"{sum(lost.values()):,} entries refused ({reply.why})")
            for reason, count in lost.items():
                self._lose(reason, count if own else 0)

    def _tell(self, reply: Reply, pause: float) -> None:
        """Say once what is in the way: at once where the other side says so, else when it lasts."""
        what = "limit" if reply.status == 429 else "failing"
        if self._told in (what, "limit") or (what == "failing" and self._backoff.tries < TOLD):
            return
        self._told = what
        said = "it is the limit, entries wait for it" if what == "limit" else "entries wait"
        self._say(f"{said}: {reply.why}; trying again, in {pause:.1f} s next")

    def _lose(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
