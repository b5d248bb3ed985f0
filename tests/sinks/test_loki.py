"""The sink ``loki``: what it sends, read back by the protobuf library; `test_loki_held` is about what waits."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cramjam
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Context, Entry, Kind, Message, Outcome, PluginError
from kshark.sinks._http import Reply, retry_after
from kshark.sinks.loki import Loki, LokiOptions, push_url
from kshark.sinks.loki.answers import refused
from kshark.sinks.loki.push import Json, Protobuf, varint
from kshark.sinks.loki.rows import text
from sinks.conftest import NOON, FakeContext, MakeEntry
from sinks.http_peer import Answer, Peer, Request, serving


def schema() -> Any:
    """``PushRequest`` of Loki's push.proto, as the protobuf library knows it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="push.proto", package="logproto", syntax="proto3"
    )
    shapes: dict[str, list[tuple[str, int, str, bool]]] = {
        "Timestamp": [("seconds", 1, "int64", False), ("nanos", 2, "int32", False)],
        "Pair": [("name", 1, "string", False), ("value", 2, "string", False)],
        "Entry": [("timestamp", 1, "Timestamp", False), ("line", 2, "string", False),
                  ("metadata", 3, "Pair", True)],
        "Stream": [("labels", 1, "string", False), ("entries", 2, "Entry", True)],
        "PushRequest": [("streams", 1, "Stream", True)],
    }  # fmt: skip
    for name, fields in shapes.items():
        message = file.message_type.add(name=name)
        for title, number, kind, many in fields:
            label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
            one = message.field.add(name=title, number=number, label=label)
            if kind in shapes:
                one.type, one.type_name = field.TYPE_MESSAGE, f".logproto.{kind}"
            else:
                one.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("logproto.PushRequest"))


PUSH = schema()
Row = tuple[int, str, dict[str, str]]


def read(request: Request) -> dict[str, list[Row]]:
    """The rows of a request, by their labels."""
    if request.headers["content-type"] == "application/json":
        streams = json.loads(gzip.decompress(request.body))["streams"]
        return {
            json.dumps(s["stream"]): [(int(v[0]), v[1], v[2] if v[2:] else {}) for v in s["values"]]
            for s in streams
        }
    push = PUSH.FromString(bytes(cramjam.snappy.decompress_raw(request.body)))
    return {
        s.labels: [
            (e.timestamp.seconds * 10**9 + e.timestamp.nanos, e.line,
             {p.name: p.value for p in e.metadata})
            for e in s.entries
        ]
        for s in push.streams
    }  # fmt: skip


def rows(peer: Peer) -> list[Row]:
    return [row for one in peer.taken for stream in read(one).values() for row in stream]


def ids(peer: Peer) -> list[str]:
    return [json.loads(line)["id"] for _, line, _ in rows(peer)]


def made(context: Context, url: str, **options: Any) -> Loki:
    return Loki(LokiOptions(**{"target": url, "batch_age": 0.02, **options}), context)


Use = Callable[[Loki], Awaitable[None]]


def use(sink: Loki, what: Use) -> None:
    async def run() -> None:
        await sink.open()
        try:
            await what(sink)
        finally:
            await sink.close()

    asyncio.run(run())


def send(sink: Loki, *batches: list[Entry]) -> None:
    async def whole(sink: Loki) -> None:
        for batch in batches:
            await sink.write(batch)
        await sink.flush()

    use(sink, whole)


async def until(what: Callable[[], object]) -> None:
    while not what():
        await asyncio.sleep(0.005)


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_an_entry_is_a_row_with_labels(
    context: FakeContext, make_entry: MakeEntry, form: str
) -> None:
    batch = [make_entry(0), make_entry(1, "/é\n", outcome=Outcome.ERROR)]
    options: dict[str, Any] = {"format": form, "tenant": "team", "metadata": ["dst.ip", "src.name"]}
    with serving() as peer:
        send(made(context, peer.url, **options), batch)
    [request] = peer.requests
    assert request.path == "/loki/api/v1/push"
    assert request.headers["x-scope-orgid"] == "team"
    found = read(request)
    lines = [json.loads(line) for line in context.encode(batch).splitlines()]
    for (labels, [(ns, line, metadata)]), entry, row in zip(
        found.items(), batch, lines, strict=True
    ):
        assert (ns, json.loads(line), metadata) == (NOON, row, {"dst_ip": "10.0.0.2"})
        same = f'job="kshark", protocol="http", outcome="{entry.outcome}"'
        assert labels in ("{" + same + "}", "{" + same.replace("=", ": ") + "}") or json.loads(
            labels
        ) == {"job": "kshark", "protocol": "http", "outcome": str(entry.outcome)}


PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.text()), max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.lists(st.tuples(st.integers(0, 2**62), st.text(), PAIRS), max_size=20), st.text())
def test_what_is_written_is_what_the_library_reads(
    given_rows: list[tuple[int, str, list[tuple[str, str]]]], label: str
) -> None:
    form = Protobuf(cramjam.snappy.compress_raw)
    labels = form.labels([("job", label)])
    written = [
        form.row(ns, line.encode("utf-8", "replace"), pairs) for ns, line, pairs in given_rows
    ]
    push = PUSH.FromString(bytes(cramjam.snappy.decompress_raw(form.request({labels: written}))))
    [stream] = push.streams
    assert json.loads(stream.labels.removeprefix("{job=").removesuffix("}")) == label
    for entry, (ns, line, pairs) in zip(stream.entries, given_rows, strict=True):
        assert entry.timestamp.seconds * 10**9 + entry.timestamp.nanos == ns
        assert (entry.line, [(p.name, p.value) for p in entry.metadata]) == (line, pairs)


@given(st.lists(st.tuples(st.integers(0, 2**62), st.text(), PAIRS), max_size=20))
def test_json_says_the_same(given_rows: list[tuple[int, str, list[tuple[str, str]]]]) -> None:
    form = Json()
    labels = form.labels([("job", "x")])
    written = [form.row(ns, line.encode(), pairs) for ns, line, pairs in given_rows]
    [stream] = json.loads(gzip.decompress(form.request({labels: written})))["streams"]
    expected = [[str(ns), line, *([dict(p)] if p else [])] for ns, line, p in given_rows]
    assert stream["values"] == expected


def test_lone_surrogates_are_no_reason_to_fail() -> None:
    for form in (Protobuf(cramjam.snappy.compress_raw), Json()):
        form.request({form.labels([("a", "\udce9")]): [form.row(1, b"x", [("m", "\ud800")])]})


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, 2**32, 2**63 - 1])
def test_varint(value: int) -> None:
    shift = total = 0
    for byte in varint(value):
        total |= (byte & 0x7F) << shift
        shift += 7
    assert total == value


def test_a_text_line_has_all_facts_as_metadata(context: FakeContext, make_entry: MakeEntry) -> None:
    with serving() as peer:
        send(made(context, peer.url, line="text"), [make_entry(3)])
    [(_, line, metadata)] = rows(peer)
    assert line == text(make_entry(3)) == "GET /r -> 200 ok 1.2 ms #f1-3"
    assert metadata["request_target"] == "/r"
    assert metadata["response_class"] == "2xx"
    assert metadata["latency_ns"] == "1234567"


