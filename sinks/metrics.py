"""Rate, errors and durations of the calls, and kshark's own books, for Prometheus to scrape.

What is counted is bounded: after `limits.SERIES` sets of label values, the rest are counted together as "other".
The library prometheus_client writes the text and answers; counting is done here, since an observation by the
library's own objects costs several times as much.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from io import StringIO
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Annotated, Any, Final, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec

from kshark import limits
from kshark.api import Context, Entry, Options, PluginError, SinkSpec, hookimpl, option
from kshark.sinks._fields import readers
from kshark.sinks._http import needed

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of latencies in seconds: those of Prometheus' clients, and 1 and 2.5 ms, which calls within a
cluster take."""
SCRAPES: Final = 8
"""Scrapes answered at once; who comes then is hung up on."""
SCRAPE_WAIT: Final = 5.0
"""Seconds that a scrape waits for the event loop, and that a slow client is waited for."""
VALUE: Final = 128
"""Characters of a label's value."""
OTHER: Final = "other"


class MetricsOptions(Options):
    """Options of the sink ``metrics``."""

    target: Annotated[str, option("Where to listen: ADDRESS:PORT; 0 is any free port")] = (
        "127.0.0.1:9464"
    )
    labels: Annotated[
        list[str], option("Facts of a call that become labels: such as have few values")
    ] = msgspec.field(
        default_factory=lambda: [
            "protocol",
            "dst.name",
            "request.verb",
            "response.class",
            "outcome",
        ]
    )
    buckets: Annotated[list[float], option("Upper bounds of latencies, in seconds, rising")] = (
        msgspec.field(default_factory=lambda: list(BUCKETS))
    )


class Series(msgspec.Struct):
    """What is counted of one set of label values."""

    buckets: list[int]
    calls: int = 0
    latency_ns: int = 0
    asked: int = 0  # bytes
    answered: int = 0


Reading = tuple[dict[tuple[str, ...], Series], int, dict[str, Any]]
"""What a scrape shows: the series, how many calls overflowed, the ledger."""


class Calls:
    """Every call counted, by its labels."""

    def __init__(self, labels: Sequence[str], bounds: Sequence[float]) -> None:
        found = readers(labels, "sink metrics: labels")
        self.names = tuple(found)
        self.bounds = tuple(bounds)
        self._bounds_ns = [int(bound * 1e9) for bound in bounds]
        self._reads = tuple(found.values())
        self.series: dict[tuple[str, ...], Series] = {}
        self.overflowed = 0

    def count(self, entry: Entry) -> None:
        values = tuple([read(entry) for read in self._reads])
        one = self.series.get(values) or self._new(values)
        one.calls += 1
        request, response = entry.request, entry.response
        if request is not None:
            one.asked += request.size
        if response is not None:
            one.answered += response.size
            if request is not None:
                latency = max(response.first_ns - request.first_ns, 0)
                one.latency_ns += latency
                one.buckets[bisect_left(self._bounds_ns, latency)] += 1

    def _new(self, values: tuple[str, ...]) -> Series:
        values = tuple(_clean(value) for value in values)
        if values not in self.series and len(self.series) >= limits.SERIES:
            self.overflowed += 1
            values = (OTHER,) * len(values)
        return self.series.setdefault(values, Series([0] * (len(self.bounds) + 1)))

    def copy(self) -> dict[tuple[str, ...], Series]:
        """As of now: what is read while calls are counted."""
        return {
            values: Series(one.buckets.copy(), one.calls, one.latency_ns, one.asked, one.answered)
            for values, one in self.series.items()
        }


def _clean(value: str) -> str:
    """A value that fits, in UTF-8."""
    return value[:VALUE].encode("utf-8", "replace").decode()


