"""HTTP against DeepFlow (a line a message) and Kindling (pieces of streams); TCP where neither says more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from oracle import CORPORA, Exchange, Found, Known, differences, exchanges, replayed, settle

from kshark.api import Entry, Outcome, Side
from kshark.protocols import http
from kshark.testing import converse
from kshark.unknown import FlowDetails

pytestmark = pytest.mark.corpora

DEEPFLOW = CORPORA / "deepflow"
KINDLING = CORPORA / "kindling" / "http"

# ---------------------------------------------------------------- DeepFlow

FIELD = re.compile(r'(\w+): (?:Some\()?(?:"([^"]*)"|(\w+))')
VERSIONS = {"V1_0": "1.0", "V1_1": "1.1"}


def told(name: str) -> list[dict[str, str]]:
    """Its messages: the fields of each line that holds one."""
    lines = (DEEPFLOW / "http" / f"{name}.result").read_text().splitlines()
    found = [{key: text or word for key, text, word in FIELD.findall(line)} for line in lines]
    return [message for message in found if message["msg_type"] != "Other"]


def theirs(asked: dict[str, str], answered: dict[str, str]) -> dict[str, object]:
    """A request and the line after it, which is its answer."""
    assert (asked["msg_type"], answered["msg_type"]) == ("Request", "Response")
    return {
        "method": asked["method"].upper(),
        "uri": asked["path"],
        "host": asked["host"],
        "version": VERSIONS[asked["version"]],
        "request length": asked["req_content_length"],
        "status": int(answered["status_code"]),
        "response version": VERSIONS[answered["version"]],
        "response length": answered["resp_content_length"],
        "ok": answered["status"] == "Ok",
        "request bytes": int(asked["captured_request_byte"]),
        "response bytes": int(answered["captured_response_byte"]),
    }


def ours(x: Exchange) -> dict[str, object]:
    """The same; where nothing was sent it says None."""
    asked, answered, entry = x.request, x.response, x.entry
    assert asked is not None
    assert answered is not None
    assert entry.request is not None
    assert entry.response is not None
    return {
        "method": asked.method,
        "uri": x.uri,
        "host": asked.host,
        "version": asked.version,
        "request length": dict(asked.headers).get("content-length", "None"),
        "status": answered.status,
        "response version": answered.version,
        "response length": dict(answered.headers).get("content-length", "None"),
        "ok": entry.response.ok,
        "request bytes": entry.request.size,
        "response bytes": entry.response.size,
    }


DIFFERENCES = {
    "sw8": (
        Known(
            "the last chunk came in a packet of its own, which it does not count",
            ("response bytes",),
            (0, 1, 2),
        ),
    ),
}


@pytest.mark.parametrize("name", ["httpv1", "client-ip", "sw8"])
def test_messages_and_their_pairs(corpora: Path, name: str) -> None:
    lines, mine = told(name), exchanges(f"deepflow/http/{name}.pcap")
    assert len(lines) == 2 * len(mine)
    found: Found = {}
    for number, x in enumerate(mine):
        found |= differences(number, theirs(*lines[2 * number : 2 * number + 2]), ours(x))
    settle(found, DIFFERENCES.get(name, ()))


def test_trace_headers(corpora: Path) -> None:
    """It takes a client's address from X-Forwarded-For and the trace from sw8: they are headers."""
    (x,) = exchanges("deepflow/http/client-ip.pcap")
    assert x.request is not None
    values = [value for _, value in x.request.headers]
    text = (DEEPFLOW / "http/client-ip.result").read_text()
    address = re.search(r'client_ip: Some\(PrioField \{ prio: 128, field: "([^"]+)"', text)
    assert address is not None
    assert address[1] in values


# ---------------------------------------------------------------- DeepFlow: TCP and IP


def only(name: str) -> Entry:
    """The one flow of a capture that holds no protocol of ours."""
    _, entries = replayed(DEEPFLOW / f"{name}.pcap")
    (entry,) = entries
    return entry