def test_labels_that_become_many_end_in_one_stream(
    context: FakeContext, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LABEL_SETS", 3)
    batch = [make_entry(n, f"/{n}") for n in range(10)]
    with serving() as peer:
        send(made(context, peer.url, labels=["request.target"], static=["job=k"]), batch)
    found = read(peer.requests[0])
    assert len(found) == 4
    others = found['{job="k", request_target="other"}']
    assert [m["request_target"] for _, _, m in others] == [f"/{n}" for n in range(3, 10)]
    assert sum("more than 3 sets" in said for said in context.said) == 1


def test_a_line_that_is_too_long_loses_its_full_part(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    with serving() as peer:
        send(made(context, peer.url, line_bytes=1024), [make_entry(0, "/" + "x" * 3000)])
    [(_, line, _)] = rows(peer)
    assert len(line) == 1024


def test_an_entry_that_cannot_be_shown_costs_itself(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    batch = [make_entry(n) for n in range(4)]
    batch[1].request = Message(Kind.REQUEST, verb=7)  # type: ignore[arg-type]
    with serving() as peer:
        send(made(context, peer.url), batch)
    assert ids(peer) == ["f1-0", "f1-2", "f1-3"]
    assert context.lost == [batch[1]]


def test_sampling_keeps_what_went_wrong(context: FakeContext, make_entry: MakeEntry) -> None:
    batch = [
        make_entry(n, outcome=Outcome.ERROR if n % 10 == 3 else Outcome.OK) for n in range(100)
    ]
    with serving() as peer:
        sink = made(context, peer.url, sample=9)
        send(sink, batch)
    outcomes = [(json.loads(line)["outcome"], m.get("weight")) for _, line, m in rows(peer)]
    assert outcomes.count(("error", None)) == 10
    assert outcomes.count(("ok", "9")) == 10
    assert (sink.stats().filtered, sink.stats().held) == (80, 0)


def test_batches_end_by_size_and_by_age(context: FakeContext, make_entry: MakeEntry) -> None:
    async def whole(sink: Loki) -> None:
        await sink.write([make_entry(n) for n in range(100)])
        await until(lambda: not sink.stats().held)
        before = len(peer.taken)
        assert before > 10  # each of 2,000 bytes, a row has 400 at least
        await sink.write([make_entry(100)])
        await until(lambda: not sink.stats().held)  # by its age alone
        assert len(peer.taken) == before + 1

    with serving() as peer:
        use(made(context, peer.url, batch_bytes=2_000), whole)
    assert ids(peer) == [f"f1-{n}" for n in range(101)]


# ---------------------------------------------------------------- who we are, whom we trust


def test_credentials(context: FakeContext, make_entry: MakeEntry, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    batch = [make_entry(0)]
    with serving() as peer:
        send(made(context, peer.url, user="me", password_file=str(secret)), batch)
        send(made(context, peer.url, token_file=str(secret), headers=["X-Own=1"]), batch)
    assert peer.requests[0].headers["authorization"] == "Basic bWU6czNjcmV0"
    assert peer.requests[1].headers["authorization"] == "Bearer s3cret"
    assert peer.requests[1].headers["x-own"] == "1"


def test_a_renewed_token_is_taken_up_and_none_is_told(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old-secret")

    def answer(request: Request, number: int) -> Answer:
        if number == 3:
            token.write_text("new-secret")
        good = request.headers["authorization"] == "Bearer new-secret"
        return Answer() if good else Answer(401, "who are you?")

    with serving(answer) as peer:
        send(made(context, peer.url, token_file=str(token)), [make_entry(0)])
    assert ids(peer) == ["f1-0"]
    assert "secret" not in "".join(context.said)
    assert any("HTTP 401: who are you?" in said for said in context.said)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "http://me:pw@host"}, "no credentials in the address"),
        ({"target": "loki:3100"}, "needs an address"),
        ({"target": "http://h:99999"}, "needs an address"),
        ({"labels": ["nonsense"]}, "no field 'nonsense'"),
        ({"labels": [], "static": []}, "needs one at least"),
        ({"static": ["protocol=x"]}, "given twice"),
        ({"static": ["job"]}, "not name=value"),
        ({"token_file": "/nonexistent/t"}, "No such file"),
        ({"ca_file": "/nonexistent/ca"}, "ca_file"),
        ({"headers": ["X"]}, "must be Name=value"),
    ],
)
def test_mistakes_are_said_before_anything_runs(
    context: FakeContext, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(PluginError, match=says) as caught:
        Loki(LokiOptions(**options), context)
    assert "pw" not in str(caught.value)


def test_tls_with_a_ca_of_ones_own(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(tls=tls) as peer:
        url = peer.url.replace("http:", "https:")
        send(made(context, url, ca_file=str(certificate)), [make_entry(0)])
        send(made(context, url, insecure=True), [make_entry(1)])

        async def stranger(sink: Loki) -> None:
            await sink.write([make_entry(2)])
            await until(lambda: any("verify failed" in said for said in context.said))

        use(made(context, url), stranger)
    assert ids(peer) == ["f1-0", "f1-1"]


def test_addresses() -> None:
    assert (
        push_url("http://h:3100") == push_url("http://h:3100/") == "http://h:3100/loki/api/v1/push"
    )
    assert push_url("https://h/own/push") == "https://h/own/push"


# ---------------------------------------------------------------- when it cannot


def test_retry_after_is_honoured(context: FakeContext, make_entry: MakeEntry) -> None:
    limit = "ingestion rate limit exceeded for user fake"

    def answer(request: Request, number: int) -> Answer:
        return Answer(429, limit, {"Retry-After": "1"}) if number == 0 else Answer()

    with serving(answer) as peer:
        send(made(context, peer.url), [make_entry(0)], [make_entry(1)])
    assert ids(peer) == ["f1-0", "f1-1"]
    assert peer.requests[1].at - peer.requests[0].at >= 1.0
    assert any("it is the limit" in said and limit in said for said in context.said)
    assert context.said[-1] == "loki: takes entries again"


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "9999999"}) == 300
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "Wed, 21 Oct 2215 07:28:00 GMT"}) == 300
    for nonsense in ("", "soon", "-1", "1e9", "٣"):
        assert retry_after({"retry-after": nonsense}) is None