class Metrics:
    """The sink: counts, and answers scrapes in threads of its own."""

    def __init__(self, options: MetricsOptions, context: Context) -> None:
        bounds = options.buckets
        if not bounds or sorted(set(bounds)) != bounds or bounds[0] <= 0:
            raise PluginError("sink metrics: buckets must rise, from above 0")
        self._context = context
        self._address = address(options.target)
        self._calls = Calls(options.labels, bounds)
        self._library = needed("prometheus_client", "sink metrics", "metrics")
        self._families = needed("prometheus_client.core", "sink metrics", "metrics")
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self._server.server_port if self._server is not None else 0

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        registry = self._library.CollectorRegistry(auto_describe=False)
        registry.register(self)
        self._library.ProcessCollector(registry=registry)  # what kshark costs: CPU, memory, files
        host, port = self._address
        application = self._library.make_wsgi_app(registry)
        kind = Server6 if ":" in host else Server
        try:
            self._server = make_server(host, port, application, kind, Handler)
        except OSError as error:
            raise PluginError(f"sink metrics: {host}:{port}: {error.strerror}") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )
        self._thread.start()

    async def write(self, batch: Sequence[Entry]) -> None:
        count = self._calls.count
        for entry in batch:
            try:
                count(entry)
            except Exception as error:  # a plugin's entry may hold anything
                self._context.unshown(entry, error)

    async def close(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    # -- a scrape, in its thread

    def collect(self) -> Iterator[Any]:
        """Everything as of one moment, which the event loop chooses."""
        answer: Future[Reading] = Future()
        self._loop.call_soon_threadsafe(self._read, answer)
        calls, overflowed, books = answer.result(SCRAPE_WAIT)
        yield from call_families(self._families, self._calls, calls, overflowed)
        yield from ledger_families(self._families, books)

    def _read(self, answer: Future[Reading]) -> None:
        if answer.set_running_or_notify_cancel():
            reading = (self._calls.copy(), self._calls.overflowed, self._context.ledger())
            answer.set_result(reading)


class Handler(WSGIRequestHandler):
    timeout = SCRAPE_WAIT

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no news."""

    def get_stderr(self) -> TextIO:
        """One that cannot be answered (the run ends) is a 500 to who asked, and no traceback here."""
        return StringIO()


class Server(ThreadingMixIn, WSGIServer):
    """A thread a scrape, up to a bound."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._slots = threading.BoundedSemaphore(SCRAPES)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class Server6(Server):
    address_family = socket.AF_INET6


def address(target: str) -> tuple[str, int]:
    """``127.0.0.1:9464``, ``[::1]:9464``, ``:9464`` or ``9464``."""
    host, _, port = target.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise PluginError(f"sink metrics: {target!r} is not ADDRESS:PORT")
    return host.strip("[]") or ("0.0.0.0" if target.startswith(":") else "127.0.0.1"), int(port)


# ---------------------------------------------------------------- as the library wants them


def call_families(
    core: Any, calls: Calls, series: Mapping[tuple[str, ...], Series], overflowed: int
) -> Iterable[Any]:
    names = calls.names
    total = core.CounterMetricFamily("kshark_calls", "Calls seen", labels=names)
    asked = core.CounterMetricFamily("kshark_request_bytes", "Bytes of requests", labels=names)
    answered = core.CounterMetricFamily("kshark_response_bytes", "Bytes of responses", labels=names)
    latency = core.HistogramMetricFamily(
        "kshark_latency_seconds", "First byte of the request to first of the response", labels=names
    )
    bounds = [*map(str, calls.bounds), "+Inf"]
    for values, one in series.items():
        total.add_metric(values, one.calls)
        asked.add_metric(values, one.asked)
        answered.add_metric(values, one.answered)
        if any(one.buckets):
            rising = [*zip(bounds, accumulate(one.buckets), strict=True)]
            latency.add_metric(values, rising, one.latency_ns / 1e9)
    yield from (total, asked, answered, latency)
    over = core.CounterMetricFamily(
        "kshark_calls_overflowed", "Calls counted as other: labels have too many values"
    )
    over.add_metric((), overflowed)
    yield over


COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "flows": ("protocol", "Flows, by protocol"),
    "messages": ("kind", "Messages that dissectors found"),
    "entries": ("outcome", "Entries made, by outcome"),
    "limits": ("limit", "How often a bound fired"),
    "errors": ("error", "Mistakes of peers and plugins"),
}
"""Tables of the ledger that are one counter each: its label, and what it says."""


def ledger_families(core: Any, books: Mapping[str, Any]) -> Iterable[Any]:
    """The ledger: the same numbers as the closing line and `kshark doctor`."""
    counter = _counter(core)
    packets = books.get("packets", {})
    ends = {end: packets[end] for end in ("dissected", "late") if end in packets}
    rows = [((end, ""), count) for end, count in ends.items()]
    rows += [
        ((end, r), n) for end in ("opaque", "dropped") for r, n in packets.get(end, {}).items()
    ]
    received = [((), packets.get("received", 0))]
    yield counter("kshark_packets_received", "Packets that came", (), received)
    yield counter("kshark_packets", "Packets, by what became of them", ("end", "reason"), rows)
    for name, (label, text) in COUNTERS.items():
        table = [((key,), n) for key, n in books.get(name, {}).items() if key != "all"]
        yield counter(f"kshark_{name}", text, (label,), table)
    backends = books.get("backends", {})
    yield from _parts(counter, "backend", backends, ("received",))
    spared = [
        ((b, why), n) for b, one in backends.items() for why, n in one.get("spared", {}).items()
    ]
    text = "Bytes that nobody reads, left out by each backend"
    yield counter("kshark_backend_spared_bytes", text, ("backend", "reason"), spared)
    facts = core.GaugeMetricFamily(
        "kshark_backend_info", "How each backend captures", labels=("backend", "what", "is")
    )
    for name, one in backends.items():
        for what, value in one.get("facts", {}).items():
            facts.add_metric((_clean(name), _clean(what), _clean(value)), 1)
    yield facts
    sinks = books.get("sinks", {})
    yield from _parts(counter, "sink", sinks, ("entries", "filtered", "delivered", "busy"))
    queued = core.GaugeMetricFamily("kshark_sink_queued", "Entries that wait", labels=("sink",))
    for name, one in sinks.items():
        queued.add_metric((name,), one["queued"])
    yield queued


Rows = Iterable[tuple[tuple[str, ...], int]]


def _counter(core: Any) -> Callable[[str, str, tuple[str, ...], Rows], Any]:
    def make(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> Any:
        family = core.CounterMetricFamily(name, text, labels=labels)
        for values, count in rows:
            family.add_metric([_clean(value) for value in values], count)
        return family

    return make


def _parts(
    counter: Callable[..., Any], kind: str, parts: Mapping[str, Any], names: Sequence[str]
) -> Iterable[Any]:
    """The books of the backends, or of the sinks."""
    for name in names:
        rows = [((part,), books[name]) for part, books in parts.items()]
        yield counter(f"kshark_{kind}_{name}", f"{name}, of each {kind}", (kind,), rows)
    lost = [((p, why), n) for p, books in parts.items() for why, n in books["dropped"].items()]
    yield counter(f"kshark_{kind}_dropped", f"Lost, of each {kind}", (kind, "reason"), lost)


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="metrics",
            make=Metrics,
            options=MetricsOptions,
            doc="Rate, errors and durations for Prometheus to scrape, and kshark's own books",
        )
    ]