def halves(entry: Entry) -> list[tuple[int, int]]:
    """Packets and payload bytes of each side."""
    found = []
    for half in (entry.request, entry.response):
        details = half.extra if half is not None else FlowDetails()
        assert isinstance(details, FlowDetails)
        found.append((details.packets, details.bytes))
    return found


def test_tcp_segments(corpora: Path) -> None:
    entry = only("tcp-segment")
    assert (entry.protocol, entry.src.port) == ("tcp", 45878)
    assert halves(entry) == [(3, 3 * 1448), (0, 0)]


def test_the_answer_before_the_question(corpora: Path) -> None:
    """The SYN-ACK was captured before the SYN: its sender is the server all the same."""
    entry = only("out-of-order")
    assert (entry.src.ip, entry.src.port) == ("10.30.0.223", 80)
    assert (entry.dst.ip, entry.dst.port) == ("220.181.111.188", 12345)
    assert entry.midstream is False


def test_keep_alive_probes_are_no_data(corpora: Path) -> None:
    entry = only("client-keep-alive")
    assert (entry.src.port, entry.dst.port) == (46638, 22)
    assert [size for _, size in halves(entry)] == [36, 156]
    assert entry.response is not None
    assert entry.response.extra.reason == "no dissector matched"


def test_a_refused_connection(corpora: Path) -> None:
    entry = only("server-reset")
    assert entry.outcome == Outcome.ERROR
    assert halves(entry) == [(1, 0), (1, 0)]


def test_fragments(corpora: Path) -> None:
    """Six datagrams of 3,000 bytes in three pieces each."""
    engine, (entry,) = replayed(DEEPFLOW / "ip-fragment.pcap")
    assert entry.protocol == "udp"
    assert halves(entry)[0] == (18, 18_000)
    assert engine.ledger.snapshot()["wire"]["defragmented"] == 6


# ---------------------------------------------------------------- Kindling


def pieces(trace: dict[str, Any]) -> list[tuple[Side, bytes | int]]:
    """Its system calls in order of time; of a long one only the first bytes are there."""
    calls = [(call, Side.CLIENT) for call in trace["requests"]]
    calls += [(call, Side.SERVER) for call in trace["responses"]]
    found: list[tuple[Side, bytes | int]] = []
    for call, side in sorted(calls, key=lambda pair: int(pair[0]["timestamp"])):
        data = "".join(call["user_attributes"]["data"]).encode()
        found.append((side, data))
        missing = int(call["user_attributes"]["res"]) - len(data)
        if missing > 0:
            found.append((side, missing))
    return found


GUESSED = {
    "split": Known(
        "the capture begins behind the G of GET, which it guesses", ("method",), ("split",)
    )
}


@pytest.mark.parametrize("name", ["continue", "error", "normal", "slow", "split"])
def test_pieces_of_streams(corpora: Path, name: str) -> None:
    trace = yaml.safe_load((KINDLING / f"server-trace-{name}.yml").read_text())["trace"]
    (entry,) = converse(http.SPEC, pieces(trace))
    (labels,) = [expect["Labels"] for expect in trace["expects"]]
    assert entry.request is not None
    assert entry.response is not None
    wanted = {
        "method": labels["http_method"],
        "url": labels["http_url"],
        "status": labels["http_status_code"],
        "error": labels["is_error"],
    }
    got = {
        "method": entry.request.verb,
        "url": entry.request.target,
        "status": entry.response.status,
        "error": not entry.response.ok,
    }
    settle(differences(name, wanted, got), [GUESSED[name]] if name in GUESSED else [])
    whole = name == "continue"
    assert entry.outcome == ("ok" if whole else "cut")
    assert entry.gap_bytes == sum(p for _, p in pieces(trace) if isinstance(p, int))


def test_no_vector_is_forgotten(corpora: Path) -> None:
    names = {path.stem for path in KINDLING.glob("server-trace-*.yml")}
    assert names == {f"server-trace-{n}" for n in ("continue", "error", "normal", "slow", "split")}
