"""The sink ``loki`` with ``aggregate``: calls that went well are added up, and the books know each of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kshark import limits
from kshark.api import Entry, Kind, Message, Outcome, PluginError
from kshark.sinks.loki import Loki
from sinks.conftest import NOON, FakeContext, MakeEntry
from sinks.http_peer import serving
from sinks.test_loki import made, rows, send, until, use

MS = 1_000_000


def slow_one(make_entry: MakeEntry, seq: int) -> Entry:
    late = NOON + 1_500 * MS
    return make_entry(
        seq, response=Message(Kind.RESPONSE, status=200, size=1, first_ns=late, last_ns=late)
    )


def test_what_went_well_is_added_up(context: FakeContext, make_entry: MakeEntry) -> None:
    batch = [make_entry(n, f"/{n}") for n in range(98)]
    batch += [make_entry(98, outcome=Outcome.ERROR), slow_one(make_entry, 99)]
    with serving() as peer:
        sink = made(context, peer.url, aggregate=60)
        send(sink, batch)
    lines = [json.loads(line) for _, line, _ in rows(peer)]
    assert [line["id"] for line in lines if "id" in line] == ["f1-98", "f1-99"]
    [one] = [line for line in lines if "calls" in line]
    assert one == {
        "calls": 98, "dst_ip": "10.0.0.2", "dst_port": "80", "request_verb": "GET", "response_status": "200",
        "request_bytes": 98 * 80, "response_bytes": 98 * 165, "latency_ns_mean": 1_234_567,
        "latency_ns_max": 1_234_567,
    }  # fmt: skip
    stats = sink.stats()
    assert (stats.held, stats.filtered, dict(stats.dropped)) == (0, 0, {})


def test_sums_are_sent_when_it_is_time(context: FakeContext, make_entry: MakeEntry) -> None:
    async def whole(sink: Loki) -> None:
        for n in range(3):
            await sink.write([make_entry(n)])
            assert sink.stats().held == 1
            await until(lambda: not sink.stats().held)

    with serving() as peer:
        use(made(context, peer.url, aggregate=0.05, batch_age=0.01), whole)
    assert [json.loads(line)["calls"] for _, line, _ in rows(peer)] == [1, 1, 1]


def test_a_million_kinds_are_bounded(
    context: FakeContext, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LABEL_SETS", 10)
    with serving() as peer:
        sink = made(context, peer.url, aggregate=60, group=["request.target"])
        send(sink, [make_entry(n, f"/{n}") for n in range(1_000)])
    calls = {
        line["request_target"]: line["calls"]
        for line in map(json.loads, (r[1] for r in rows(peer)))
    }
    assert len(calls) == 11
    assert calls["other"] == 990


def test_what_cannot_be_added_costs_itself(context: FakeContext, make_entry: MakeEntry) -> None:
    bad = make_entry(0, request=Message(Kind.REQUEST, size=None, first_ns=1))  # type: ignore[arg-type]
    with serving() as peer:
        send(made(context, peer.url, aggregate=60), [bad, make_entry(1)])
    assert [json.loads(line)["calls"] for _, line, _ in rows(peer)] == [1]
    assert context.lost == [bad]


def test_sums_that_cannot_be_sent_are_lost_with_their_reason(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    async def whole(sink: Loki) -> None:
        await sink.write([make_entry(n) for n in range(50)])

    sink = made(context, "http://127.0.0.1:9", aggregate=60)
    use(sink, whole)
    assert dict(sink.stats().dropped) == {"unsent": 50}


@pytest.mark.parametrize(
    "wrong", [{"aggregate": 1, "sample": 2}, {"aggregate": 1, "group": ["nil"]}]
)
def test_mistakes_are_said(context: FakeContext, wrong: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=r"sample or aggregate|no field"):
        made(context, "http://127.0.0.1:9", **wrong)


def test_a_full_memory_is_said_once(context: FakeContext, make_entry: MakeEntry) -> None:
    async def whole(sink: Loki) -> None:
        refused = 0
        for n in range(1_000):
            try:
                await sink.write([make_entry(n)])
            except Exception:
                refused += 1
        assert refused > 900
        await asyncio.sleep(0)

    use(made(context, "http://127.0.0.1:9", batch_bytes=1, memory=5_000), whole)
    assert [said for said in context.said if "it is the limit" in said] == [
        "loki: it is the limit, memory is full: a filter, sample or aggregate sends less"
    ]