@pytest.mark.parametrize("bad", [Answer(500), Answer(503, "no ring"), Answer(0), Answer(404)])
def test_failures_are_tried_again_in_order(
    context: FakeContext, make_entry: MakeEntry, bad: Answer
) -> None:
    with serving(lambda request, number: bad if number % 3 else Answer()) as peer:
        send(made(context, peer.url, batch_bytes=1), [make_entry(n) for n in range(4)])
    assert ids(peer) == [f"f1-{n}" for n in range(4)]


def test_an_answer_without_end_is_not_read_to_it(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    with serving(lambda request, number: Answer(400, "x" * 10_000_000)) as peer:
        sink = made(context, peer.url)
        send(sink, [make_entry(0)])
    assert sink.stats().dropped == {"refused": 1}
    assert max(map(len, context.said)) < 500


def test_rows_that_loki_refuses_are_counted_by_reason(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    said = (
        "3 errors like: entry for stream '{job=\"kshark\"}' has timestamp too old: 2001; "
        "2 errors like: max entry size '10' bytes exceeded for stream '{}' while adding"
    )
    with serving(lambda request, number: Answer(400, said)) as peer:
        sink = made(context, peer.url)
        send(sink, [make_entry(n) for n in range(10)])
    assert sink.stats().dropped == {"too old for loki": 3, "too long for loki": 2}
    assert sink.stats().held == 0


OLD = "entry for stream '{a=\"; 1 errors\"}' has timestamp too old: x, oldest acceptable: y"


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, OLD, {"too old for loki": 1}),
        (400, "entry for stream '{}' has timestamp too new: x", {"too new for loki": 1}),
        (400, "entry with timestamp 1 ignored, reason: 'entry too far behind',\n user 'fake', "
              "total ignored: 4 out of 9 for stream: {}", {"too old for loki": 4}),
        (400, "stream '{}' includes structured metadata, but", {"metadata refused": 1}),
        (400, "loghttp.PushRequest: nonsense", {"refused": 9}),
        (400, "99 errors like: entry for stream", {"refused": 9}),
        (413, "<html>too large", {"too large for loki": 9}),
        (400, "", {"refused": 9}),
    ],
)  # fmt: skip
def test_what_is_made_of_an_answer(status: int, said: str, expected: dict[str, int]) -> None:
    assert refused(status, said, 9) == expected


@given(st.text(), st.integers(1, 1000))
def test_no_answer_breaks_the_books(said: str, entries: int) -> None:
    assert 0 < sum(refused(400, said, entries).values()) <= entries


@pytest.mark.parametrize(
    ("status", "text", "advice"),
    [(401, "no org id", "give tenant"), (401, "Unauthorized", "password_file"), (403, "", "token_file"),
     (404, "404 page not found", "at this address"), (301, "", "redirects")],
)  # fmt: skip
def test_who_gave_something_wrong_is_told_what_to_give(
    context: FakeContext, make_entry: MakeEntry, status: int, text: str, advice: str
) -> None:
    async def whole(sink: Loki) -> None:
        await sink.write([make_entry(0)])
        await until(lambda: context.said)

    with serving(lambda request, number: Answer(status, text)) as peer:
        use(made(context, peer.url, batch_age=0.0), whole)
    assert advice in context.said[0]
    assert f"HTTP {status}" in context.said[0]


def test_the_text_of_an_answer_is_one_line() -> None:
    assert Reply(500, "a\nb " + "c" * 999).why == ("HTTP 500: a b " + "c" * 296)
