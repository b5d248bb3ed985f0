"""HTTP against Packetbeat: its test suite's assertions as data, asked of our entries."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from oracle import (
    CORPORA,
    SPECS,
    Exchange,
    Found,
    Known,
    differences,
    exchanges,
    replayed,
    settle,
)

from kshark.api import Message
from kshark.protocols.http.details import HttpRequest, HttpResponse
from kshark.redact import redact_targets
from kshark.render import Renderer

pytestmark = pytest.mark.corpora

PACKETBEAT = CORPORA / "packetbeat"
PORTS = [80, 8080, 8000, 5000, 8002]
"""Where its tests look for HTTP by default; those without `http_ports` mean the first alone."""
HTTP = (
    "http_minitwit.pcap",
    "http_post.pcap",
    "http_post_json.pcap",
    "http_get_2k_file.pcap",
    "http_basicauth.pcap",
    "http_10_connection_close.pcap",
    "http_100_continue.pcap",
    "http_url_params.pcap",
    "http_over_vlan.pcap",
    "http_realip.pcap",
    "hide_secret_POST.pcap",
    "gap_in_stream.pcap",
)
OPTIONS_OF_ITS_OWN = {
    "processors": "its own language of filters; what it drops says nothing of the capture",
    "http_hide_keywords": "hiding is asked of `redacted` below",
    "http_max_message_size": "we keep 64 KiB of a body whatever the user says",
}
UNMAPPED = {
    "network.community_id": "an identifier that we do not make",
    "http.request.mime_type": "guessed from the bytes; we show the header",
    "http.response.mime_type": "guessed from the bytes; we show the header",
    "request": "the raw text is shown or not by its options",
    "response": "the raw text is shown or not by its options",
    "http.response.body.content": "shown or not by its options",
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "contains": operator.contains,
    "lacks": lambda ours, value: value not in ours,
}


def headers(half: HttpRequest | HttpResponse) -> dict[str, str | int]:
    """Its view of headers: the last of a name; it makes up a length where none was sent."""
    return {**dict(half.headers), "content-length": half.body_size}


def query(asked: HttpRequest) -> str | None:
    """The query, or the members of a form in the order of their names."""
    if asked.query is not None:
        return asked.query[1:]
    if (asked.content_type or "").startswith("application/x-www-form-urlencoded"):
        return urlencode(sorted(parse_qsl(asked.body, keep_blank_values=True)))
    return None


def seen(x: Exchange) -> dict[str, Any]:
    """One exchange by the names of Packetbeat."""
    entry, asked, answered = x.entry, x.request, x.response
    assert asked is not None
    assert answered is not None
    assert entry.request is not None
    assert entry.response is not None
    size, back = entry.request.size, entry.response.size
    found: dict[str, Any] = {
        "type": entry.protocol,
        "client.ip": entry.src.ip,
        "client.port": entry.src.port,
        "client.bytes": size,
        "server.ip": entry.dst.ip,
        "server.port": entry.dst.port,
        "server.bytes": back,
        "source.ip": entry.src.ip,
        "source.port": entry.src.port,
        "source.bytes": size,
        "destination.ip": entry.dst.ip,
        "destination.port": entry.dst.port,
        "destination.bytes": back,
        "destination.domain": asked.host,
        "server.domain": asked.host,
        "url.domain": asked.host,
        "network.bytes": size + back,
        "network.type": "ipv6" if ":" in entry.src.ip else "ipv4",
        "network.transport": entry.flow.transport,
        "network.protocol": entry.protocol,
        "network.forwarded_ip": (x.header("x-forward-for") or "").partition(",")[0],
        "event.start": entry.time_ns,
        "event.end": entry.response.last_ns,
        "event.duration": entry.latency_ns,
        "status": "OK" if entry.outcome == "ok" else "Error",
        "error.message": "Packet loss while capturing the response"
        if gap(entry.response)
        else None,
        "method": asked.method.lower(),
        "query": f"{asked.method} {asked.path}",
        "url.full": f"http://{asked.host}{x.uri}",
        "url.path": asked.path,
        "url.scheme": "http",
        "url.query": query(asked),
        "user_agent.original": asked.user_agent,
        "http.version": asked.version,
        "http.request.method": asked.method.lower(),
        "http.request.bytes": size,
        "http.request.headers": headers(asked),
        "http.request.body.content": asked.body,
        "http.response.bytes": back,
        "http.response.body.bytes": answered.body_size,
        "http.response.headers": headers(answered),
        "http.response.status_code": answered.status,
        "http.response.status_phrase": (answered.reason or "").lower(),
    }
    found["http"] = {
        side: {"headers": found[f"http.{side}.headers"]} for side in ("request", "response")
    }
    for side in ("request", "response"):
        for name, value in found[f"http.{side}.headers"].items():
            found[f"http.{side}.headers.{name}"] = value
    return found


def gap(message: Message) -> bool:
    return message.gap_bytes > 0


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each test of theirs that is about HTTP, with the name of its capture."""
    if not PACKETBEAT.is_dir():
        return
    expected = json.loads((PACKETBEAT / "expected.json").read_text())
    for name in HTTP:
        for test in expected[name]:
            if not OPTIONS_OF_ITS_OWN.keys() & test["config"].keys():
                yield name, test


