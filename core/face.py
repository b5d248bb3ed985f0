"""kshark from Python: `read` a file, `capture` live.

Both give `kshark.api.Entry`s as the sinks of ``kshark run`` get them: enriched, and with secrets
redacted unless told otherwise. What a run would print on standard error goes to the logger ``kshark``;
what the user can mend is a `kshark.api.PluginError`. Settings are the arguments alone: neither the
environment nor a file is read, but installed plugins take part.

A plugin that spins is interrupted and switched off, as in a run: by SIGALRM, which is borrowed while kshark's code
runs, and never in the caller's own (`kshark.alarm`). That takes the main thread, and a program that does not use
SIGALRM itself. Elsewhere, and where a plugin catches every exception, it blocks the call for ever: use ``kshark run``
in a process of its own there, which ends itself then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Final, Self

from kshark.alarm import Alarm
from kshark.api import Entry, Options, PluginError, SinkSpec
from kshark.app import WRONG, Capture, Say
from kshark.places import places
from kshark.plan import Chosen, Plan, make_plan
from kshark.settings import Given

log: Final = logging.getLogger("kshark")


def read(
    path: str | PathLike[str],
    *,
    filter: str = "",
    protocols: Iterable[str] = (),
    assume: Mapping[int, str] | None = None,
    plugins: Iterable[str] = (),
    tls_keylog: str | PathLike[str] = "",
    redact: bool = True,
    dedupe: bool = True,
) -> Iterator[Entry]:
    """The entries of a capture file, as they complete while it is read.

    >>> import kshark, tempfile, os
    >>> with tempfile.NamedTemporaryFile(suffix=".pcap", delete=False) as file:
    ...     _ = file.write(bytes.fromhex("d4c3b2a1 02000400 0000000000000000 00000400 01000000"))
    >>> for entry in kshark.read(file.name):
    ...     print(entry.src.ip, entry.request.verb, entry.request.target, entry.outcome)
    >>> os.unlink(file.name)

    `filter` is that of ``kshark run --filter``: ``"http && response.status >= 500"``. `protocols` are
    those to dissect (all if empty), `assume` maps ports to protocols, `plugins` are
    files to load beside what is installed, `tls_keylog` is a key log to decrypt TLS with.
    """
    line = {
        "read": [fspath(path)],
        "filter": filter,
        "protocol": list(protocols),
        "assume": [f"{port}={name}" for port, name in (assume or {}).items()],
        "tls_keylog": fspath(tls_keylog),
        "redact": redact,
        "dedupe": dedupe,
    }
    return _entries(_plan(line, plugins))


def _entries(plan: Plan) -> Iterator[Entry]:
    capture = Watched(plan, log.warning)
    capture.make()
    for source in capture.sources:
        for block in source.backend.read():  # type: ignore[attr-defined]
            yield from capture.accept(capture.feed(source, block))
        for note in source.backend.stats().notes:
            log.warning("%s: %s", source.label, note)
        for batch in source.ending():
            yield from capture.accept(batch)


def capture(
    backend: str = "auto",
    *,
    filter: str = "",
    protocols: Iterable[str] = (),
    assume: Mapping[int, str] | None = None,
    plugins: Iterable[str] = (),
    tls_keylog: str | PathLike[str] = "",
    redact: bool = True,
    dedupe: bool = True,
    **options: Any,
) -> Live:
    """Entries of live traffic; `options` are those of the backend (``iface``, ``bpf``, ``netns``).

    >>> import asyncio, kshark
    >>> async def first():
    ...     async with kshark.capture(iface=["lo"]) as entries:
    ...         async for entry in entries:
    ...             return entry.protocol
    >>> asyncio.run(first())  # doctest: +SKIP
    'http'
    """
    flags: dict[str, Any] = {
        key: options.pop(key) for key in ("iface", "bpf", "netns", "user") if key in options
    }
    line: dict[str, Any] = {
        "backend": [backend],
        "filter": filter,
        "protocol": list(protocols),
        "assume": [f"{port}={name}" for port, name in (assume or {}).items()],
        "tls_keylog": fspath(tls_keylog),
        "redact": redact,
        "dedupe": dedupe,
        **flags,
    }
    return Live(_plan(line, plugins, options))


class Watched(Capture):
    """A capture within somebody else's program."""

    def __init__(self, plan: Plan, say: Say) -> None:
        super().__init__(plan, say)
        self.post = self.alarm = Alarm(say)

    def make(self) -> None:
        self.alarm.watches = self.watches()
        super().make()
        self.alarm.watches = self.watches()

    def accept(self, batch: list[Entry]) -> list[Entry]:
        return self.alarm.work(super().accept, batch)


class Live:
    """A running capture: ``async with`` starts and stops it, ``async for`` takes its entries.

    Who takes them too slowly loses the oldest (65,536 wait); `snapshot` counts them. After the block, or
    once a backend has ended, the iteration ends; a backend that cannot start raises `PluginError`.
    """

    def __init__(self, plan: Plan) -> None:
        self._handover = _Handover()
        self._said: list[str] = []
        spec = SinkSpec(name="python", make=lambda options, context: self._handover)
        plan.sinks = [Chosen("python", spec, Options())]
        self._capture = Watched(plan, self._say)
        self._task: asyncio.Task[None] | None = None
        self._leaving = False  # what is not taken by now is not wanted

    def _say(self, text: str) -> None:
        self._said.append(text)
        log.log(logging.DEBUG if self._leaving else logging.WARNING, "%s", text)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        while not self._capture.begun and not self._task.done():
            await asyncio.sleep(0)
        return self

    async def _run(self) -> None:
        try:
            await self._capture.run()
        finally:
            self._handover.end()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving = True
        self._capture.hurry()
        if self._task is not None:
            await asyncio.wait({self._task})
            if kind is None:
                self._task.result()

    async def __aiter__(self) -> AsyncIterator[Entry]:
        while (batch := await self._handover.take()) is not None:
            for entry in batch:
                yield entry
        if self._capture.code == WRONG:
            raise PluginError(self._said[-1])

    def snapshot(self) -> dict[str, Any]:
        """The ledger so far: packets, entries and losses, each with its reason."""
        return self._capture.snapshot()


class _Handover:
    """A sink that gives one batch at a time to whoever iterates; what waits, its lane counts."""

    def __init__(self) -> None:
        self._batch: Sequence[Entry] | None = None
        self._ended = False
        self._given, self._taken = asyncio.Event(), asyncio.Event()

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None:
        self._batch = batch
        self._taken.clear()
        self._given.set()
        try:
            await self._taken.wait()
        except asyncio.CancelledError:
            self._batch = None
            raise

    async def close(self) -> None: ...

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended = True
        self._given.set()

    async def take(self) -> Sequence[Entry] | None:
        """The next batch, None after the last."""
        await self._given.wait()
        batch, self._batch = self._batch, None
        if batch is not None:
            self._taken.set()
        if not self._ended:
            self._given.clear()
        return batch


def _plan(
    line: Mapping[str, Any], plugins: Iterable[str], options: Mapping[str, Any] | None = None
) -> Plan:
    layer = {key: Given(value, key) for key, value in line.items() if value not in ("", [], ())}
    where = places(layer, environ={})
    if options and isinstance(name := line["backend"][0], str):
        where.tables = {"backend": {name.partition(":")[0]: dict(options)}}
    plan = make_plan(where, list(plugins), with_sinks=False)
    for note in plan.notes:
        log.info("%s", note)
    return plan
