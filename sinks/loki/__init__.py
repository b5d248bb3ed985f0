"""Entries to Grafana Loki by its push API: gathered into requests, sent in order, held while it cannot take them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from kshark.api import (
    Context,
    Entry,
    Outcome,
    PluginError,
    SinkBusy,
    SinkSpec,
    SinkStats,
    hookimpl,
    option,
)
from kshark.sinks._fields import FACTS, readers
from kshark.sinks._http import HttpOptions, Peer, Reply, needed
from kshark.sinks._sender import Sender
from kshark.sinks._spool import Spool
from kshark.sinks.loki.answers import hint, refused
from kshark.sinks.loki.push import Format, Json, Protobuf
from kshark.sinks.loki.rows import Line, Rows
from kshark.sinks.loki.streams import Streams
from kshark.sinks.loki.sums import Sums

PATH: Final = "/loki/api/v1/push"
MIB: Final = 1024 * 1024
GROUP: Final = ("dst.name", "dst.ip", "dst.port", "request.verb", "response.status")
"""Facts of a kind: who answers, and what is asked, but for its target, of which there may be many."""


class LokiOptions(HttpOptions):
    """Options of the sink ``loki``."""

    target: Annotated[str, option("Its address; without a path, that of the push API is added")] = (
        "http://127.0.0.1:3100"
    )
    tenant: Annotated[str, option("Tenant, the header X-Scope-OrgID")] = ""
    format: Annotated[
        Literal["protobuf", "json"], option("How rows are sent; JSON takes twice the work")
    ] = "protobuf"
    labels: Annotated[
        list[str], option("Facts that become labels of streams: such as have few values")
    ] = msgspec.field(default_factory=lambda: ["protocol", "outcome"])
    static: Annotated[list[str], option("Labels that are always so: name=value")] = msgspec.field(
        default_factory=lambda: ["job=kshark"]
    )
    line: Annotated[
        Line, option("The line: the entry as JSON, or a text to read with all facts as metadata")
    ] = "json"
    metadata: Annotated[list[str], option("Facts that are sent as structured metadata")] = []
    full: Annotated[bool, option("JSON lines with the protocol's own object")] = False
    line_bytes: Annotated[
        int,
        msgspec.Meta(ge=1024),
        option("Longest line; one that would be longer loses its full part", unit="bytes"),
    ] = 256 * 1000
    batch_bytes: Annotated[
        int, msgspec.Meta(ge=1), option("Send when so much has gathered", unit="bytes")
    ] = MIB
    batch_age: Annotated[
        float,
        msgspec.Meta(ge=0),
        option("... or when the first has waited so long", unit="seconds"),
    ] = 1.0
    memory: Annotated[
        int, option("What may wait in memory, packed; then the sink's policy holds", unit="bytes")
    ] = 16 * MIB
    spool: Annotated[
        str, option("A folder for what memory does not hold; it is there after a restart")
    ] = ""
    spool_bytes: Annotated[int, option("What may wait in it", unit="bytes")] = 1024 * MIB
    sample: Annotated[
        int,
        msgspec.Meta(ge=1),
        option("Send one in so many entries of outcome ok, with the metadata weight; 1 sends all"),
    ] = 1
    aggregate: Annotated[
        float,
        msgspec.Meta(ge=0),
        option("Add up entries of outcome ok, one row for each kind every so long", unit="seconds"),
    ] = 0.0
    group: Annotated[list[str], option("With aggregate: the facts that make a kind")] = (
        msgspec.field(default_factory=lambda: list(GROUP))
    )
    slow: Annotated[
        int,
        msgspec.Meta(ge=0),
        option("With sample and aggregate: what took so long is sent all the same", unit="ms"),
    ] = 1_000


class Loki:
    """The sink. A batch is taken whole or, while too much waits, not at all."""

    def __init__(self, options: LokiOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._format = make_format(options)
        self._streams = Streams(options.labels, options.static, self._format.labels, self._say)
        beside = {**readers(options.metadata, "sink loki: metadata")}
        if options.line == "text":
            beside = {**readers(FACTS, "sink loki"), **beside}
        self._rows = Rows(context, options.line, beside, options.line_bytes, full=options.full)
        self._peer = Peer(push_url(options.target), options, "sink loki", "loki")
        self._headers = dict(self._format.headers)
        if options.tenant:
            self._headers["X-Scope-OrgID"] = options.tenant
        spool = Spool(options.spool, options.spool_bytes, "sink loki") if options.spool else None
        self._sender = Sender(self._post, refused, self._say, options.memory, spool)
        self._gathered: dict[bytes, list[bytes]] = {}  # rows, by the labels of their stream
        self._count = self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        if options.aggregate and options.sample > 1:
            raise PluginError("sink loki: sample or aggregate, not both")
        self._sums = Sums(options.group) if options.aggregate else None
        self._sums_timer: asyncio.TimerHandle | None = None
        self._slow_ns = options.slow * 1_000_000
        self._full = False  # the user was told that too much waits
        self._ok = 0  # ordinary entries that came
        self._filtered = 0

    def _say(self, text: str) -> None:
        self._context.say(f"loki: {text}")

    async def _post(self, content: bytes) -> Reply:
        reply = await self._peer.post(content, self._headers)
        advice = hint(reply.status, reply.text)
        return reply._replace(text=f"{reply.text[:200]} ({advice})") if advice else reply

    async def open(self) -> None:
        await self._peer.open()
        self._sender.open()

    async def write(self, batch: Sequence[Entry]) -> None:
        self._sender.check()
        self._make_room()
        weight = self._options.sample
        wanted = self._sampled(batch) if weight > 1 else batch
        if self._sums is not None:
            wanted = self._added_up(batch, self._sums)
        for entry, line, metadata in self._rows.of(wanted):
            stream = self._streams.of(entry)
            more = [*metadata, *stream.metadata]
            if weight > 1 and self._ordinary(entry):
                more.append(("weight", str(weight)))
            self._gather(stream.labels, self._format.row(entry.time_ns, line, more))
        self._wait()

    def _make_room(self) -> None:
        """Raises `SinkBusy` while too much waits, and says so once."""
        if not self._sender.full:
            self._full = False
            return
        if not self._full:
            self._full = True
            where = "memory and spool are full" if self._options.spool else "memory is full"
            self._say(f"it is the limit, {where}: a filter, sample or aggregate sends less")
        raise SinkBusy

    def _ordinary(self, entry: Entry) -> bool:
        """It went well, and did not take long."""
        return entry.outcome is Outcome.OK and (entry.latency_ns or 0) < self._slow_ns

    def _sampled(self, batch: Sequence[Entry]) -> list[Entry]:
        """All that went wrong or took long, and one in so many of the rest."""
        kept = []
        for entry in batch:
            if self._ordinary(entry):
                self._ok += 1
                if self._ok % self._options.sample:
                    self._filtered += 1
                    continue
            kept.append(entry)
        return kept

    def _added_up(self, batch: Sequence[Entry], sums: Sums) -> list[Entry]:
        """All that went wrong or took long; the rest is in the sums."""
        kept = []
        for entry in batch:
            try:
                if self._ordinary(entry):
                    sums.add(self._streams.of(entry).labels, entry)
                else:
                    kept.append(entry)
            except Exception as error:  # a plugin's entry may hold anything
                self._context.unshown(entry, error)
        if sums.calls and self._sums_timer is None:
            loop = asyncio.get_running_loop()
            self._sums_timer = loop.call_later(self._options.aggregate, self._take_sums)
        return kept

    def _take_sums(self) -> None:
        """Make rows of the sums."""
        if self._sums_timer is not None:
            self._sums_timer.cancel()
            self._sums_timer = None
        if self._sums is not None:
            for row in self._sums.take():
                self._gather(row.labels, self._format.row(row.ns, row.line, ()), row.calls)
            self._wait()

    def _wait(self) -> None:
        """What has gathered is sent when it is old enough."""
        if self._count and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.batch_age, self._seal)

    def _gather(self, labels: bytes, row: bytes, entries: int = 1) -> None:
        rows = self._gathered.get(labels)
        if rows is None:
            rows = self._gathered[labels] = []
        rows.append(row)
        self._count += entries
        self._bytes += len(row)
        if self._bytes >= self._options.batch_bytes:
            self._seal()

    def _seal(self) -> None:
        """Hand what has gathered to the sender."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._count:
            self._sender.put(self._format.request(self._gathered), self._count)
            self._gathered = {}
            self._count = self._bytes = 0

    def stats(self) -> SinkStats:
        added_up = self._sums.calls if self._sums is not None else 0
        held = added_up + self._count + self._sender.held
        return SinkStats(held, self._filtered, dict(self._sender.dropped))

    async def flush(self) -> None:
        self._take_sums()
        self._seal()
        await self._sender.flush()

    async def close(self) -> None:
        self._take_sums()
        self._seal()
        await self._sender.close()
        await self._peer.close()


def make_format(options: LokiOptions) -> Format:
    if options.format == "json":
        return Json()
    return Protobuf(needed("cramjam", "sink loki", "loki").snappy.compress_raw)


def push_url(target: str) -> str:
    """The address of the push API at `target`."""
    try:
        bare = urlsplit(target).path in ("", "/")
    except ValueError:
        raise PluginError("sink loki: its address is none") from None
    return target.rstrip("/") + PATH if bare else target


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [SinkSpec(name="loki", make=Loki, options=LokiOptions, doc="Grafana Loki's push API")]
