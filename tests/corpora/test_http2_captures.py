"""HTTP/2 against Arkime, DeepFlow and Suricata; and nothing else is ever taken for it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from oracle import CAPTURES, CORPORA, Found, Known, differences, replayed, settle

from kshark.api import Entry
from kshark.protocols.http2.details import Http2Request, Http2Response, details

pytestmark = pytest.mark.corpora

Exchange = tuple[Entry, Http2Request | None, Http2Response | None]


def exchanges(name: str) -> list[Exchange]:
    """The entries of HTTP/2 of a capture."""
    _, entries = replayed(CORPORA / name)
    found: list[Exchange] = []
    for entry in entries:
        if entry.protocol != "http2":
            continue
        asked = None if entry.request is None else details(entry.request)
        answered = None if entry.response is None else details(entry.response)
        assert asked is None or isinstance(asked, Http2Request)
        assert answered is None or isinstance(answered, Http2Response)
        found.append((entry, asked, answered))
    return found


# ---------------------------------------------------------------- Arkime


def test_arkime(corpora: Path) -> None:
    """Its session: methods, hosts, status codes, names of headers, without order."""
    (session,) = json.loads((CORPORA / "arkime/http2-nghttp2.test").read_text())["sessions3"]
    told = session["body"].get("http") or session["body"]["http2"]
    mine = exchanges("arkime/http2-nghttp2.pcap")
    ours = {
        "method": sorted({a.method for _, a, _ in mine if a}),
        "statuscode": sorted({r.status for _, _, r in mine if r}),
        "host": sorted({a.host for _, a, _ in mine if a and a.host}),
        "uri": sorted({f"{a.host}{a.path}" for _, a, _ in mine if a}),
    }
    theirs = {name: sorted(told[name]) for name in ours if name in told}
    assert theirs
    settle(differences("http2-nghttp2", theirs, ours), DIFFERENCES["arkime"])


# ---------------------------------------------------------------- DeepFlow

FIELD = re.compile(r'(\w+): (?:Some\()?(?:"([^"]*)"|(\w+))')


def told(name: str) -> list[dict[str, str]]:
    lines = (CORPORA / "deepflow/http" / f"{name}.result").read_text().splitlines()
    found = [{key: text or word for key, text, word in FIELD.findall(line)} for line in lines]
    return [message for message in found if message["stream_id"] != "None"]


def theirs_of(lines: list[dict[str, str]]) -> dict[int, dict[str, object]]:
    """By stream: what its lines say, the later ones adding to the earlier."""
    found: dict[int, dict[str, object]] = {}
    for line in lines:
        one = found.setdefault(int(line["stream_id"]), {})
        if line["msg_type"] == "Request":
            one |= {"path": line["path"], "host": line["host"]}
        if line["status_code"] != "None":
            one["status"] = int(line["status_code"])
        if line["grpc_status_code"] != "None":
            one["grpc status"] = line["grpc_status_code"]
    return found


def ours_of(mine: list[Exchange]) -> dict[int, dict[str, object]]:
    found: dict[int, dict[str, object]] = {}
    for entry, asked, answered in mine:
        key = (entry.request or entry.response).key  # type: ignore[union-attr]
        one = found.setdefault(key, {})
        if asked is not None:
            one |= {"path": asked.path, "host": asked.host or ""}
        if answered is not None:
            one["status"] = answered.status
            status = dict(answered.trailers).get("grpc-status")
            if status is not None:
                one["grpc status"] = status
    return found


DIFFERENCES: dict[str, tuple[Known, ...]] = {
    "arkime": (
        Known(
            "it takes the preface, PRI * HTTP/2.0, for a request",
            ("method", "uri"),
            ("http2-nghttp2",),
        ),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "http2-multi",
        "httpv2-stream-id",
        "h2c_ascii",
        "grpc-unary",
        "grpc-server-stream",
        "grpc-service-name",
    ],
)
def test_deepflow(corpora: Path, name: str) -> None:
    mine = ours_of(exchanges(f"deepflow/http/{name}.pcap"))
    found: Found = {}
    for stream, one in theirs_of(told(name)).items():
        found |= differences(stream, one, mine.get(stream, {}))
    settle(found, DIFFERENCES.get(name, ()))


# ---------------------------------------------------------------- Suricata


def suricata(name: str, capture: str = "input.pcap") -> list[Exchange]:
    return exchanges(f"suricata-verify/{name}/{capture}")


def test_continuation(corpora: Path) -> None:
    ((_, asked, _),) = suricata("http2-continuation")
    assert asked is not None
    assert ("namename" * 5, "valuevalue" * 10) in [(n, v) for n, v in asked.headers]


def test_upgrade(corpora: Path) -> None:
    """Stream 1 answers what HTTP/1 asked; stream 3 begins with a table size update of 4,096."""
    (_, _, first), (_, asked, second) = suricata("http2-keywords2")
    assert first is not None
    assert asked is not None
    assert second is not None
    assert (first.stream, first.status) == (1, 200)
    assert (asked.stream, asked.method, asked.path, second.status) == (3, "GET", "/humans.txt", 404)


def test_range(corpora: Path) -> None:
    """Three of the ranges; those in between, 10-20 that it names, were asked for by HTTP/1."""
    found = [r for _, _, r in suricata("http2-range", "http2-range.pcap") if r]
    assert [dict(r.headers)["content-range"] for r in found] == [
        "bytes 0-10/69",
        "bytes 20-30/69",
        "bytes 40-68/69",
    ]
    assert [r.body_size for r in found] == [11, 11, 29]


def test_deflate(corpora: Path) -> None:
    """30 bytes on the wire, 20 unpacked."""
    (answer,) = [r for _, _, r in suricata("http2-deflate", "http2_deflate.pcap") if r]
    assert (answer.body_size, len(base64.b64decode(answer.body))) == (30, 20)


def test_dns_over_https(corpora: Path) -> None:
    found = suricata("dns-over-http2", "dns_over_https.pcap")
    queries = [a.query for _, a, _ in found if a]
    assert len(queries) == 4
    assert [a.path for _, a, _ in found if a] == ["/dns-query"] * 4


# ---------------------------------------------------------------- confusion

SPEAK = {
    "arkime/http2-nghttp2.pcap",
    "deepflow/http/grpc-server-stream.pcap",
    "deepflow/http/grpc-service-name.pcap",
    "deepflow/http/grpc-unary.pcap",
    "deepflow/http/h2c_ascii.pcap",
    "deepflow/http/http2-multi.pcap",
    "deepflow/http/httpv2-stream-id.pcap",
    "suricata-verify/dns-over-http2/dns_over_https.pcap",
    "suricata-verify/http2-continuation/input.pcap",
    "suricata-verify/http2-deflate/http2_deflate.pcap",
    "suricata-verify/http2-keywords2/input.pcap",
    "suricata-verify/http2-range/http2-range.pcap",
}


@pytest.mark.parametrize("name", CAPTURES)
def test_nothing_else_is_taken_for_it(corpora: Path, name: str) -> None:
    """With HTTP/2 alone to choose from (but for upgrades), and joined in mid-stream too."""
    _, entries = replayed(CORPORA / name, only=["http2"])
    if name not in SPEAK:
        assert {e.protocol for e in entries} <= {"tcp", "udp", "icmp"}
