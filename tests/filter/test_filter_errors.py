"""What is wrong with a filter is said in one line, shown by a caret, and answered by a suggestion."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from calls import PROTOCOLS, WHOLE

from kshark import limits
from kshark.api import PluginError
from kshark.filter import compile_filter


def error(text: str) -> list[str]:
    with pytest.raises(PluginError) as caught:
        compile_filter(text, PROTOCOLS, origin="--filter")
    return str(caught.value).splitlines()


# Each case: the filter, a line of carets below the place, and the words.
CASES = [
    # fields and functions that nearly exist
    ("responze.status > 1",
     "^", "no field responze.status; did you mean response.status,"),
    ("http && http.request.methud == 'a'",
     "        ^", "no field http.request.methud; did you mean http.request.method,"),
    ("src.ip.foo == 'a'",
     "^", "no field src.ip.foo; src.ip is text, without parts"),
    ("status >= 500",
     "^", "no field status; did you mean response.status, grpc.response.status, http.response.status?"),
    ("http || httpx",
     "        ^", "no field httpx; did you mean http, http2?"),
    ("zzz == 1",
     "^", "no field zzz; `kshark fields` lists them"),
    ("has(src.nme)",
     "    ^", "no field src.nme; did you mean src.name,"),
    ("has(src)",
     "    ^", "has() takes a field; as in has(src.name)"),
    ("src.ip.startswith('a')",
     "       ^", "no function startswith; did you mean startsWith?"),
    ("foo(1)",
     "^", "no function foo; there is slow, has, size,"),
    # types
    ("response.status == '500'",
     "                ^", "== between a number and text; text stands in quotes, numbers do not"),
    ("http == 1",
     "     ^", "== between yes/no and a number; a yes/no field stands alone: x or !x"),
    ("src.name == null",
     "         ^", "== between text and null; an absent field: !has(field)"),
    ("response.status > 1.5",
     "                ^", "> between a number and a decimal number; convert one side:"),
    ("src.ip && http",
     "       ^", '&& takes yes/no, this is text; as in field == "text"'),
    ("!response.status",
     "^", "! takes yes/no, this is a number; as in field > 0"),
    ("response.status",
     "^", "a filter must say yes or no, this is a number"),
    ("notes",
     "^", "a filter must say yes or no, this is a list"),
    ("size(5) == 1",
     "    ^", "size() does not take a number"),
    ("src.ip.contains(5)",
     "               ^", "contains() does not take text, a number"),
    ("'a' in src.ip",
     "    ^", "text in text; as in x in"),
    ("http.request.headers[1] == 'a'",
     "                    ^", "a map has no element by a number"),
    ("http ? 1 : 'a'",
     "     ^", "a ? b : c takes yes/no and two of one type, not yes/no, a number, text"),
    ("src.ip.exists(n, true)",
     "^", "text has no elements; lists and maps have"),
    ("-http",
     "^", "- takes a number, this is yes/no"),
    ("http.request.headers['X-A'] == 'a'",
     "                     ^", 'names of headers are lower-case here; write "x-a"'),
    ("'Host' in http.request.headers",
     "^", 'names of headers are lower-case here; write "host"'),
    ("1u == 1u",
     "^", "unsigned numbers are not needed; write 1"),
    # syntax
    ("http and redis",
     "     ^", "and is not expected here; and is written &&"),
    ("http or redis",
     "     ^", "or is not expected here; or is written ||"),
    ("not http",
     "    ^", "http is not expected here; not is written !"),
    ("http & error",
     "     ^", "& is not expected here; and is written &&"),
    ("response.status = 500",
     "                ^", "= is not expected here; equality is written =="),
    ("src.ip =~ 'x'",
     "       ^", "= is not expected here; a regular expression is written"),
    ("src.ip == \"abc",
     "          ^", "this quote is not closed"),
    ("src.ip == 'a\\q'",
     "          ^", "a wrong \\ in this text"),
    ("http &&",
     "       ^", "it ends where more is expected"),
    ("(http",
     "     ^", ") is missing"),
    ("http)",
     "    ^", ") is not expected here"),
    ("notes[0",
     "       ^", "] is missing"),
    ("# http",
     "^", "# is not expected here"),
    ("",
     "^", "an empty filter"),
    # literals
    ("latency > 100msec",
     "             ^", "no unit msec; units are ns us ms s m h d, B kB MB KiB MiB ..."),
    ("latency > 1.5ns",
     "          ^", "not a whole number of ns"),
    ("latency > 1s5KiB",
     "          ^", "a time and a size in one"),
    ("latency > 99999999999999999s",
     "          ^", "this number is too large"),
    ("latency > 99999999999999999999",
     "          ^", "this number is too large"),
    ("slow(1, 2)",
     "     ^", "slow() takes milliseconds or a time: slow(100), slow(1.5s)"),
    ("slow(latency)",
     "     ^", "slow() takes milliseconds or a time: slow(100), slow(1.5s)"),
    ("slow('soon')",
     "      ^", "slow() takes milliseconds or a time: slow(100), slow(1.5s)"),
    # the column is that of what was typed: after a literal that grew, after wide letters
    ("latency > 100ms && responze.ok",
     "                   ^", "no field responze.ok; did you mean response.ok?"),
    ("slow(1) && has(src.name) && responze.ok",
     "                            ^", "no field responze.ok; did you mean response.ok?"),
    ("'日本' == src.iq",
     "          ^", "no field src.iq; did you mean src.ip,"),
    ("latency > 1m30",
     "            ^", "30 has no unit; as in 1m30s"),
    # the languages that people know
    ("tcp.port eq 80",
     "         ^", "eq is not expected here; equality is written =="),
    ("ip.src == '10.0.0.1'",
     "^", "no field ip.src; did you mean src.ip?"),
    ("src.ip == 10.0.0.1",
     "          ^", 'an address stands in quotes: "10.0.0.1"'),
    ("port 80",
     "     ^", "this looks like tcpdump's language, which --bpf takes"),
    ("status_code:500",
     "           ^", ": is not expected here; equality is written =="),
    ("http AND redis",
     "     ^", "AND is not expected here; and is written &&"),
    ("http, error",
     "    ^", ", is not expected here; and is written &&"),
    ("if http then error",
     "^", "if is not expected here; a choice is written condition ? one : other"),
    ("response.status => 500",
     "                ^", "= is not expected here; at least is written >="),
    ("response.status >= 400 && < 500",
     "                          ^", "each comparison names its field"),
    ("400 <= response.status < 500",
     "                       ^", "a range is written a <= x && x < b"),
    ("response.status == 500 || 503",
     "                       ^", "each comparison names its field"),
    ("response.status in (500, 503)",
     "                       ^", ", is not expected here; a list stands in [ ]"),
    ("response.status in 500..599",
     "                   ^", "a range is written x >= a && x <= b"),
    ("response.status == 5xx",
     "                    ^", "no unit xx; a class of statuses: response.status / 100 == 5"),
    ("response.size > 1,000",
     "                 ^", "numbers have no commas"),
    ("latency > 100 ms",
     "              ^", "ms is not expected here; a unit follows its number at once"),
    ("request.target contains '/cart'",
     "               ^", "functions have brackets: field.contains"),
    ("request.target like '%a%'",
     "               ^", 'this is written field.contains("...")'),
    ("request.target.startsWith(/cart)",
     "                          ^", 'text stands in quotes: "/cart"'),
    ("request.verb == \u201cGET\u201d",
     "                ^", "quotes are \" or '"),
    ("len(request.target) > 9",
     "^", "no function len; did you mean size? As in size(request.target)"),
    ("request.target.length > 9",
     "^", "no field request.target.length; did you mean size(request.target)?"),
    ("request.verb.lower() == 'get'",
     "             ^", "no function lower; did you mean lowerAscii?"),
    ("time > now() - 5m",
     "       ^", "no function now; there is no clock"),
    # names
    ("http.status == 500",
     "^", "no field http.status; did you mean http.response.status?"),
    ("request.verb == GET",
     "                ^", 'no field GET; text stands in quotes: "GET"'),
    ("protocol == http",
     "         ^", '== between text and yes/no; text stands in quotes: "http"'),
    ("error == 'yes'",
     "      ^", "a yes/no field stands alone: x or !x"),
    ("unanswered",
     "^", 'no field unanswered; write outcome == "unanswered"'),
    ("response == null",
     "^", "no field response; has(response) asks for it;"),
    ("src == '10.0.0.1'",
     "^", "no field src; it has src.ip, src.port, src.name ..."),
    ("response.body.contains('a')",
     "^", "no field response.body; did you mean grpc.response.body, http.response.body, http2.response.body?"),
    ("http.request.headers.x-tenant == 'a'",
     "                     ^", 'such a name stands in quotes; http.request.headers["x-tenant"]'),
    ("http.request.headers[x-tenant] == 'a'",
     "                     ^", 'such a name stands in quotes; http.request.headers["x-tenant"]'),
    ("http.request.headers['content-length'] > 100",
     "                                       ^", "int(...) makes a number of text"),
    ("slow",
     "^", "no field slow; slow is a function, as in slow(100)"),
    ("slow()",
     "^", "slow() takes something else; as in slow(100), slow(1.5s)"),
    ("!request.verb == 'GET'",
     "^", "! takes yes/no, this is text; write !(a == b), or a != b"),
    ("notes.contains('late')",
     "              ^", 'contains() does not take a list, text; as in "late" in notes'),
    ("gap_bytes",
     "^", "a filter must say yes or no, this is a number; as in gap_bytes > 0"),
    ("'http'",
     "^", "a filter must say yes or no, this is text; write http"),
    # what CEL allows and nobody means
    ("latency > 100",
     "          ^", "a time needs its unit; as in 100ms, or latency_ns and a number of ns"),
    ("100 <= duration",
     "^", "a time needs its unit; as in 100ms, or duration_ns"),
    ("latency > '100ms'",
     "        ^", "a time is a number with a unit and no quotes: 100ms"),
    ("response.status == 100h",
     "                   ^", "100h is a time, and response.status is a plain number; hex is written 0x100"),
    ("src.port in [80, 443s]",
     "                 ^", "443s is a time, and src.port is a plain number; it is compared with a number without"),
    ("request.size > 100ms",
     "               ^", "100ms is a time, and request.size is a number of bytes; as in 100B, 1KiB"),
    ("request.size > 5m",
     "               ^", "5m is a time, and request.size is a number of bytes; did you mean 5MB?"),
    ("latency > 1KiB",
     "          ^", "1KiB is a number of bytes, and latency is a time; as in 100ms"),
    ("dst.port + 1B == 81",
     "           ^", "1B is a number of bytes, and dst.port is a plain number"),
    ("protocol == 'HTTP'",
     "            ^", 'protocol is never "HTTP"; did you mean http?'),
    ("outcome in ['ok', 'timeout']",
     "                  ^", 'outcome is never "timeout"; it is cut, error, ok, orphan, unanswered'),
    ("response.status in [500, '503']",
     "                         ^", "text in a list for a number; text stands in quotes, numbers do not"),
    ("src.ip == '10.0.0.0/8'",
     "          ^", '"10.0.0.0/8" is no address; a range is written src.ip.startsWith("10.1.")'),
    ("time > '10:15'",
     "       ^", '"10:15" is no time; as in time >= "2026-01-02T03:04"'),
    # what a filter cannot do
    ("src.ip.matches('[')",
     "               ^", "not a regular expression of RE2: missing ]: ["),
    ("src.ip.matches(src.name)",
     "               ^", "matches() needs its expression in quotes"),
    ("notes.exists(n, notes.exists(m, m == n))",
     "                ^", "a macro within a macro: exists, all, filter, map do not nest"),
    ("timestamp('x') < timestamp('y')",
     "         ^", "timestamp() is not possible in a filter"),
    ("{'a': 1}.exists(k, k == 'a')",
     "^", "a map or message between braces is not possible in a filter"),
    ("type(http) == bool",
     "    ^", "type() is not possible in a filter"),
    ("duration('1s') == duration('1s')",
     "        ^", "duration() is not possible in a filter"),
    ("string(1.5) == 'a'",
     "       ^", "a value of type double is not possible here in a filter"),
]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "latency > 2 * 100ms", "duration - latency < 1s", "latency_ns / 1ms > 5", "size(request.target) > 1KB",
        "request.size + response.size > 1MiB", "gap_bytes == 0B", "-100ms < latency", "latency in [1s, 2s]",
    ],
)  # fmt: skip
def test_units_stand_where_they_belong(text: str) -> None:
    compile_filter(text, PROTOCOLS)


@pytest.mark.parametrize(("text", "caret", "words"), CASES, ids=[case[0] for case in CASES])
def test_errors(text: str, caret: str, words: str) -> None:
    problem, shown, below = error(text)
    assert problem.startswith(f"--filter: {words}") or f"; {words}" in problem
    assert shown == f"  {text}"
    assert below == f"  {caret}"


@pytest.mark.parametrize(
    "text",
    [
        "latency > 0", "latency_ns > 100", "latency > 100 * 1000", "latency > 1us + 5",
        "protocol == 'http'", "'error' == outcome", "outcome in ['error']", "src.ip != '10.0.0.9'",
        "time >= '2026'", "time >= '2026-01-02T03:04'", "response.status in [503, 500.0]",
    ],
)  # fmt: skip
def test_what_makes_sense(text: str) -> None:
    assert compile_filter(text, PROTOCOLS).match(WHOLE)


def test_long_texts_are_explained_in_time() -> None:
    """Nothing that looks for a cause is quadratic: an error of 16,000 characters takes no second."""
    for piece in ("a", "a.", "a.headers.", "1,", "1.", "(", "<", " ", "x-", "&", "in(", "slow "):
        text = "http && " + piece * (16_000 // len(piece)) + " = 1"
        assert error(text)


def test_the_line_at_fault_is_shown() -> None:
    assert error("http &&\n  foo == 1 ||\nerror")[1:] == ["    foo == 1 ||", "    ^"]
    assert error("http &&\n")[1:] == ["  ", "  ^"]


def test_the_first_problem_is_told() -> None:
    assert error("foo || 'x' == 1 || bar")[0].startswith("--filter: no field foo")


def test_a_long_line_is_shown_in_part() -> None:
    text = " || ".join(["http"] * 50) + " || foo == 1"
    _, shown, below = error(text)
    assert len(shown) <= 102
    assert shown[len(below) - 1 :].startswith("foo == 1")


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert not any("\x1b" in line for line in error("'\x1b[31m' == 1"))


# ---------------------------------------------------------------- bounds


def test_length() -> None:
    fits = "true" + " " * (limits.FILTER_TEXT - 4)
    assert compile_filter(fits, PROTOCOLS).match(WHOLE)
    assert error(fits + " ")[0] == "--filter: a filter over 16,384 characters"


def test_depth() -> None:
    assert compile_filter("(" * 20 + "http" + ")" * 20, PROTOCOLS).match(WHOLE)
    assert error("(" * 40 + "http" + ")" * 40)[0] == "--filter: nested deeper than 32 levels"
    assert error("!(" * 40 + "http" + ")" * 40)[0] == "--filter: nested deeper than 32 levels"
    assert error("1" + "+1" * 100 + "== 1")[0] == "--filter: nested deeper than 32 levels"


def test_long_chains_are_one_level() -> None:
    text = " || ".join(f"src.port == {n}" for n in range(700))
    assert not compile_filter(text, PROTOCOLS).match(WHOLE)
    assert compile_filter(f"{text} || http", PROTOCOLS).match(WHOLE)
    many = ", ".join(f"'10.1.{n >> 8}.{n & 255}'" for n in range(1_000))
    assert not compile_filter(f"src.ip in [{many}]", PROTOCOLS).match(WHOLE)


def test_lists_that_are_walked_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = compile_filter("http.request.headers.exists(k, k == 'host')", PROTOCOLS)
    every = compile_filter("http.request.headers.all(k, k != 'no')", PROTOCOLS)
    assert (exists.match(WHOLE), every.match(WHOLE)) == (True, True)
    monkeypatch.setattr(limits, "FILTER_ELEMENTS", 2)
    assert (exists.match(WHOLE), every.match(WHOLE)) == (False, False)


def test_a_regular_expression_cannot_take_long_or_much() -> None:
    """`(a+)+$` takes Python's own engine ages for this text; RE2 is linear."""
    from calls import entry, request

    evil = entry(request(target="a" * 50_000 + "!"), None)
    assert not compile_filter("request.target.matches('(a+)+$')", PROTOCOLS).match(evil)
    assert "too large" in error("src.ip.matches('" + ".{1000}" * 20 + "')")[0]
    assert "not a regular expression" in error(r"src.ip.matches('(a)\\1')")[0]


@pytest.mark.parametrize("module", ["cel_expr_python", "re2"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text: Any = "src.ip.matches('a')"
    with pytest.raises(PluginError, match="pip install 'kshark") as caught:
        compile_filter(text, PROTOCOLS)
    assert len(str(caught.value).splitlines()) == 1


def test_no_text_of_the_user_becomes_source() -> None:
    """Quotes, braces, newlines and names of ours are data."""
    for odd in ('")or(1', "{0}", "{", "\\n", "e.flow", "__import__", "%s", "k0", "'''", "\x00"):
        quoted = "'" + "".join(f"\\u{ord(c):04x}" for c in odd) + "'"
        for text in (
            f"request.target == {quoted}",
            f"request.target in [{quoted}]",
            f"http.request.headers[{quoted}] == {quoted}",
            f"http.request.headers.exists(k, k == {quoted})",
            f"http.request.headers.map(k, k + {quoted}).exists(k, k == {quoted})",
            f"notes.filter(n, n == {quoted}) != []",
        ):
            assert not compile_filter(text, PROTOCOLS).match(WHOLE)
