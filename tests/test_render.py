"""Rows, the protocols' own objects, the schema, and that no secret gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from kshark import entry_json, rows
from kshark.api import (
    Details,
    Endpoint,
    Entry,
    Flow,
    Kind,
    Message,
    Outcome,
    ProtocolSpec,
    Redact,
    doc,
)
from kshark.entry_json import EndpointJson, EntryJson, RequestJson, ResponseJson, time_text
from kshark.render import RESERVED, Renderer

try:
    from kshark import _rows
except ImportError:
    _rows = None  # type: ignore[assignment]

NOON = 1_767_323_045_000_000_006

compiled = pytest.mark.skipif(_rows is None, reason="kshark._rows is not compiled")
TWINS = [
    pytest.param(lambda: rows.Rows(), id="plain"),
    pytest.param(lambda: _rows.Rows(), id="compiled", marks=compiled),
]
Make = Callable[[], Any]


def flow(**changes: Any) -> Flow:
    facts: dict[str, Any] = {
        "id": "f1",
        "transport": "tcp",
        "client": Endpoint("10.0.0.1", 40858, pid=7, comm="curl"),
        "server": Endpoint("10.0.0.2", 80),
        "backend": "af_packet",
    }
    return Flow(**(facts | changes))


def entry(of: Flow | None = None, seq: int = 3, **changes: Any) -> Entry:
    request = Message(Kind.REQUEST, verb="GET", target="/r", size=80, first_ns=NOON, last_ns=NOON)
    response = Message(
        Kind.RESPONSE, status=200, size=165, first_ns=NOON + 1_234_567, last_ns=NOON + 2_000_000
    )
    made = Entry(of or flow(), seq, "http", request, response, Outcome.OK)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


GOLDEN = (
    '{"id":"f1-3","time":"2026-01-02T03:04:05.000000006Z","protocol":"http","transport":"tcp",'
    '"src":{"ip":"10.0.0.1","port":40858,"name":null,"pid":7,"comm":"curl"},'
    '"dst":{"ip":"10.0.0.2","port":80,"name":null},'
    '"request":{"verb":"GET","target":"/r","size":80,"time":"2026-01-02T03:04:05.000000006Z"},'
    '"response":{"status":200,"ok":true,"size":165,"time":"2026-01-02T03:04:05.001234573Z"},'
    '"latency_ns":1234567,"duration_ns":2000000,"outcome":"ok","gap_bytes":0,"midstream":false,'
    '"truncated":false,"backend":"af_packet"}\n'
)


# ---------------------------------------------------------------- the oracle


def oracle(made: Entry) -> bytes:
    """The row as msgspec writes it from the types that the schema is made of."""
    request, response = made.request, made.response
    both = request is not None and response is not None
    shape = EntryJson(
        id=made.id,
        time=time_text(made.time_ns),
        protocol=made.protocol,
        transport=made.flow.transport,
        src=end_json(made.src),
        dst=end_json(made.dst),
        request=None if request is None else request_json(request),
        response=None if response is None else response_json(response),
        latency_ns=made.latency_ns,
        duration_ns=response.last_ns - request.first_ns if both else None,  # type: ignore[union-attr]
        outcome=made.outcome.value,
        gap_bytes=made.gap_bytes,
        midstream=made.midstream,
        truncated=made.truncated,
        backend=made.flow.backend,
        notes=entry_json.notes_of(request, response) or UNSET,
    )
    return msgspec.json.encode(scrubbed(msgspec.to_builtins(shape))) + b"\n"


def end_json(end: Endpoint) -> EndpointJson:
    return EndpointJson(
        ip=end.ip,
        port=end.port,
        name=end.name,
        pid=UNSET if end.pid is None else end.pid,
        comm=UNSET if end.comm is None else end.comm,
        dns=UNSET if end.dns is None else end.dns,
    )


def request_json(half: Message) -> RequestJson:
    return RequestJson(
        verb=half.verb, target=half.target, size=half.size, time=time_text(half.first_ns)
    )


def response_json(half: Message) -> ResponseJson:
    return ResponseJson(
        status=half.status or None,
        ok=half.ok,
        size=half.size,
        time=time_text(half.first_ns),
        error=UNSET if half.ok else half.target or UNSET,
    )


def scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {name: scrubbed(item) for name, item in value.items()}
    return value


TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ['"', "\\", "\x00\x1f\x7f", "\ud800", "\udfff\ud800", "\u2028", "😀", "a" * 300 + '"']
)
NS = st.integers(0, 2**63 - 1) | st.integers(NOON, NOON + 10**10) | st.integers(-(2**70), 2**70)
INT = st.integers(0, 100_000) | st.sampled_from([-1, 2**63 - 1, -(2**63), 2**63, 10**30])
ENDS = st.builds(
    Endpoint,
    TEXT,
    st.integers(0, 65_535),
    st.none() | TEXT,
    st.none() | INT,
    st.none() | TEXT,
    st.none() | TEXT,
)
HALVES = st.builds(
    Message,
    st.sampled_from(Kind),
    verb=TEXT,
    target=st.just("") | TEXT,
    status=st.just(0) | INT,
    ok=st.booleans(),
    size=INT,
    notes=st.just(()) | st.lists(TEXT, max_size=3).map(tuple),
    first_ns=NS,
    last_ns=NS,
)
FLOWS = st.builds(Flow, TEXT, TEXT, ENDS, ENDS, TEXT)


@st.composite
def batches(draw: st.DrawFn) -> list[Entry]:
    """Entries of a few flows, whose endpoints an enricher may replace on the way."""
    flows = draw(st.lists(FLOWS, min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 6))):
        request = draw(st.none() | HALVES)
        response = draw(HALVES if request is None else st.none() | HALVES)
        made.append(
            Entry(
                draw(st.sampled_from(flows)),
                draw(INT),
                draw(st.sampled_from(["http", "redis", "ht\ud800tp"])),
                request,
                response,
                draw(st.sampled_from(Outcome)),
                draw(INT),
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.booleans()),
            )
        )
    return made


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1970-01-01T00:00:00.999999999Z"),
        (951_827_696_000_000_001, "2000-02-29T12:34:56.000000001Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (10**30, "9999-12-31T23:59:59.000000000Z"),
    ],
)
def test_times(twin: Make, ns: int, shown: str) -> None:
    made = entry(response=None)
    made.request.first_ns = ns  # type: ignore[union-attr]
    assert json.loads(twin().encode([made]))["time"] == shown


@pytest.mark.parametrize("twin", TWINS)
def test_golden_row(twin: Make) -> None:
    assert twin().encode([entry()]).decode() == GOLDEN


@pytest.mark.parametrize("twin", TWINS)
@settings(derandomize=True)
@given(batch=batches())
def test_rows_are_what_msgspec_writes(twin: Make, batch: list[Entry]) -> None:
    got = twin().encode(batch)
    assert got == b"".join(map(oracle, batch))
    for line in got.splitlines():
        msgspec.json.decode(line, type=EntryJson)


@pytest.mark.parametrize("twin", TWINS)
def test_a_row_of_every_character(twin: Make) -> None:
    for start in range(0, 0x110000, 0x1000):
        made = entry()
        assert made.request is not None
        made.request.target = "".join(map(chr, range(start, start + 0x1000)))
        got = twin().encode([made])
        assert got == oracle(made)


@pytest.mark.parametrize("twin", TWINS)
def test_half_entries_and_notes(twin: Make) -> None:
    made = entry(response=None, outcome=Outcome.UNANSWERED, gap_bytes=9)
    got = json.loads(twin().encode([made]))
    assert got["response"] is got["latency_ns"] is got["duration_ns"] is None
    assert (got["outcome"], got["gap_bytes"]) == ("unanswered", 9)
    made = entry(request=None, outcome=Outcome.ORPHAN)
    assert made.response is not None
    made.response.notes = ("a", "b", "a")
    got = json.loads(twin().encode([made]))
    assert got["request"] is None
    assert got["time"] == got["response"]["time"]
    assert got["notes"] == ["a", "b"]


@pytest.mark.parametrize("twin", TWINS)
def test_swapped_and_enriched_endpoints(twin: Make) -> None:
    made = twin()
    of = flow()
    before = json.loads(made.encode([entry(of)]))
    swapped = json.loads(made.encode([entry(of, swapped=True)]))
    assert (swapped["src"], swapped["dst"]) == (before["dst"], before["src"])
    of.server = Endpoint("10.0.0.2", 80, name="default/web")
    after = json.loads(made.encode([entry(of)]))
    assert after["dst"]["name"] == "default/web"


@pytest.mark.parametrize("twin", TWINS)
def test_more_flows_than_are_kept(twin: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROW_FLOWS", 8)
    made = twin()
    flows = [flow(id=f"f{n}") for n in range(100)]
    for _ in range(2):
        batch = [entry(of) for of in flows]
        got = [json.loads(line)["id"] for line in made.encode(batch).splitlines()]
        assert got == [f"f{n}-3" for n in range(100)]


def test_the_plain_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROW_FLOWS", 8)
    cache = rows.FlowCache()
    for n in range(100):
        cache.find(flow(id=f"f{n}"), "http")
    assert len(cache.young) + len(cache._old) <= 16


@pytest.mark.parametrize("twin", TWINS)
def test_a_batch_larger_than_the_buffer_that_is_kept(twin: Make) -> None:
    made = twin()
    big = entry()
    assert big.request is not None
    big.request.target = "\x01" * 2_000_000  # six times as long once escaped
    assert made.encode([big]) == oracle(big)
    assert made.encode([entry()]).decode() == GOLDEN


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("wrong", [None, b"GET", 5])
def test_what_is_no_text_is_refused_and_the_next_batch_is_right(twin: Make, wrong: object) -> None:
    made = twin()
    bad = entry()
    bad.request.verb = wrong  # type: ignore[union-attr]
    with pytest.raises(TypeError):
        made.encode([entry(), bad])
    assert made.encode([entry()]).decode() == GOLDEN


# ---------------------------------------------------------------- the protocols' own objects


class Ask(Details):
    """What is asked."""

    path: Annotated[str, doc("Path", redact=Redact.URL)] = ""
    headers: Annotated[list[tuple[str, str]], doc("Headers", redact=Redact.HEADERS)] = []
    password: Annotated[str, doc("Password", redact=Redact.VALUE)] = ""
    body: Annotated[bytes, doc("Body")] = b""
    inner: Annotated[Ask | None, doc("An ask within")] = None
    args: Annotated[list[Annotated[str, doc("One", redact=Redact.VALUE)]], doc("All")] = []


class Answer(Details):
    """What comes back."""

    status: Annotated[int, doc("Status")] = 0


def explain(message: Message) -> Details:
    if message.kind == Kind.REQUEST:
        return Ask(
            path=message.target,
            headers=[("host", "a"), ("Authorization", "Bearer s3cret"), ("cookie", "s3cret")],
            password="s3cret",
            inner=Ask(password="s3cret", headers=[("x-api-key", "s3cret")]),
            args=["s3cret"],
        )
    return Answer(status=message.status)


def spec(details: Any = explain, **changes: Any) -> ProtocolSpec:
    facts: dict[str, Any] = {
        "name": "http",
        "dissector": lambda: None,
        "request": Ask,
        "response": Answer,
        "details": details,
    }
    return ProtocolSpec(**(facts | changes))


def test_full_adds_the_object_of_the_protocol() -> None:
    got = Renderer({"http": spec()}).as_dict(entry(), full=True)
    assert got["http"] == {
        "request": {
            "path": "/r",
            "headers": [
                ["host", "a"],
                ["Authorization", "Bearer REDACTED"],
                ["cookie", "REDACTED"],
            ],
            "password": "REDACTED",
            "inner": {"password": "REDACTED", "headers": [["x-api-key", "REDACTED"]]},
            "args": ["REDACTED"],
        },
        "response": {"status": 200},
    }
    assert "http" not in Renderer({"http": spec()}).as_dict(entry())
    assert "http" not in Renderer({}).as_dict(entry(), full=True)


def test_no_secret_without_being_asked_and_all_when_asked() -> None:
    made = entry()
    assert made.request is not None
    made.request.target = "/r?token=s3cret"
    hidden = Renderer({"http": spec()}).encode([made], full=True)
    assert hidden.count(b"s3cret") == 1  # the row's own target is redact_targets' business
    shown = Renderer({"http": spec()}, redact=False).encode([made], full=True)
    assert shown.count(b"s3cret") == 8


def test_redaction_leaves_the_plugins_object_alone() -> None:
    details = explain(Message(Kind.REQUEST))
    renderer = Renderer({"http": spec(lambda message: details)})
    assert renderer.details(Message(Kind.REQUEST), "http") is not details
    assert details.password == "s3cret"  # type: ignore[attr-defined]


def raises(message: Message) -> Details:
    raise ValueError("s3cret bytes")


@pytest.mark.parametrize(
    ("details", "error"),
    [
        (raises, "ValueError"),
        (lambda message: None, "details() gave NoneType, not Details"),
        (lambda message: {"password": "s3cret"}, "details() gave dict, not Details"),
        (lambda message: Ask(headers=[5]), "TypeError"),  # type: ignore[list-item]
        (lambda message: Ask(body=object()), "TypeError"),  # type: ignore[arg-type]
    ],
)
def test_details_that_fail_cost_only_themselves(details: Any, error: str) -> None:
    line = Renderer({"http": spec(details)}).encode([entry()], full=True)
    assert json.loads(line)["http"] == {"error": f"details() failed: {error}"}
    assert b"s3cret" not in line
    assert line.decode().startswith(GOLDEN[:-2])


def test_details_with_text_that_utf8_cannot_express() -> None:
    odd = Ask(headers=[("a\udc80", "b\udc80")])
    got = Renderer({"http": spec(lambda message: odd)}).as_dict(entry(), full=True)
    assert got["http"]["request"]["headers"] == [["a\ufffd", "b\ufffd"]]


def test_a_protocol_named_like_a_fact_replaces_none() -> None:
    assert "request" in RESERVED
    made = entry(protocol="request")
    got = Renderer({"request": spec(name="request")}).as_dict(made, full=True)
    assert got["request"]["verb"] == "GET"


# ---------------------------------------------------------------- the schema


def validator(renderer: Renderer) -> Any:
    schema = renderer.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_describes_every_line() -> None:
    renderer = Renderer({"http": spec(), "other": spec(raises, name="other")})
    made = [
        entry(),
        entry(response=None, outcome=Outcome.UNANSWERED),
        entry(request=None, outcome=Outcome.ORPHAN, protocol="other"),
        entry(protocol="tcp", flow=flow(server=Endpoint("::1", 1, name="n"))),
    ]
    check = validator(renderer)
    for full in (False, True):
        for line in renderer.encode(made, full=full).splitlines():
            check.validate(json.loads(line))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", None),
        ("outcome", "fine"),
        ("time", "2026-01-02T03:04:05Z"),
        ("latency_ns", "1"),
        ("src", {"ip": "a"}),
        ("http", {"request": {"path": 5}}),
    ],
)
def test_the_schema_bites(name: str, value: object) -> None:
    renderer = Renderer({"http": spec()})
    line = renderer.as_dict(entry(), full=True)
    with pytest.raises(jsonschema.ValidationError):
        validator(renderer).validate({**line, name: value})


def test_every_field_of_the_schema_is_described() -> None:
    defs = Renderer({"http": spec()}).schema()["$defs"]
    for kind in ("EntryJson", "EndpointJson", "RequestJson", "ResponseJson", "Ask"):
        for name, field in defs[kind]["properties"].items():
            assert "description" in field or name in ("request", "response"), (kind, name)


def test_two_protocols_may_call_their_types_the_same() -> None:
    other = msgspec.defstruct("Ask", [("topic", str, "")], bases=(Details,), module="elsewhere")
    renderer = Renderer({"http": spec(), "mq": spec(name="mq", request=other)})
    properties = renderer.schema()["$defs"]["EntryJson"]["properties"]
    refs = {
        properties[name]["properties"]["request"]["anyOf"][0]["$ref"] for name in ("http", "mq")
    }
    assert len(refs) == 2


class Tenant(Details):
    """What an enricher may add."""

    name: Annotated[str, doc("Who pays")] = ""
    secret: Annotated[str, doc("Their key", redact=Redact.VALUE)] = ""


def test_what_enrichers_add_is_shown_under_its_name_and_redacted() -> None:
    made = entry()
    made.extra = {"tenant": Tenant(name="acme", secret="xyz")}
    renderer = Renderer({"http": spec()}, adds={"tenant": Tenant})
    line = renderer.as_dict(made, full=True)
    assert line["tenant"] == {"name": "acme", "secret": "REDACTED"}
    assert "http" in line
    assert "tenant" not in renderer.as_dict(made)
    validator(renderer).validate(line)
    with pytest.raises(jsonschema.ValidationError):
        validator(renderer).validate({**line, "tenant": {"name": 5}})


def test_what_enrichers_add_replaces_nothing_and_breaks_nothing() -> None:
    made = entry()
    wrong: Any = {"outcome": Tenant(), "http": Tenant(), "odd": "text", "tenant": Tenant(name="a")}
    made.extra = wrong
    line = Renderer({"http": spec()}).as_dict(made, full=True)
    assert (line["outcome"], line["tenant"]) == ("ok", {"name": "a"})
    assert line["odd"] == {"error": "odd cannot be shown: an object is str, not Details"}
    assert "request" in line["http"]
