"""The sink ``metrics``: what a scrape says, by itself and by a real Prometheus under load."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kshark import limits
from kshark.api import Kind, Message, Outcome, PluginError
from kshark.fanout import Fanout
from kshark.lane import LaneOptions
from kshark.sinks.metrics import SCRAPES, Metrics, MetricsOptions, address
from sinks.conftest import FakeContext, MakeEntry
from sinks.prometheus_server import Prometheus, need_prometheus


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: bytes = answer.read()
    return text


def samples(port: int) -> dict[str, float]:
    """A scrape: ``name{label="value"}`` and its number."""
    found = {}
    for family in text_string_to_metric_families(get(f"http://127.0.0.1:{port}/metrics").decode()):
        for one in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(one.labels.items()) if v)
            found[f"{one.name}{{{labels}}}"] = one.value
    return found


def use(sink: Metrics, what: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        await sink.open()
        try:
            return await what()
        finally:
            await sink.close()

    return asyncio.run(run())


def made(context: FakeContext, **options: Any) -> Metrics:
    return Metrics(MetricsOptions(**{"target": "127.0.0.1:0", **options}), context)


def test_rate_errors_durations(context: FakeContext, make_entry: MakeEntry) -> None:
    sink = made(context, labels=["protocol", "response.class", "outcome"])
    failed = make_entry(9, outcome=Outcome.ERROR)
    assert failed.response is not None
    failed.response.status, failed.response.ok = 503, False
    lonely = make_entry(10, response=None, outcome=Outcome.UNANSWERED)

    async def scrape() -> dict[str, float]:
        await sink.write([*(make_entry(n) for n in range(9)), failed, lonely])
        return await asyncio.to_thread(samples, sink.port)

    found = use(sink, scrape)
    ok = "outcome=ok,protocol=http,response_class=2xx"
    assert found[f"kshark_calls_total{{{ok}}}"] == 9
    assert found["kshark_calls_total{outcome=error,protocol=http,response_class=5xx}"] == 1
    assert found["kshark_calls_total{outcome=unanswered,protocol=http}"] == 1
    assert found[f"kshark_response_bytes_total{{{ok}}}"] == 9 * 165
    assert found[f"kshark_latency_seconds_count{{{ok}}}"] == 9
    assert found[f"kshark_latency_seconds_bucket{{le=0.001,{ok}}}"] == 0
    assert found[f"kshark_latency_seconds_bucket{{le=0.0025,{ok}}}"] == 9
    assert found[f"kshark_latency_seconds_sum{{{ok}}}"] == pytest.approx(9 * 0.001234567)


def test_a_million_values_are_bounded(context: FakeContext, make_entry: MakeEntry) -> None:
    sink = made(context, labels=["request.target"])
    entry = make_entry(0)
    assert entry.request is not None
    request = entry.request

    async def flood() -> dict[str, float]:
        for n in range(0, 1_000_000, 1_000):
            for k in range(1_000):
                request.target = f'/{n + k}\n"\\\udce9{"x" * 200 if k == 5 else ""}'
                await sink.write([entry])
        return await asyncio.to_thread(samples, sink.port)

    found = use(sink, flood)
    calls = {name: n for name, n in found.items() if name.startswith("kshark_calls_total")}
    assert len(calls) == limits.SERIES + 1
    assert sum(calls.values()) == 1_000_000
    assert calls["kshark_calls_total{request_target=other}"] == 1_000_000 - limits.SERIES
    assert found["kshark_calls_overflowed_total{}"] == 1_000_000 - limits.SERIES
    assert max(map(len, calls)) < 300


def test_the_ledger_is_told(context: FakeContext, make_entry: MakeEntry) -> None:
    context.books = {
        "packets": {"received": 9, "dissected": 5, "late": 0, "open": 1, "opaque": {"no payload": 2},
                    "dropped": {"bad_ip": 1}},
        "flows": {"http": 3}, "messages": {"all": 4, "requests": 2, "responses": 2},
        "entries": {"ok": 2}, "limits": {"shed": 1}, "errors": {"http: x": 1},
        "backends": {"lo": {"received": 9, "dropped": {"kernel": 4},
                            "spared": {"opaque": 8}}},
        "sinks": {"loki": {"entries": 2, "filtered": 0, "delivered": 1, "queued": 1, "busy": 0,
                           "dropped": {"refused": 7}}},
    }  # fmt: skip
    sink = made(context)
    found = use(sink, lambda: asyncio.to_thread(samples, sink.port))
    assert found["kshark_packets_received_total{}"] == 9
    assert found["kshark_packets_total{end=opaque,reason=no payload}"] == 2
    assert found["kshark_packets_total{end=dropped,reason=bad_ip}"] == 1
    assert found["kshark_backend_dropped_total{backend=lo,reason=kernel}"] == 4
    assert found["kshark_backend_spared_bytes_total{backend=lo,reason=opaque}"] == 8
    assert found["kshark_sink_dropped_total{reason=refused,sink=loki}"] == 7
    assert found["kshark_sink_queued{sink=loki}"] == 1
    assert found["kshark_limits_total{limit=shed}"] == 1
    assert "kshark_messages_total{kind=all}" not in found


def test_an_entry_that_cannot_be_counted_costs_itself(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    bad = make_entry(0, request=Message(Kind.REQUEST, size=None))  # type: ignore[arg-type]
    sink = made(context)

    async def scrape() -> dict[str, float]:
        await sink.write([bad, make_entry(1)])
        return await asyncio.to_thread(samples, sink.port)

    use(sink, scrape)
    assert context.lost == [bad]


def test_clients_that_hang_cost_a_bounded_number_of_threads(context: FakeContext) -> None:
    import threading

    sink = made(context)

    async def crowd() -> None:
        before = threading.active_count()
        held = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(50)]
        try:
            for one in held:
                one.setblocking(False)
            loop = asyncio.get_running_loop()
            for one in held[SCRAPES:]:  # those that found no room are hung up on
                assert await loop.sock_recv(one, 1) == b""
            assert threading.active_count() <= before + SCRAPES
        finally:
            for one in held:
                one.close()

    use(sink, crowd)


def test_addresses() -> None:
    assert address("127.0.0.1:1") == ("127.0.0.1", 1)
    assert address("[::1]:9") == ("::1", 9)
    assert address(":9") == ("0.0.0.0", 9)
    assert address("9") == ("127.0.0.1", 9)
    for wrong in ("", "host", "host:x", "h:99999"):
        with pytest.raises(PluginError):
            address(wrong)


def test_mistakes_are_said(context: FakeContext) -> None:
    mistakes: list[dict[str, Any]] = [
        {"labels": ["x"]}, {"buckets": []}, {"buckets": [2.0, 1.0]}, {"buckets": [0.0]},
    ]  # fmt: skip
    for wrong in mistakes:
        with pytest.raises(PluginError):
            made(context, **wrong)

    async def taken() -> None:
        other = made(context, target=f"127.0.0.1:{sink.port}")
        with pytest.raises(PluginError, match="in use"):
            await other.open()

    sink = made(context)
    use(sink, taken)


# ---------------------------------------------------------------- a real Prometheus


SCRAPING = """
global: {{scrape_interval: 3s, scrape_timeout: 3s}}
scrape_configs:
  - {{job_name: kshark, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}
"""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[int], Prometheus]]:
    need_prometheus()
    started: list[Prometheus] = []

    def start(port: int) -> Prometheus:
        started.append(Prometheus(tmp_path, SCRAPING.format(port=port)))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_prometheus_scrapes_under_load(
    context: FakeContext,
    make_entry: MakeEntry,
    prometheus: Callable[[int], Prometheus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood of paths while it scrapes: the sums are right."""
    monkeypatch.setattr(limits, "SERIES", 400)  # a scrape of 2,000 takes half a second of CPU
    sink = made(context, labels=["request.target", "outcome"])

    async def whole() -> None:
        fanout = Fanout(context.say)
        fanout.add("metrics", sink, LaneOptions(), live=False)
        context.books = {"sinks": {}}
        await fanout.open()
        server = prometheus(sink.port)
        await asyncio.to_thread(server.until, 'sum(up{job="kshark"})', 1)
        for n in range(0, 100_000, 500):
            await fanout.put([make_entry(n + k, f"/{n + k}") for k in range(500)])
            context.books["sinks"] = fanout.snapshot()
        while fanout.lanes[0].queued:
            await asyncio.sleep(0.01)
        context.books["sinks"] = fanout.snapshot()
        await asyncio.to_thread(server.until, "sum(kshark_calls_total)", 100_000)
        await asyncio.to_thread(server.until, "sum(kshark_sink_delivered_total)", 100_000)
        assert server.query("count(kshark_calls_total)") == {"": limits.SERIES + 1}
        await fanout.drain()

    asyncio.run(whole())
