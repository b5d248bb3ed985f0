"""The dashboards and alert rules of ``deploy/grafana``, by traffic whose rates, errors and latencies are known.

PromQL is evaluated by a real Prometheus and by ``promtool test rules``, over what the sink `metrics` said at each
scrape. LogQL is parsed by Grafana's grammar and evaluated over what the sink `loki` pushed: by `deploy.logql`, and by
a real Loki where there is one.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sinks.conftest import FakeContext
from sinks.http_peer import serving
from sinks.loki_server import LokiServer, find_binary
from sinks.prometheus_server import Prometheus, labelled, need_prometheus
from sinks.test_metrics import get

from deploy import logql, traffic
from deploy.traffic import AFTER, IN_TROUBLE, LENGTH, NS, STEP
from kshark.sinks.loki import Loki, LokiOptions
from kshark.sinks.metrics import Metrics, MetricsOptions

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
LEZER = ROOT / "build" / "logql"
START = int(time.time()) // 60 * 60 - LENGTH - 600
"""Seconds since the epoch at which the traffic began: within what a Loki takes."""
CHOSEN = {"$node": ".*", "$by": "dst_name", "$where": 'job="kshark"', "${slow}": "1000",
          "$__rate_interval": "1m", "$__auto": "1m", "$__range": "10m"}  # fmt: skip
"""What a person chose on the board, and Grafana's own."""


def boards() -> dict[str, dict[str, Any]]:
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((GRAFANA / "dashboards").iterdir())
    }


def queries(source: str) -> dict[str, str]:
    """Every query of every panel of a source, by board and title."""
    found = {}
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                if target["datasource"]["type"] == source:
                    text = target["expr"]
                    for variable, value in CHOSEN.items():
                        text = text.replace(variable, value)
                    found[f"{name.removeprefix('kshark-')}: {panel['title']}"] = text
    return found


