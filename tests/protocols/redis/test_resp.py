"""Framing: laws, limits, the parser of hiredis as an oracle, and the compiled twin against the pure one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import hiredis
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis_kit import ask, commands, exotic, parsable, raw, resp2, resp3, sizes

from kshark import limits
from kshark.api import DissectError
from kshark.protocols.redis import resp

try:
    from kshark.protocols.redis import _resp
except ImportError:
    TWINS: list[ModuleType] = [resp]
else:
    TWINS = [resp, _resp]

twins = pytest.mark.parametrize("twin", TWINS, ids=lambda m: m.__name__.rpartition(".")[2])


def ends(scan: Any, data: bytes, cuts: list[int]) -> list[int]:
    """Offsets at which messages end, the stream given in pieces."""
    found, base, turn = [], 0, 0
    while base < len(data):
        piece = data[base : base + cuts[turn % len(cuts)]]
        turn += 1
        pos = 0
        while pos < len(piece):
            end = scan.scan(piece, pos)
            if end < 0:
                break
            assert end > pos
            pos = end
            found.append(base + pos)
        base += len(piece)
    return found


def offsets(values: list[bytes]) -> list[int]:
    return [sum(map(len, values[: at + 1])) for at in range(len(values))]


@twins
@given(st.lists(resp2 | resp3 | exotic, max_size=5), sizes)
def test_replies_end_where_they_end_however_cut(
    twin: ModuleType, values: list[bytes], cuts: list[int]
) -> None:
    scan = twin.Replies()
    data = b"".join(values)
    assert ends(scan, data, cuts) == offsets(values)
    assert not scan.open()
    assert ends(twin.Replies(), data, [len(data) or 1]) == offsets(values)


@twins
@given(st.lists(commands, max_size=5), sizes)
def test_commands_end_where_they_end_however_cut(
    twin: ModuleType, values: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(values)
    assert ends(twin.Commands(), data, cuts) == offsets(values)


@twins
@given(st.lists(resp2 | parsable, min_size=1, max_size=5))
def test_hiredis_sees_the_same_number_of_replies(twin: ModuleType, values: list[bytes]) -> None:
    data = b"".join(values)
    scan = twin.Replies()
    reader = hiredis.Reader(notEnoughData=Ellipsis)
    pos = 0
    while pos < len(data):
        end = scan.scan(data, pos)
        reader.feed(data[pos : end - 1])
        assert reader.gets() is Ellipsis  # not before its last byte
        reader.feed(data[end - 1 : end])
        assert reader.gets() is not Ellipsis
        pos = end


@twins
@given(st.lists(raw, min_size=1, max_size=6), st.binary(max_size=5))
def test_a_whole_command_at_once(twin: ModuleType, words: list[bytes], after: bytes) -> None:
    data = ask(*words)
    first = words[1] if len(words) > 1 else b""
    assert twin.command(b"xx" + data + after, 2) == (len(data) + 2, words[0], first)
    assert all(twin.command(data[:cut], 0) is None for cut in range(len(data)))


BROKEN_REPLIES = [
    b"$-5\r\n",
    b"$-2\r\n",
    b"*-2\r\n",
    b"%-1\r\n",
    b"$+5\r\nhello\r\n",
    b"$05\r\nhello\r\n",
    b"$1_0\r\n",
    b"$ 5\r\n",
    b"$\r\n",
    b"*\r\n",
    b"$5\r\nhelloX\r\n",
    b"$5\r\nhello\rX",
    b"$5\n",
    b"+OK\n",
    b":1_0\r\n",
    b":\r\n",
    b":--1\r\n",
    b":9223372036854775808\r\n",
    b"$9223372036854775808\r\n",
    b"$18446744073709551621\r\nhello\r\n",
    b"*99999999999999999999\r\n",
    b"*2147483648\r\n",
    b"$%d\r\n" % (limits.RESP_BULK + 1),
    b"#x\r\n",
    b"_x\r\n",
    b".\r\n",
    b"*1\r\n.\r\n",
    b";0\r\n",
    b"$?\r\n+OK\r\n",
    b"$?\r\n$1\r\na\r\n",
    b">?\r\n",
    b"@\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"\r\n",
    b"\x00\x01\x02\n",
    b"*" + b"1" * 40,
    b"*1\r\n" * (limits.RESP_DEPTH + 1),
]
BROKEN_COMMANDS = [
    b"*1\r\n+OK\r\n",
    b"*1\r\n:1\r\n",
    b"*x\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"*1\r\n$-1\r\n",
    b"*01\r\n",
    b"*1_0\r\n",
    b"*2147483648\r\n",
    b"*1\r\n$4\r\nPINGS\r\n",
    b"*1\r\n$%d\r\n" % (limits.RESP_BULK + 1),
    b"a" * (limits.RESP_INLINE + 1),
]


@twins
@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("data", BROKEN_REPLIES, ids=lambda d: repr(d[:24]))
def test_what_is_no_reply_is_refused(twin: ModuleType, data: bytes, step: int) -> None:
    with pytest.raises(DissectError):
        ends(twin.Replies(), data, [step])


@twins
@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("data", BROKEN_COMMANDS, ids=lambda d: repr(d[:24]))
def test_what_is_no_command_is_refused(twin: ModuleType, data: bytes, step: int) -> None:
    with pytest.raises(DissectError):
        ends(twin.Commands(), data, [step])
    assert twin.command(data, 0) is None


@twins
def test_the_deepest_nesting_that_is_allowed(twin: ModuleType) -> None:
    data = b"*1\r\n" * limits.RESP_DEPTH + b":1\r\n"
    assert ends(twin.Replies(), data, [3]) == [len(data)]


@twins
def test_bombs_cost_nothing(twin: ModuleType) -> None:
    scan = twin.Replies()
    data = b"*2147483647\r\n" * limits.RESP_DEPTH
    assert (
        scan.scan(data, 0) == -1
    )  # a number of elements beyond any integer, of which none is held
    assert scan.scan(b"$4294967296\r\n" + b"x" * 1000, 0) == -1
    assert scan.open()


@twins
@pytest.mark.parametrize(
    ("data", "empty"),
    [
        (b"\r\n", True),
        (b"\n", True),
        (b"  \r\n", True),
        (b"*0\r\n", True),
        (b"*-1\r\n", True),
        (b"a\n", False),
        (b"PING\r\n", False),
    ],
)
def test_what_redis_passes_over(twin: ModuleType, data: bytes, empty: bool) -> None:
    for step in (1, 9):
        scan = twin.Commands()
        assert ends(scan, data, [step]) == [len(data)]
        assert bool(scan.empty) is empty


@twins
def test_an_error_inside_is_noticed_and_forgotten(twin: ModuleType) -> None:
    for step in (1, 99):
        scan = twin.Replies()
        ends(scan, b"*2\r\n+OK\r\n-ERR x\r\n", [step])
        assert scan.errors
        ends(scan, b"*1\r\n!3\r\nERR\r\n", [step])
        assert scan.errors
        ends(scan, b"-ERR x\r\n", [step])
        assert not scan.errors


@twins
@given(raw, st.integers(0, 30), st.integers(1, 40))
def test_a_hole_in_a_string_is_counted_off(
    twin: ModuleType, value: bytes, start: int, missing: int
) -> None:
    """Law: what skip() accepts lies within the string and its CRLF, and framing then goes on exactly."""
    body = b"<" + value + b">" * 20
    head = b"*2\r\n$%d\r\n" % len(body)
    data = head + body + b"\r\n$1\r\nz\r\n"
    start = min(start, len(body) + 1)
    at = len(head) + start
    scan = twin.Replies()
    assert scan.scan(data[:at], 0) == -1
    inside = start + missing <= len(body) + 2
    assert scan.skip(missing) == (1 if inside else 0)
    if inside:
        assert scan.scan(data[at + missing :], 0) == len(data) - at - missing


@twins
def test_a_hole_may_end_the_message(twin: ModuleType) -> None:
    replies, asked = twin.Replies(), twin.Commands()
    assert replies.scan(b"*1\r\n$5\r\nhe", 0) == asked.scan(b"*1\r\n$5\r\nhe", 0) == -1
    assert replies.skip(5) == asked.skip(5) == 2
    assert not replies.open()
    assert not asked.open()
    assert replies.scan(b"+OK\r\n", 0) == 5


garbage = st.lists(
    st.sampled_from(
        [b"*1\r\n", b"*2\r\n", b"$1\r\na\r\n", b"$3\r\n", b":1\r\n", b"+x\r\n", b"\r\n"]
    )
    | st.sampled_from(
        [b"$?\r\n", b";1\r\n", b";0\r\n", b"*?\r\n", b".\r\n", b"|1\r\n", b"-1", b"%1\r\n"]
    )
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)


def outcome(scan: Any, data: bytes, cuts: list[int]) -> tuple[Any, ...]:
    try:
        return (ends(scan, data, cuts), bool(scan.open()))
    except DissectError as error:
        return (str(error),)


@pytest.mark.skipif(len(TWINS) < 2, reason="the compiled twin is not built")
@settings(max_examples=400)
@given(garbage | resp3 | exotic | commands, sizes, st.integers(0, 3))
@example(b"|0\r\n:1\r\n", [1], 0)
@example(b"$0\r\n\r\n", [2], 0)
@example(b"*1\r\n$0\r\n\r\n", [2], 0)
def test_twins_agree(data: bytes, cuts: list[int], at: int) -> None:
    for kind in ("Replies", "Commands"):
        pure, fast = getattr(resp, kind)(), getattr(_resp, kind)()
        assert outcome(pure, data, cuts) == outcome(fast, data, cuts)
        assert pure.skip(at) == fast.skip(at)
    assert resp.command(data, at) == _resp.command(data, at)
