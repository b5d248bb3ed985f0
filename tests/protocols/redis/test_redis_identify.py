"""What is Redis and what only looks like it; which side asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_kit import C, S, array, ask, bulk, commands, exotic

from kshark.api import Side, Verdict
from kshark.protocols.redis import SPEC
from kshark.protocols.redis.identify import Search, probe

NO, MORE, LIKELY, CERTAIN = Verdict

ASKED = [
    (ask("GET", "k"), CERTAIN),
    (ask("get", "k")[:-3], CERTAIN),
    (ask("Command", "DOCS"), CERTAIN),
    (ask("FT.SEARCH", "i", "*"), CERTAIN),
    (ask("JSON.GET", "k"), CERTAIN),
    (ask("SET", "k", "v" * 5000), CERTAIN),
    (ask("XADD", "s", "*", *["f", "v"] * 10), CERTAIN),
    (b"\r\n" + ask("PING"), CERTAIN),
    (ask("MYCOMMAND", "k"), MORE),
    (ask("MYCOMMAND", "k") + ask("GET", "k"), CERTAIN),
    (b"*", MORE),
    (b"*2\r\n$3\r\nGE", MORE),
    (b"PING\r\n", MORE),  # NATS, IRC: the answer tells
    (b"LRANGE l 0 -1\r\n", LIKELY),
    (b"SET k v\r\n", MORE),
    (b"LRANGE l 0 -1\r\nPING\r\n", LIKELY),
    (b"PING\r\nMSG a 1 3\r\n", NO),
    (b"PIN", MORE),
    (b"PING :irc.example.org\r\n", MORE),
    (b"QUIT\r\n", MORE),
    (b"TYPE I\r\n", MORE),  # FTP
    (b"AUTH PLAIN AGEAYQ==\r\n", MORE),  # SMTP
    (b"GET /\r\n", MORE),  # HTTP/0.9
    (b"GET /HTTP/1.1\r\n", MORE),
    (b"GET k\r\n", MORE),
    (b"get k\r\n", MORE),  # memcached too
    (b"set k 0 0 5\r\n", MORE),
    (b"quit\r\n", MORE),
    (array(bulk("message"), bulk("a"), bulk("GET")), NO),
    (array(bulk("subscribe"), bulk("a"), b":1\r\n"), NO),
    (b"*2\r\n+OK\r\n:1\r\n", NO),
    (b"*3\r\n$2\r\nGET\r\n", NO),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", NO),
    (b"EHLO example.org\r\n", NO),
    (b"USER anonymous\r\n", NO),
    (b"a1 LOGIN ann x\r\n", NO),
    (b"NICK kshark\r\n", NO),
    (b"CONNECT {}\r\n", NO),
    (b"STAT\r\n", NO),
    (b"\x16\x03\x01\x02\x00\x01\x00", NO),
    (b"\x00\x00\x00\x1f", NO),
]
ANSWERED = [
    (b"+OK\r\n", LIKELY),
    (b"+PONG\r\n", LIKELY),
    (b"-ERR unknown command 'x'\r\n", LIKELY),
    (b"-WRONGTYPE Operation against\r\n", LIKELY),
    (b":42\r\n", LIKELY),
    (b"$3\r\nabc\r\n", LIKELY),
    (b"$-1\r\n", LIKELY),
    (b"$5000\r\n" + b"x" * 3000, LIKELY),
    (b"$5000\r\n", MORE),
    (b"*0\r\n", LIKELY),
    (b"*2\r\n$-1\r\n:1\r\n", LIKELY),
    (b"%1\r\n+a\r\n:1\r\n", LIKELY),
    (array(bulk("message"), bulk("a"), bulk("b")), LIKELY),
    (array(bulk("subscribe"), bulk("a"), b":1\r\n", kind=b">"), LIKELY),
    (b'+1700000000.123456 [0 127.0.0.1:1] "ping"\r\n', LIKELY),
    (ask("GET", "k"), MORE),  # an array of strings: who sent it?
    (b"+OK", MORE),
    (b"+OK POP3 server ready\r\n", NO),
    (b"+OK 2 messages (320 octets)\r\n", NO),
    (b"+ idling\r\n", NO),
    (b"-ERR 'Unknown Protocol Operation'\r\n", NO),  # NATS
    (b"- item\r\n", NO),
    (b"* OK IMAP4rev1 ready\r\n", NO),
    (b"220 example.org ESMTP\r\n", NO),
    (b"VALUE k 0 5\r\nhello\r\nEND\r\n", NO),
    (b"HTTP/1.1 200 OK\r\n\r\n", NO),
    (b"$3\r\nabcd\r\n", NO),
    (b'INFO {"server_id":"x"}\r\n', NO),
    (b"#!/bin/sh\n", NO),
    (b"=== banner ===\r\n", NO),
    (b"\x00\x01", NO),
]


@pytest.mark.parametrize(("data", "verdict"), ASKED, ids=lambda v: repr(v)[:30])
def test_of_a_client(data: bytes, verdict: Verdict) -> None:
    assert probe(data, C) == verdict


@pytest.mark.parametrize(("data", "verdict"), ANSWERED, ids=lambda v: repr(v)[:30])
def test_of_a_server(data: bytes, verdict: Verdict) -> None:
    if verdict == MORE and not data.startswith((b"$", b"*", b"+")):
        pytest.fail("only what frames may ask for more")
    assert probe(data, S) == verdict


@pytest.mark.parametrize(("data", "verdict"), [a for a in ASKED if a[1] == CERTAIN])
def test_a_client_is_never_taken_for_a_server(data: bytes, verdict: Verdict) -> None:
    assert probe(data, S) < verdict


@given(st.lists(exotic, min_size=1, max_size=4).map(b"".join))
def test_a_server_is_never_taken_for_a_certain_client(data: bytes) -> None:
    assert probe(data, C) != CERTAIN


@given(st.binary(min_size=1, max_size=80) | commands | exotic, st.sampled_from([C, S]))
def test_more_bytes_never_help_what_is_refused(data: bytes, side: Side) -> None:
    verdicts = [probe(data[:cut], side) for cut in range(1, len(data) + 1)]
    if NO in verdicts:
        first = verdicts.index(NO)
        assert all(v == NO for v in verdicts[first:]) or CERTAIN in verdicts[:first]


def test_prefixes_are_the_beginning_of_commands() -> None:
    assert all(ask(*"x" * n).startswith(prefix) for n, prefix in enumerate(SPEC.magic, 1))


def test_the_search_is_linear() -> None:
    """A peer that feeds candidates by the byte makes no more than WORK looks a byte."""
    search = Search(commands=True)
    fed = 0
    for _ in range(400):
        for byte in b"*2\r\n$3\r\nGET\r\n$60000\r\n":
            search.feed(bytes((byte,)))
            fed += 1
    assert search.work < 20 * fed + 1024
    assert len(search.kept) <= 66_000