def rules(source: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((GRAFANA / f"{source}-rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boards", GRAFANA / "boards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- what they are


def test_the_files_are_what_the_source_says() -> None:
    for path, text in generator().files().items():
        assert path.read_text() == text, f"python deploy/grafana/boards.py: {path.name}"


def test_dashboards_are_what_grafana_reads() -> None:
    """By the library that Grafana makes from its schemas: what it does not know, it loses."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    for board in boards().values():
        again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
        assert missing(board, again) == []
        ends = [panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in board["panels"]]
        assert max(ends) <= 24
    assert len({board["uid"] for board in boards().values()}) == len(boards())


def missing(given: Any, kept: Any, where: str = "") -> list[str]:
    """What of `given` is not in `kept`."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            found for k, v in given.items() for found in missing(v, kept.get(k), f"{where}.{k}")
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = zip(given, kept, strict=True)
        return [found for n, (a, b) in enumerate(pairs) for found in missing(a, b, f"{where}[{n}]")]
    return [] if given == kept else [f"{where}: {given!r} is {kept!r}"]


def test_logql_is_what_the_grammar_takes() -> None:
    if not (LEZER / "node_modules").exists() or shutil.which("node") is None:
        assert "CI" not in os.environ, "make tools installs the grammar of LogQL"
        pytest.skip("no grammar of LogQL: make tools, with npm installed")
    shutil.copy(Path(__file__).with_name("lezer.mjs"), LEZER)
    asked = [*queries("loki").values(), *(rule["expr"] for rule in rules("loki"))]
    asked.append("sum by (rate({a=")  # so that we see that it sees
    done = subprocess.run(
        ["node", LEZER / "lezer.mjs"], input="\n".join(asked), capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.splitlines() == asked[-1:]


# ---------------------------------------------------------------- Prometheus

slow = pytest.mark.slow  # forty minutes of traffic, twice
Scrapes = dict[str, list[float]]
"""The values of each series, one a step: ``name{a="b"}``."""


@pytest.fixture(scope="module")
def scrapes() -> Scrapes:
    """What the sink says of the traffic, scrape by scrape, as Prometheus names it; node b has no calls."""
    context = FakeContext()
    sink = Metrics(MetricsOptions(target="127.0.0.1:0"), context)
    found: Scrapes = {}

    async def run() -> None:
        await sink.open()
        for second in range(0, LENGTH, STEP):
            context.books = traffic.books(second)
            keep(
                found,
                (await asyncio.to_thread(get, f"http://127.0.0.1:{sink.port}/metrics")).decode(),
            )
            await sink.write(list(traffic.calls(START, second)))
        await sink.close()

    asyncio.run(run())
    steps = range(0, LENGTH, STEP)
    down = [second in traffic.TROUBLE for second in steps]
    seen, packets = 0, []
    for away in down:
        seen += 0 if away else 100
        packets.append(float(seen))
    found['up{instance="a",job="kshark"}'] = [1.0] * len(steps)
    found['up{instance="b",job="kshark"}'] = [0.0 if away else 1.0 for away in down]
    found['kshark_backend_received_total{backend="tc",instance="b",job="kshark"}'] = packets
    return found


def keep(found: Scrapes, text: str) -> None:
    """Add a scrape. A series that was not there yet was 0: no scrape was missed."""
    length = max(map(len, found.values()), default=0)
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = {**one.labels, "instance": "a", "job": "kshark"}
            inside = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
            values = found.setdefault(f"{one.name}{{{inside}}}", [0.0] * length)
            values.append(one.value)


@pytest.fixture(scope="module")
def prometheus(scrapes: Scrapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real one that has scraped all that."""
    need_prometheus()
    folder = tmp_path_factory.mktemp("prometheus")
    lines = [
        f"{series} {value} {START + n * STEP}"
        for series, values in scrapes.items()
        for n, value in enumerate(values)
    ]
    (folder / "scraped").write_text("\n".join([*lines, "# EOF\n"]))
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "scraped", folder / "data"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Prometheus(folder, "global: {}\n")
    server.until("vector(1)", 1)
    yield server
    server.stop()


CALLS = {"dst_name=cart": 2.0, "dst_name=pay": 1.0, "dst_name=cache": 1.0}
IN_PROMETHEUS: dict[str, dict[str, float]] = {
    "health: Bounds that fired": {"limit=shed": 1},
    "health: CPU of kshark, in cores": {},
    "health: Calls counted as other: labels have too many values": {"instance=a": 0},
    "health: Delivered, by sink": {"sink=loki": 3},
    "health: Entries lost in the last hour": {"": 690},
    "health: Entries that wait": {"": 30_000},
    "health: Lost by backends": {"backend=ebpf,instance=a,reason=ring full": 10},
    "health: Lost by backends in the last hour": {"": 6900},
    "health: Lost by sinks": {"instance=a,reason=oldest,sink=loki": 1},
    "health: Memory of kshark": {},
    "health: Nodes that answer": {"": 1},
    "health: Received, by backend": {"backend=ebpf": 1000, "backend=tc": 0},
    "health: Waiting, by sink": {"instance=a,sink=loki": 30_000},
    "protocols: Bytes by protocol": {"protocol=http": 2 * 1000 + 1 * 100 + 900 * 14 / 15, "protocol=redis": 1000},
    "protocols: Calls by protocol": {"protocol=http": 3, "protocol=redis": 1},
    "protocols: Connections by protocol": {"protocol=http": 3, "protocol=redis": 1},
    "protocols: Mistakes of peers and plugins": {"error=http: bad chunk": 2},
    "protocols: Outcomes": {"outcome=ok": 3, "outcome=error": 1},
    "protocols: Packets not read, by reason": {"reason=encrypted": 100},
    "services: 99 of 100 are answered within": {"": 2.4},
    "services: 99th percentile by $by": {"dst_name=cart": 0.025, "dst_name=pay": 2.485, "dst_name=cache": 0.001},
    "services: Bytes asked and answered by $by": {
        "dst_name=cart": 2000, "dst_name=pay": 100 + 900 * 14 / 15, "dst_name=cache": 1000},
    "services: Calls": {"": 4},
    "services: Calls by $by": CALLS,
    "services: Classes of status": {"response_class=2xx": 1.6 + 14 / 15, "response_class=5xx": 0.4},
    "services: Failed or unanswered": {"": (0.4 + 1 / 15) / 4},
    "services: Median duration by $by": {"dst_name=cart": 0.0175, "dst_name=pay": 1.75, "dst_name=cache": 0.0005},
    "services: Share that failed, by $by": {"dst_name=cart": 0.2, "dst_name=pay": 1 / 15},
}  # fmt: skip
"""What each panel shows in trouble; {} where that is this process's own affair."""


@slow
def test_every_query_of_every_dashboard_in_prometheus(prometheus: Prometheus) -> None:
    asked = queries("prometheus")
    assert asked.keys() == IN_PROMETHEUS.keys()
    for title, query in asked.items():
        found, wanted = prometheus.query(query, START + IN_TROUBLE), IN_PROMETHEUS[title]
        if wanted:
            assert found == pytest.approx(wanted, rel=0.03), title
        else:
            (value,) = found.values()
            assert value >= 0, title


@slow
def test_without_errors_the_boards_show_none(prometheus: Prometheus) -> None:
    asked = queries("prometheus")
    share = prometheus.query(asked["services: Failed or unanswered"], START + AFTER)
    assert share == {"": 0}
    by = prometheus.query(asked["services: Share that failed, by $by"], START + AFTER)
    assert set(by.values()) == {0}


FIRE: dict[str, list[tuple[dict[str, str], str]]] = {
    "KsharkCallsFail": [
        ({"protocol": "http", "dst_name": "cart"}, "20% of the http calls to cart fail"),
        ({"protocol": "http", "dst_name": "pay"}, "6.667% of the http calls to pay fail"),
    ],
    "KsharkCallsSlow": [
        ({"protocol": "http", "dst_name": "pay"}, "one in 100 http calls to pay takes over 2.485s"),
    ],
    "KsharkLosesEntries": [
        ({"instance": "a", "sink": "loki", "reason": "oldest"}, "the sink loki on a loses entries: oldest"),
    ],
    "KsharkLosesTraffic": [
        ({"instance": "a", "backend": "ebpf", "reason": "ring full"}, "the backend ebpf on a loses traffic: ring full"),
    ],
    "KsharkSinkBehind": [
        ({"instance": "a", "sink": "loki"}, "30000 entries wait for the sink loki on a"),
    ],
    "KsharkSeesNothing": [({"instance": "b"}, "kshark on b has received nothing for ten minutes")],
    "KsharkDown": [({"instance": "b", "job": "kshark"}, "kshark on b does not answer")],
}  # fmt: skip


@slow
def test_alert_rules_of_prometheus_fire_and_fall_silent(scrapes: Scrapes, tmp_path: Path) -> None:
    need_prometheus()
    given = rules("prometheus")
    assert {rule["alert"] for rule in given} == FIRE.keys()
    cases = []
    for rule in given:
        alerts = [
            {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": {"summary": said}}
            for labels, said in FIRE[rule["alert"]]
        ]
        cases.append(
            {"eval_time": f"{IN_TROUBLE}s", "alertname": rule["alert"], "exp_alerts": alerts}
        )
        cases += [
            {"eval_time": f"{silent}s", "alertname": rule["alert"], "exp_alerts": []}
            for silent in (traffic.TROUBLE.start - STEP, AFTER)
        ]
    used = {name for rule in given for name in re.findall(r"kshark_\w+|up(?=\{)", rule["expr"])}
    series = [
        {"series": name, "values": " ".join(map(str, values))}
        for name, values in scrapes.items()
        if name.partition("{")[0] in used
    ]
    test = {
        "rule_files": [str(GRAFANA / "prometheus-rules.yaml")],
        "evaluation_interval": f"{STEP}s",
        "tests": [{"interval": f"{STEP}s", "input_series": series, "alert_rule_test": cases}],
    }
    (tmp_path / "test.yaml").write_text(json.dumps(test))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- Loki

Ask = Callable[[str, int], dict[str, float]]
"""A query at a second of the traffic: its values, by their labels."""


def push(url: str) -> None:
    """All of the traffic, by the sink."""
    context = FakeContext()

    async def run() -> None:
        sink = Loki(LokiOptions(target=url, format="json"), context)
        await sink.open()
        for second in range(0, LENGTH, STEP):
            await sink.write(list(traffic.calls(START, second)))
        await sink.flush()
        await sink.close()

    asyncio.run(run())
    assert context.said == []


def evaluated() -> Iterator[Ask]:
    rows = []
    with serving() as peer:
        push(peer.url)
        for request in peer.taken:
            for stream in json.loads(gzip.decompress(request.body))["streams"]:
                rows += [
                    logql.Row(int(ns), stream["stream"], line) for ns, line in stream["values"]
                ]

    def ask(query: str, second: int) -> dict[str, float]:
        found = logql.evaluate(query, rows, (START + second) * NS)
        return {labelled(dict(labels)): value for labels, value in found.items()}

    yield ask


def real(folder: Path) -> Iterator[Ask]:
    server = LokiServer(find_binary(), folder, ingestion_rate_mb=64)
    server.start()
    try:
        server.wait()
        push(server.url)
        yield lambda query, second: server.query(query, START + second)
    finally:
        server.kill()


@pytest.fixture(scope="module", params=["evaluated", "loki"])
def loki(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    yield from (
        evaluated() if request.param == "evaluated" else real(tmp_path_factory.mktemp("loki"))
    )


PAY_ROWS = {"dst_ip=10.0.0.3,dst_port=8080": 560.0}
IN_LOKI: dict[str, dict[str, float]] = {
    "calls: 99th percentile by protocol": {"protocol=http": 2e9, "protocol=redis": 5e5},
    "calls: Calls by outcome": {"outcome=ok": 1.6 + 14 / 15 + 1, "outcome=error": 0.4, "outcome=unanswered": 1 / 15},
    "calls: Calls by protocol": {"protocol=http": 3, "protocol=redis": 1},
    "calls: Most asked": {
        "request_target=/cart,request_verb=GET": 1200, "request_target=/pay,request_verb=POST": 600,
        "request_target=user:1,request_verb=GET": 600},
    "calls: Share that failed, by protocol": {"protocol=http": (0.4 + 1 / 15) / 3},
    "calls: Who asks whom most": {
        "dst_ip=10.0.0.2,dst_port=80,src_ip=10.0.0.1": 1200,
        "dst_ip=10.0.0.3,dst_port=8080,src_ip=10.0.0.1": 600,
        "dst_ip=10.0.0.4,dst_port=6379,src_ip=10.0.0.1": 600},
    "errors: By status": {"response_status=503": 0.4},
    "errors: Failed or unanswered, by protocol": {
        "outcome=error,protocol=http": 0.4, "outcome=unanswered,protocol=http": 1 / 15},
    "errors: What fails most": {
        "request_target=/cart,request_verb=GET,response_status=503": 240,
        "request_target=/pay,request_verb=POST": 40},
    "errors: Who fails most": {"dst_ip=10.0.0.2,dst_port=80": 240, "dst_ip=10.0.0.3,dst_port=8080": 40},
    "slow: Longest by protocol": {"protocol=http": 2e9, "protocol=redis": 5e5},
    "slow: Slow calls by protocol": {"protocol=http": 14 / 15},
    "slow: Slow most often": {"request_target=/pay,request_verb=POST": 560},
    "slow: Who is slow": PAY_ROWS,
}  # fmt: skip
"""What each panel shows in trouble."""


@slow
def test_every_query_of_every_dashboard_in_loki(loki: Ask) -> None:
    asked = {title: query for title, query in queries("loki").items() if "Rows" not in title}
    assert asked.keys() == IN_LOKI.keys()
    for title, query in asked.items():
        assert loki(query, IN_TROUBLE) == pytest.approx(IN_LOKI[title], rel=0.03), title


@slow
def test_the_rows_below_are_those_of_the_board(loki: Ask) -> None:
    asked = queries("loki")

    def rows(title: str) -> float:
        counted = f"sum(count_over_time({asked[title]} [1h]))"
        return sum(loki(counted, LENGTH).values())

    steps = len(traffic.TROUBLE) // STEP
    assert rows("calls: Rows") == LENGTH // STEP * 60
    assert rows("errors: Rows") == steps * 7
    assert rows("slow: Rows") == steps * 14


@slow
def test_alert_rules_of_loki_fire_and_fall_silent(loki: Ask) -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in rules("loki")}
    firing = {"KsharkRowsFail": {"protocol=http"}, "KsharkRowsSlow": {"protocol=http"}}
    for second, wanted in (
        (IN_TROUBLE - 120, firing),
        (IN_TROUBLE, firing),
        (AFTER, {}),
        (590, {}),
    ):
        for name, query in expressions.items():
            assert set(loki(query, second)) == wanted.get(name, set()), (name, second)
    assert len(loki(expressions["KsharkRowsStopped"], LENGTH + 11 * 60)) == 1