def events(name: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Our exchanges on the ports that their test looks at."""
    ports = [int(port) for port in config.get("http_ports", PORTS[:1])]
    found = exchanges(f"packetbeat/pcaps/{name}")
    return [seen(x) for x in found if x.entry.dst.port in ports]


def pick(event: dict[str, Any], path: list[str]) -> Any:
    """The value at a path, whose first part may hold dots."""
    value: Any = event
    for part in path:
        value = value.get(part)
    return value


def holds(expect: dict[str, Any], objs: list[dict[str, Any]]) -> bool:
    """Whether one assertion of theirs is true of our events."""
    compare = COMPARE.get(expect["op"], operator.contains)
    value = expect.get("value")
    if "len_of" in expect:
        what = expect["len_of"]
        counted = objs if what == "objs" else pick(objs[0], what)
        return compare(len(counted), value)
    which = expect["event"]
    chosen = [objs[which]] if isinstance(which, int) else objs
    each = (compare(pick(event, expect.get("field", [])), value) for event in chosen)
    return any(each) if expect.get("quantifier") == "any" else all(each)


def names(expect: dict[str, Any]) -> set[str]:
    """What an assertion is about."""
    keyed = {expect.get("value")} if expect["op"] in ("has_key", "lacks_key", "lacks") else set()
    return {*expect.get("field", []), *(n for n in keyed if isinstance(n, str)), *part(expect)}


def part(expect: dict[str, Any]) -> list[str]:
    what = expect.get("len_of", [])
    return what if isinstance(what, list) else []


@pytest.mark.parametrize(
    ("name", "test"),
    list(cases()),
    ids=lambda part: part if isinstance(part, str) else part["test"],
)
def test_assertions(corpora: Path, name: str, test: dict[str, Any]) -> None:
    objs = events(name, test["config"])
    asked = 0
    for expect in test["expect"]:
        unknown = "field" in expect and expect.get("value") is None
        if names(expect) & UNMAPPED.keys() or unknown:
            continue
        assert holds(expect, objs), expect
        asked += 1
    assert asked


def test_nothing_is_left_out_in_silence(corpora: Path) -> None:
    """New captures and options must be looked at; the lists above are used up."""
    expected = json.loads((PACKETBEAT / "expected.json").read_text())
    about = {
        name
        for name, found in expected.items()
        if any(e.get("value") == "http" for test in found for e in test["expect"])
    }
    assert about | {"http_realip.pcap", "gap_in_stream.pcap", "http_get_2k_file.pcap"} == set(HTTP)
    configs = [test["config"] for name in HTTP for test in expected[name]]
    assert {o for config in configs for o in config} >= OPTIONS_OF_ITS_OWN.keys()
    used = {n for _, test in cases() for expect in test["expect"] for n in names(expect)}
    assert used >= UNMAPPED.keys()


def test_statuses_of_the_processors_tests(corpora: Path) -> None:
    """What those tests say of the capture itself: three exchanges, one of them an error."""
    objs = events("http_minitwit.pcap", {})
    assert [o["http.response.status_code"] for o in objs] == [200, 304, 404]
    assert "transfer-encoding" in objs[0]["http.response.headers"]


GOLDEN = (Known("we make no user of a password", ("user.name",), (0,)),)
NOT_OURS = (
    "@metadata",
    "event.",
    "related.",
    "network.community_id",
)


def test_golden_event(corpora: Path) -> None:
    golden = json.loads((PACKETBEAT / "golden/http_basic_auth-expected.json").read_text())
    (theirs,) = [event for event in golden if event["type"] == "http"]
    (ours,) = events("http_basicauth.pcap", {})
    assert ours["event.duration"] == theirs["event.duration"]
    wanted = {name: v for name, v in theirs.items() if not name.startswith(NOT_OURS)}
    flat = {name: str(v) if "headers." in name else v for name, v in ours.items()}
    wanted = {name: str(v) if "headers." in name else v for name, v in wanted.items()}
    found: Found = differences(0, wanted, flat)
    settle(found, GOLDEN)


# ---------------------------------------------------------------- secrets


def redacted(name: str) -> str:
    """All that a sink gets of a capture of theirs."""
    specs = {spec.name: spec for spec in SPECS}
    _, entries = replayed(PACKETBEAT / "pcaps" / name)
    return Renderer(specs).encode(redact_targets(entries, specs), full=True).decode()


def test_a_password_in_a_form_is_hidden(corpora: Path) -> None:
    """Theirs hides it when told its name; the capture says ``user=monica&pass=secret``."""
    text = redacted("hide_secret_POST.pcap")
    assert "secret" not in text
    assert "user=monica&pass=REDACTED" in text


def test_basic_authentication_is_hidden(corpora: Path) -> None:
    text = redacted("http_basicauth.pcap")
    assert "c2ltcGxlc2ltb246YWJjZDEyMys=" not in text
    assert '["authorization","Basic REDACTED"]' in text
