"""The sink ``loki`` with a real Loki: what LogQL counts is what the books say was delivered."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome
from kshark.fanout import Fanout
from kshark.lane import LaneOptions
from kshark.sinks.loki import Loki, LokiOptions
from sinks.conftest import FakeContext
from sinks.loki_server import LokiServer, find_binary, loki

__all__ = ["loki"]
ROOT = Path(__file__).parent.parent.parent
BATCH = 250


def entries(count: int, run: str) -> list[list[Entry]]:
    """Exchanges of this moment: one in ten failed, one in a hundred had no answer."""
    now = time.time_ns() - count * 1_000
    flow = Flow(
        run, "tcp", Endpoint("10.0.0.1", 4), Endpoint("10.0.0.2", 80, "cart"), protocol="http"
    )
    found = []
    for n in range(count):
        first = now + n * 1_000
        asked = Message(Kind.REQUEST, verb="GET", target=f"/item/{n}", size=90, first_ns=first)
        status = 503 if n % 10 == 7 else 200
        answered = Message(
            Kind.RESPONSE, status=status, ok=status == 200, size=200, first_ns=first + 5_000_000,
            last_ns=first + 5_000_000,
        )  # fmt: skip
        entry = Entry(
            flow, n, "http", asked, answered, Outcome.OK if status == 200 else Outcome.ERROR
        )
        if n % 100 == 50:
            entry.response, entry.outcome = None, Outcome.UNANSWERED
        found.append(entry)
    return [found[at : at + BATCH] for at in range(0, count, BATCH)]


async def paced(
    batches: list[list[Entry]], between: Callable[[int], Any]
) -> AsyncIterator[list[Entry]]:
    for number, batch in enumerate(batches):
        await asyncio.to_thread(between, number)
        yield batch
        await asyncio.sleep(0.01)


def deliver(
    url: str, run: str, batches: list[list[Entry]], between: Callable[[int], Any] = lambda n: None,
    lane: LaneOptions | None = None, **options: Any,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """The books of a lane with this sink, and what was said."""
    context = FakeContext()
    options = {"static": ["job=kshark", f"run={run}"], "batch_age": 0.1, **options}

    async def whole() -> dict[str, Any]:
        fanout = Fanout(context.say)
        sink = Loki(LokiOptions(target=url, **options), context)
        fanout.add("loki", sink, lane or LaneOptions(), live=True)
        await fanout.open()
        async for batch in paced(batches, between):
            fanout.offer(batch)
        await fanout.drain()
        return fanout.snapshot()["loki"]

    books = asyncio.run(whole())
    ended = (
        books["delivered"] + books["queued"] + books["filtered"] + sum(books["dropped"].values())
    )
    assert books["entries"] == ended
    return books, context.said


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_all_that_was_delivered_is_counted(loki: LokiServer, form: str) -> None:
    books, said = deliver(loki.url, form, entries(10_000, form), format=form, metadata=["dst.name"])
    assert (books["delivered"], books["dropped"], said) == (10_000, {}, [])
    assert loki.count(f'{{run="{form}"}}') == 10_000
    by_outcome = loki.query(f'sum by (outcome) (count_over_time({{run="{form}"}}[1h]))')
    assert by_outcome == {"outcome=ok": 8_900, "outcome=error": 1_000, "outcome=unanswered": 100}
    assert loki.count(f'{{run="{form}"}} | dst_name="cart"') == 10_000
    assert loki.count(f'{{run="{form}"}} | json | response_status >= 500') == 1_000


def test_a_text_line_can_be_asked_by_its_metadata(loki: LokiServer) -> None:
    books, _ = deliver(loki.url, "text", entries(1_000, "text"), line="text")
    assert books["delivered"] == 1_000
    assert loki.count('{run="text"} | response_class="5xx" | dst_name="cart"') == 100
    slow = 'quantile_over_time(0.5, {run="text"} | unwrap latency_ns [1h]) by (run)'
    assert loki.query(slow) == {"run=text": 5_000_000}


def test_a_weighted_sample_adds_up(loki: LokiServer) -> None:
    books, _ = deliver(loki.url, "sample", entries(10_000, "sample"), sample=10)
    assert (books["delivered"], books["filtered"]) == (8_900 // 10 + 1_100, 8_010)
    weighed = loki.query('sum(sum_over_time({run="sample"} | outcome="ok" | unwrap weight [1h]))')
    assert weighed == {"": 8_900}


def test_an_old_capture_is_refused_and_counted(loki: LokiServer, tmp_path: Path) -> None:
    """End to end, by the command line: Loki takes nothing older than a week."""
    capture = tmp_path / "old.pcap"
    subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "generate.py", "http", "--transactions", "500",
         "--out", capture],
        check=True, capture_output=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "kshark", "run", "--read", capture, "--sink", f"loki:{loki.url},static=run=old"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "500 lost (too old for loki)" in done.stderr
    assert "timestamp too old" in done.stderr
    assert loki.count('{run="old"}') == 0


def test_loki_killed_in_the_middle_with_a_spool(loki: LokiServer, tmp_path: Path) -> None:
    def between(number: int) -> None:
        if number == 20:
            loki.kill()
        elif number == 60:
            loki.start()

    books, said = deliver(
        loki.url, "killed", entries(20_000, "killed"), between, batch_bytes=50_000, memory=20_000,
        spool=str(tmp_path),
    )  # fmt: skip
    assert (books["delivered"], books["dropped"]) == (20_000, {})
    loki.wait()
    assert loki.count('{run="killed"}') == 20_000
    assert any("entries wait" in text for text in said)
    assert said[-1] == "loki: takes entries again"


def test_loki_killed_without_a_spool_loses_what_memory_does_not_hold(loki: LokiServer) -> None:
    def between(number: int) -> None:
        if number == 20:
            loki.kill()
        elif number == 70:
            loki.start()

    books, _ = deliver(
        loki.url, "lost", entries(20_000, "lost"), between, LaneOptions(queue=2_000),
        batch_bytes=50_000, memory=20_000,
    )  # fmt: skip
    assert books["dropped"].keys() == {"oldest"}
    loki.wait()
    assert loki.count('{run="lost"}') == books["delivered"] < 20_000


def test_the_limit_of_a_tenant_is_said_and_waited_for(tmp_path: Path) -> None:
    """At half a megabyte a second: 429 until there is room, and nothing lost."""
    server = LokiServer(find_binary(), tmp_path, ingestion_rate_mb=0.5, ingestion_burst_size_mb=0.5)
    server.start()
    try:
        server.wait()
        books, said = deliver(server.url, "limit", entries(5_000, "limit"), batch_bytes=200_000)
        assert (books["delivered"], books["dropped"]) == (5_000, {})
        assert server.count('{run="limit"}') == 5_000
        assert any("it is the limit" in text and "rate limit exceeded" in text for text in said)
    finally:
        server.kill()


def test_the_tenant_is_told(tmp_path: Path) -> None:
    """Loki with ``auth_enabled`` takes nothing without a tenant, and keeps tenants apart."""
    server = LokiServer(find_binary(), tmp_path)
    config = tmp_path / "loki.yaml"
    config.write_text(config.read_text().replace("auth_enabled: false", "auth_enabled: true"))
    server.start()
    try:
        server.wait()
        books, _ = deliver(server.url, "t", entries(100, "t"), tenant="team-a")
        assert books["delivered"] == 100
        labels = subprocess.run(
            ["curl", "-s", "-H", "X-Scope-OrgID: team-a", f"{server.url}/loki/api/v1/label/run/values"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(labels.stdout)["data"] == ["t"]
    finally:
        server.kill()
