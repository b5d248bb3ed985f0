"""HTTP against Arkime: what it stores of each session, as sets and counts over its exchanges."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from oracle import (
    CORPORA,
    Exchange,
    Found,
    Known,
    differences,
    exchanges,
    replayed,
    settle,
    shown_body,
)

pytestmark = pytest.mark.corpora

ARKIME = CORPORA / "arkime"
DIFFERENCES = {
    "gre-erspan-vxlan": (
        Known(
            "a space in the target: it cuts there, we up to the version", ("uri",), ((65174, 0),)
        ),
    ),
    "80211http": (
        Known("link layer 802.11 is not decoded, and counted so", ("missing",), ((49417, 0),)),
    ),
}
"""By capture; an exchange is named by its client port and the session's number on it."""


class Key(NamedTuple):
    """A session: its client's and server's ends."""

    client: str
    client_port: int
    server: str
    server_port: int


@cache
def sessions(name: str) -> list[dict[str, Any]]:
    """Its sessions that hold HTTP, in order of their first packets."""
    found = json.loads((ARKIME / f"{name}.test").read_text())["sessions3"]
    bodies = [session["body"] for session in found if "http" in session["body"]["protocol"]]
    bodies = [body for body in bodies if body["http"].get("clientVersion") != ["2.0"]]
    return sorted(bodies, key=lambda body: int(body["firstPacket"]))


def captures() -> list[str]:
    """The names of its captures with HTTP/1 in them."""
    return [p.stem for p in sorted(ARKIME.glob("*.test")) if sessions(p.stem)]


def flows(name: str) -> dict[Key, list[list[Exchange]]]:
    """Our exchanges by session, several where a port was used again."""
    found: dict[Key, dict[str, list[Exchange]]] = {}
    for x in sorted(exchanges(f"arkime/{name}.pcap"), key=lambda x: x.entry.time_ns):
        src, dst = x.entry.src, x.entry.dst
        key = Key(src.ip, src.port, dst.ip, dst.port)
        found.setdefault(key, {}).setdefault(x.entry.flow.id, []).append(x)
    return {key: list(by_flow.values()) for key, by_flow in found.items()}


def theirs(body: dict[str, Any]) -> dict[str, object]:
    """The facts of its session that we can know too."""
    stored = body["http"]
    found: dict[str, object] = {
        name: set(stored[name])
        for name in (
            "method",
            "path",
            "host",
            "uri",
            "clientVersion",
            "serverVersion",
            "statuscode",
            "useragent",
            "requestHeader",
            "responseHeader",
            "request-referer",
            "response-location",
            "request-authorization",
            "cookieKey",
            "md5",
            "sha256",
            "requestBody",
        )
        if name in stored
    }
    found |= {name: n for name, n in stored.items() if name.startswith("method-")}
    for name in ("requestHeaderValue", "responseHeaderValue"):
        if name in stored:
            found[name] = Counter(stored[name])
    return found


def ours(found: list[Exchange], wanted: dict[str, object]) -> dict[str, object]:
    """The same of our exchanges. It keeps a host with and without its port, paths without query."""
    asked = [x.request for x in found if x.request is not None]
    answered = [x.response for x in found if x.response is not None]
    halves = [half for x in found for half in x.entry_halves()]
    bodies = [half.body for half in halves if half.body and not half.truncated]
    facts: dict[str, object] = {
        "method": {r.method for r in asked},
        "path": {r.path for r in asked if r.path},
        "host": hosts(found),
        "uri": {uri(x) for x in found if x.request is not None},
        "clientVersion": {r.version for r in asked},
        "serverVersion": {r.version for r in answered},
        "statuscode": {r.status for r in answered},
        "useragent": {r.user_agent for r in asked} - {None},
        "requestHeader": {name for r in asked for name, _ in r.headers},
        "responseHeader": {name for r in answered for name, _ in r.headers},
        "request-referer": {x.header("referer") for x in found} - {None},
        "response-location": {r.location for r in answered} - {None},
        "request-authorization": {x.header("authorization") for x in found} - {None},
        "cookieKey": {name for x in found for name in cookies(x)},
        "md5": {hashlib.md5(body).hexdigest() for body in bodies},
        "sha256": {hashlib.sha256(body).hexdigest() for body in bodies},
        "requestBody": {shown_body(r).decode() for r in asked if r.body},
        "requestHeaderValue": values([h for r in asked for h in r.headers], wanted, "request"),
        "responseHeaderValue": values([h for r in answered for h in r.headers], wanted, "response"),
    }
    counts = Counter(r.method for r in asked)
    return facts | {f"method-{name}": n for name, n in counts.items()}


def hosts(found: list[Exchange]) -> set[str]:
    named = {x.header("host") for x in found} - {None}
    return {part for host in named if host is not None for part in (host, host.partition(":")[0])}


def uri(x: Exchange) -> str:
    assert x.request is not None
    assert x.uri is not None
    return x.uri if x.request.url else (x.header("host") or "") + x.uri


def cookies(x: Exchange) -> list[str]:
    parts = (x.header("cookie") or "").split(";")
    return [part.partition("=")[0].strip() for part in parts if part]


def values(headers: list[tuple[str, str]], wanted: dict[str, object], side: str) -> Counter[str]:
    """Those values, in lower case, that it kept: it leaves out the headers that it has fields for."""
    kept = wanted.get(f"{side}HeaderValue")
    assert kept is None or isinstance(kept, Counter)
    return Counter(value.lower() for _, value in headers) & (kept or Counter())


@pytest.mark.parametrize("name", captures())
def test_sessions(corpora: Path, name: str) -> None:
    mine = flows(name)
    numbers: Counter[int] = Counter()
    found: Found = {}
    for body in sessions(name):
        source, target = body["source"], body["destination"]
        key = Key(source["ip"], source["port"], target["ip"], target["port"])
        where = (key.client_port, numbers[key.client_port])
        numbers[key.client_port] += 1
        if not mine.get(key):
            found[where, "missing"] = (body["http"], None)
            continue
        wanted = theirs(body)
        found |= differences(where, wanted, ours(mine[key].pop(0), wanted))
    found |= {((key.client_port, -1), "new"): (None, rest) for key, rest in mine.items() if rest}
    settle(found, DIFFERENCES.get(name, ()))


def test_the_captures_are_many(corpora: Path) -> None:
    assert len(captures()) >= 20
    assert DIFFERENCES.keys() <= set(captures())


def test_packets_of_another_link_layer_are_counted(corpora: Path) -> None:
    engine, entries = replayed(corpora / "arkime/80211http.pcap")
    assert entries == []
    assert engine.ledger.snapshot()["packets"]["dropped"] == {"linktype": 26}


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("https-connect", "tcp"), ("websocket", "websocket"), ("http2-nghttp2", "http2")],
)
def test_what_is_not_http_any_more(corpora: Path, name: str, protocol: str) -> None:
    """After CONNECT and 101 the rest of a flow is an entry of its own, and never HTTP."""
    _, entries = replayed(corpora / f"arkime/{name}.pcap")
    assert entries[-1].protocol == protocol
    assert sum(entry.protocol == "http" for entry in entries) == (name != "http2-nghttp2")
