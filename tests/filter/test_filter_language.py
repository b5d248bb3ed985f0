"""What each construct of the language means, on five entries."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from calls import (
    ALL,
    FLOW,
    PROTOCOLS,
    REDIS,
    TOY,
    UNANSWERED,
    UNKNOWN,
    WHOLE,
    Answer,
    Ask,
    Asked,
    Place,
    entry,
    request,
    response,
    toy,
)

from kshark.api import Entry, Outcome
from kshark.entry_json import EntryJson
from kshark.filter import Filter, compile_filter, known_fields
from kshark.filter.fields import ROW
from kshark.filter.functions import headers


def made(text: str, **options: Any) -> Filter:
    return compile_filter(text, PROTOCOLS, **options)


def matching(text: str) -> str:
    """The names of the entries that match, by both ways to ask."""
    filter_ = made(text)
    names = [name for name, one in ALL.items() if filter_.match(one)]
    assert filter_.select(list(ALL.values())) == [ALL[name] for name in names]
    for name in names:
        assert filter_.protocols is None or ALL[name].protocol in filter_.protocols
    return " ".join(names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("true", "whole unanswered orphan redis unknown"),
        ("http", "whole unanswered orphan"),
        ("!http", "redis unknown"),
        ("tcp || redis", "redis unknown"),
        ('protocol == "http" && has(response)', "whole orphan"),
        ('protocol in ["redis", "tcp"]', "redis unknown"),
        # a fact that is not there: the comparison is false, whichever way round
        ("response.status >= 500", "whole orphan"),
        ("response.status < 500", ""),
        ("response.status != 503", ""),
        ("!(response.status == 503)", "unanswered redis unknown"),
        ("response.ok", "redis"),
        ("!response.ok", "whole unanswered orphan unknown"),
        ("has(response.status)", "whole orphan"),
        ("has(request) && !has(response)", "unanswered unknown"),
        ('request.verb == "GET"', "whole unanswered"),
        ('request.verb != "GET"', "redis unknown"),
        ("request.size > 0.0625KiB", "whole unanswered redis unknown"),
        ('response.error == ""', ""),
        ("latency > 100ms", "whole redis"),
        ("latency <= 200ms && latency_ns == 200000000", "whole redis"),
        ("duration > 0.2s && duration_ns == 300ms", "whole redis"),
        ("slow(200)", "whole redis"),
        ("slow(201)", ""),
        ("slow(200ms) && slow(0.2s) && slow('200ms') && slow(\"0.2s\")", "whole redis"),
        ("!slow(0)", "unanswered orphan unknown"),
        ("error", "whole"),
        ('outcome == "orphan" || outcome == "unanswered"', "unanswered orphan"),
        ('"late" in notes', "orphan"),
        ("size(notes) == 0", "whole unanswered redis unknown"),
        ('src.comm == "curl"', "whole unanswered orphan redis"),
        ("dst.pid == 7", "unknown"),  # the server end asked
        ('has(src.name) && src.name == "shop"', "unknown"),
        ('src.ip.startsWith("10.0.0.") && dst.port in [80, 443]', "whole unanswered orphan redis"),
        ('id == "f0-3" && backend == "pcap" && transport == "tcp"', " ".join(ALL)),
        ('time == "2026-01-02T03:04:05.000000006Z"', "whole unanswered redis unknown"),
        ('time >= "2026-01-02T03:04:05.2"', "orphan"),
        ("request.time < response.time", "whole redis"),
        ("midstream || truncated || gap_bytes > 0", ""),
        # details
        ('http.request.headers["x-tenant"] == "a, b"', "whole unanswered"),
        ('http.request.headers["x-tenant"] != "a"', "whole unanswered"),
        ('http.request.headers["no"] != "a"', ""),
        ('http.request.headers.host == "a"', "whole unanswered"),
        ('has(http.request.headers.host) && !has(http.request.headers["no"])', "!"),
        ('"host" in http.request.headers && !("no" in http.request.headers)', "whole unanswered"),
        ("has(http.request.user_agent)", ""),
        ("has(http.request.host)", "whole unanswered"),
        ('http.response.server == "x"', "whole orphan"),
        ('http.request.headers.exists(k, k.startsWith("x-"))', "whole unanswered"),
        ('http.request.headers.all(k, k != "no")', "whole unanswered"),
        ('http.request.headers.exists_one(k, k.contains("o"))', ""),
        ('http.request.headers.filter(k, k.size() == 4) == ["host"]', "whole unanswered"),
        ("http.request.headers.map(k, k.size()).exists(n, n == 8)", "whole unanswered"),
        ('http.request.headers["cookie"] == "REDACTED"', "whole unanswered"),
        ("redis.response.value == 12 && redis.response.value > 11.5", "redis"),
        ('redis.response.value == "12" || redis.response.value < "13"', ""),
        ('redis.request.args == ["k", "v"] && redis.request.args[1] == "v"', "redis"),
        ('redis.request.args[2] == "v" || redis.request.args[-1] == "v"', ""),
        # operators and functions
        ("response.status / 100 == 5 && response.status % 100 == 3", "whole orphan"),
        ("response.status / 0 == 1 || response.status % 0 == 1", ""),
        ("request.size * 9223372036854775807 > 0", ""),
        ("-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3", " ".join(ALL)),
        ("1.0 / 0.0 > 1e300 && -1.0 / 0.0 < 0.0 && !(0.0 / 0.0 == 0.0)", " ".join(ALL)),
        ("double(request.size) / 3.0 > 26.6 && int(26.9) == 26", "whole unanswered redis unknown"),
        ("http ? response.status == 503 : redis", "whole orphan redis"),
        ('(http ? response.status : 1) == 1', "redis unknown"),
        ('request.target.matches("^/r$") || request.target.matches("k|x")', "whole unanswered redis"),
        ('request.verb.lowerAscii() + "!" == "get!"', "whole unanswered"),
        ('request.verb.endsWith("ET") && size(request.verb) == 3', "whole unanswered redis"),
        ('string(response.status) + "x" == "503x" && int("12") == 12', "whole orphan"),
        ('"é".upperAscii() == "é" && "日本".size() == 2', " ".join(ALL)),
        ("(response.status == 503) == http", "whole orphan redis unknown"),
        ('"http" == "ms" || "100ms" == "x" || r"\\d" == "\\\\d"', " ".join(ALL)),
        ("http // 1KiB and more", "whole unanswered orphan"),
        ("http\n  && error", "whole"),
        ("1m30s == 90s && 1KB == 1000 && 1.5KiB == 1536 && 0x10 == 16 && 1e3 == 1000.0", " ".join(ALL)),
    ],
)  # fmt: skip
def test_meaning(text: str, names: str) -> None:
    if names == "!":
        with pytest.raises(Exception, match="has"):
            made(text)
    else:
        assert matching(text) == names


def test_names_of_the_row_are_those_of_the_json() -> None:
    """Every fact of `EntryJson` is read by code of ours, and there is no other."""

    def names(kind: Any, before: str = "") -> list[str]:
        found = []
        for one in msgspec.json.schema_components([kind])[1][kind.__name__]["properties"]:
            nested = {"src": "EndpointJson", "dst": "EndpointJson"}
            nested |= {"request": "RequestJson", "response": "ResponseJson"}
            inner = nested.get(one)
            if inner is None:
                found.append(before + one)
            else:
                from kshark import entry_json

                found += names(getattr(entry_json, inner), f"{one}.")
        return found

    assert sorted(names(EntryJson)) == sorted(ROW)
    assert set(ROW) <= set(known_fields({}))


def test_every_field_has_a_type_and_a_doc_line() -> None:
    kinds = r"bool|int|double|string|bytes|dyn|list\(\w+\)|map\(string, \w+\)"
    for name, field in known_fields(PROTOCOLS).items():
        assert field.doc, name
        assert re.fullmatch(kinds, field.type), name


def test_types_of_a_schema() -> None:
    found = {n: f.type for n, f in known_fields(PROTOCOLS).items() if n.startswith("toy.request.")}
    assert found == {
        "toy.request.text": "string",
        "toy.request.number": "int",
        "toy.request.share": "double",
        "toy.request.flag": "bool",
        "toy.request.blob": "bytes",
        "toy.request.words": "list(string)",
        "toy.request.numbers": "list(int)",
        "toy.request.pairs": "map(string, string)",
        "toy.request.table": "map(string, string)",
        "toy.request.anything": "dyn",
        "toy.request.place.city": "string",
        "toy.request.place.zone": "int",
        "toy.request.secret": "string",
    }


@pytest.mark.parametrize(
    ("text", "details", "wanted"),
    [
        ('toy.request.text == "x"', Ask(text="x"), True),
        ('toy.request.text != "x"', Ask(), False),
        ("has(toy.request.text)", Ask(), False),
        ("toy.request.flag", Ask(flag=True), True),
        ("!toy.request.flag", Ask(), True),
        ("has(toy.request.flag)", Ask(flag=False), True),
        ('toy.request.blob == b"\\x00a"', Ask(blob=b"\0a"), True),
        ("toy.request.numbers.exists(n, n > 3)", Ask(numbers=[1, 4]), True),
        ("4 in toy.request.numbers", Ask(numbers=[1, 4]), True),
        ('toy.request.place.city == "Rome"', Ask(place=Place(city="Rome")), True),
        ('toy.request.place.city == ""', Ask(), False),
        ("has(toy.request.place.zone)", Ask(place=Place(city="Rome")), False),
        ("toy.request.anything.a.b[1] == 2", Ask(anything={"a": {"b": [1, 2]}}), True),
        ("has(toy.request.anything.a)", Ask(anything={"b": 1}), False),
        ("has(toy.request.anything.a)", Ask(anything=[1]), False),
        ("toy.request.anything == 1", Ask(anything=True), False),
        ("toy.request.anything == 1", Ask(anything=1.0), True),
        ("toy.request.anything", Ask(anything=True), True),
        ("toy.request.anything", Ask(anything="yes"), False),
        ("!toy.request.anything", Ask(anything="yes"), True),
        ("toy.request.anything.exists(x, x == 2)", Ask(anything=(1, 2)), True),
        ('toy.request.anything.contains("b")', Ask(anything="abc"), True),
        ('toy.request.anything.contains("b")', Ask(anything=7), False),
        ('"b" in toy.request.anything', Ask(anything=["b"]), True),
        ("toy.request.anything + 1 == 3", Ask(anything=2), True),
        ("toy.request.anything + 1 == 3", Ask(anything="2"), False),
        ('toy.request.table["a"] == "b"', Ask(table={"a": "b"}), True),
        ('toy.request.pairs["authorization"] == "Bearer REDACTED"',
         Ask(pairs=[("Authorization", "Bearer x")]), True),
        ('toy.request.secret == "REDACTED"', Ask(secret="pa55"), True),
        ('toy.request.secret == "pa55"', Ask(secret="pa55"), False),
        ('toy.request.text == "x"', ValueError("a bug of the plugin"), False),
        ('!(toy.request.text == "x")', ValueError("a bug of the plugin"), True),
        ('toy.request.text.startsWith("x")', Ask(text=5), False),  # type: ignore[arg-type]
        ('toy.request.text == "x"', Answer(text="x"), True),  # whatever struct it gave
        ("toy.request.number == 1", Place(), False),
    ],
)  # fmt: skip
def test_details(text: str, details: Any, wanted: bool) -> None:
    filter_ = made(text)
    assert filter_.match(toy(details)) is wanted
    assert filter_.protocols in (frozenset({"toy"}), None)
    assert filter_.needs_details


def test_secrets_are_seen_only_where_sinks_see_them() -> None:
    text = 'toy.request.secret == "pa55"'
    assert made(text, redact=False).match(toy(Ask(secret="pa55")))
    assert not made(text).match(toy(Ask(secret="pa55")))


def test_details_are_made_once_a_half_and_only_when_asked_for() -> None:
    """The cheap terms go first, wherever they stand."""
    wanted = made(
        'toy.request.text == "x" && toy.request.number == 1 && toy.response.number == 2 && error'
    )
    Asked.calls = 0
    assert wanted.match(toy(Ask(text="x", number=1), Answer(number=2)))
    assert Asked.calls == 2
    for other in (WHOLE, REDIS, entry(request(extra=Ask()), None, "toy", Outcome.OK)):
        assert not wanted.match(other)
    assert Asked.calls == 2
    assert not wanted.match(toy(Ask(text="y"), Answer()))
    assert Asked.calls == 3
    either = made('toy.request.text == "x" || error')
    assert either.match(toy(Ask(text="x")))
    assert Asked.calls == 3


def test_details_that_raise_are_asked_for_once() -> None:
    wanted = made('toy.request.text == "x" || toy.request.number == 1')
    Asked.calls = 0
    assert not wanted.match(toy(ValueError("x")))
    assert Asked.calls == 1


def test_no_entry_is_kept_after_a_batch() -> None:
    import gc
    import weakref

    class Weak(Ask, weakref=True):
        pass

    wanted, details = made('toy.request.text == "x"'), Weak(text="x")
    seen = weakref.ref(details)
    batch = [toy(details)]
    assert len(wanted.select(batch)) == 1
    batch.clear()
    del details
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(
    ("text", "protocols"),
    [
        ("http", {"http"}),
        ("http || redis", {"http", "redis"}),
        ("http && redis", set()),
        ("!http", None),
        ("error", None),
        ("http || error", None),
        ("http && error", {"http"}),
        ('http.request.method == "GET"', {"http"}),
        ('!(http.request.method == "GET")', None),
        ('http.request.headers["a"] == "b" || redis.request.inline', {"http", "redis"}),
        ("has(http.request.host)", {"http"}),
        ("has(http)", None),
        ("has(http.request.headers.host)", {"http"}),
        ('protocol == "tcp"', {"tcp"}),
        ('"tcp" == protocol', {"tcp"}),
        ('protocol != "tcp"', None),
        ('protocol in ["tcp", "udp"] && error', {"tcp", "udp"}),
        ("false", set()),
        ("(http == redis) && error", None),
        ('(http ? "a" : "b") == "b"', None),
        ('http.request.headers.exists(k, k == "x")', None),
        ("size(http.request.headers) > 3", {"http"}),
        ('http.request.method + redis.request.key == "x"', set()),
        ("[http.request.body_size, 3].exists(n, n > 2)", None),
    ],
)  # fmt: skip
def test_protocols_that_can_match(text: str, protocols: set[str] | None) -> None:
    assert made(text).protocols == (None if protocols is None else frozenset(protocols))


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("http && response.status >= 500", False),
        ("http.request.body_size > 3", True),
        ("has(http.request.host)", True),
    ],
)
def test_needs_details(text: str, needs: bool) -> None:
    assert made(text).needs_details is needs


def test_headers_are_a_map_of_lower_case_names() -> None:
    pairs = [("Via", "a"), ("X", "1"), ("via", "b"), ("VIA", "c")]
    assert headers(pairs) == {"via": "a, b, c", "x": "1"}


def test_an_outcome_is_text() -> None:
    assert made('outcome + "!" == "error!" && outcome.size() == 5').match(WHOLE)
    assert made('outcome in ["error"] && outcome.matches("^err")').match(WHOLE)
    assert made('string(outcome) == "error"').match(WHOLE)


def test_facts_that_enrichers_add_are_seen() -> None:
    flow = msgspec.structs.replace(FLOW)
    one = entry(request(), response(), flow=flow)
    wanted = made('src.name == "pod"')
    assert not wanted.match(one)
    flow.client = msgspec.structs.replace(flow.client, name="pod")
    assert wanted.match(one)


def test_match_gives_a_bool() -> None:
    for text in (
        "response.status == 503",
        "has(response.error)",
        "toy.request.flag",
        "notes == []",
    ):
        found = [made(text).match(one) for one in (*ALL.values(), toy(Ask(flag=True)))]
        assert {type(one) for one in found} == {bool}, text


def test_lone_surrogates_of_a_peer_are_no_trouble() -> None:
    odd: list[Entry] = [entry(request(target="/\udcff"), None)]
    assert made('request.target.matches("/")').select(odd) == []
    assert made('request.target.startsWith("/")').select(odd) == odd


def test_a_protocol_with_a_hyphen() -> None:
    spec = msgspec.structs.replace(TOY, name="toy-2")
    wanted = compile_filter('toy_2 && toy_2.request.text == "x"', {"toy-2": spec})
    assert wanted.protocols == frozenset({"toy-2"})
    assert wanted.match(entry(request(extra=Ask(text="x")), None, "toy-2"))
    assert not wanted.match(toy(Ask(text="x")))


def test_batches() -> None:
    assert made("http").select([]) == []
    assert made("http").select((WHOLE, UNKNOWN, UNANSWERED)) == [WHOLE, UNANSWERED]
