"""Conversations with a Redis server, as they pair; and the laws: no split, no hole, no garbage harms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_kit import (
    C,
    S,
    Talk,
    array,
    ask,
    bulk,
    chopped,
    commands,
    exotic,
    listen,
    pairs,
    rows,
    sizes,
)

from kshark import limits
from kshark.api import DissectError, Kind, Message, NotMine
from kshark.protocols.redis.dissector import DUE, RedisDissector

OK, NIL, QUEUED = b"+OK\r\n", b"$-1\r\n", b"+QUEUED\r\n"


def confirm(kind: str, channel: str, total: int, push: bytes = b"*") -> bytes:
    return array(bulk(kind), bulk(channel), b":%d\r\n" % total, kind=push)


def message(channel: str, payload: str, push: bytes = b"*") -> bytes:
    return array(bulk("message"), bulk(channel), bulk(payload), kind=push)


MULTI: Talk = [
    (C, ask("MULTI") + ask("set", "k", "v") + ask("incr", "k") + ask("EXEC")),
    (S, OK + QUEUED + QUEUED + array(OK, b"-ERR value is not an integer\r\n")),
    (C, ask("GET", "k")),
    (S, bulk("v")),
]
PUBSUB2: Talk = [
    (C, ask("SUBSCRIBE", "a", "b")),
    (S, confirm("subscribe", "a", 1) + confirm("subscribe", "b", 2) + message("a", "x")),
    (C, ask("PSUBSCRIBE", "n*") + ask("PING")),
    (S, confirm("psubscribe", "n*", 3) + array(bulk("pong"), bulk(""))),
    (S, array(bulk("pmessage"), bulk("n*"), bulk("news"), bulk("hot"))),
    (C, ask("UNSUBSCRIBE")),
    (S, confirm("unsubscribe", "a", 2) + confirm("unsubscribe", "b", 1) + message("n", "x")),
    (C, ask("PUNSUBSCRIBE", "n*")),
    (S, confirm("punsubscribe", "n*", 0)),
    (C, ask("LRANGE", "l", 0, -1)),
    (S, array(bulk("message"), bulk("is"), bulk("data"))),
]
PUBSUB3: Talk = [
    (C, ask("HELLO", 3)),
    (S, b"%1\r\n+proto\r\n:3\r\n"),
    (C, ask("SUBSCRIBE", "a", "b") + ask("GET", "k")),
    (S, confirm("subscribe", "a", 1, b">") + confirm("subscribe", "b", 2, b">") + bulk("v")),
    (C, ask("LRANGE", "l", 0, -1)),
    (S, message("a", "out of band", b">") + array(bulk("message"), bulk("a"), bulk("x"))),
    (S, array(bulk("invalidate"), array(bulk("k1"), bulk("k2")), kind=b">")),
    (S, array(bulk("invalidate"), b"_\r\n", kind=b">")),
    (C, ask("SSUBSCRIBE", "s")),
    (S, b"-MOVED 1 10.0.0.1:6379\r\n"),
    (C, ask("GET", "k")),
    (S, b"_\r\n"),
]
MONITOR: Talk = [
    (C, ask("MONITOR")),
    (S, OK + b'+1700000000.123456 [0 127.0.0.1:1] "set" "k" "a \\"b"\r\n'),
    (S, b'+1700000000.123457 [0 lua] "AUTH" "hunter2"\r\n'),
    (C, ask("PING")),
    (S, b"+PONG\r\n"),
    (C, ask("RESET")),
    (S, b"+RESET\r\n"),
    (C, ask("ECHO", "x")),
    (S, bulk("x")),
]
REPLY: Talk = [
    (C, ask("CLIENT", "REPLY", "SKIP") + ask("SET", "a", 1) + ask("GET", "a")),
    (S, bulk("1")),
    (C, ask("client", "reply", "off") + ask("SET", "b", 1) + ask("SET", "c", 1)),
    (C, ask("CLIENT", "REPLY", "ON") + ask("GET", "b")),
    (S, OK + bulk("1")),
    (C, ask("CLIENT", "REPLY", "PERHAPS")),
    (S, b"-ERR syntax error\r\n"),
]
INLINE: Talk = [
    (C, b"PING\r\nset k 'a b'\n\r\n  \r\n*0\r\nGET k\r\n"),
    (S, b"+PONG\r\n+OK\r\n$3\r\na b\r\n"),
]
REPLICA: Talk = [
    (C, ask("REPLCONF", "capa", "eof")),
    (S, OK),
    (C, ask("PSYNC", "?", "-1")),
    (S, b"\n\n+FULLRESYNC " + b"a" * 40 + b" 0\r\n\n\n$9\r\nREDIS+OK\r"),
    (S, ask("SELECT", 0) + ask("SET", "k", "v") + ask("REPLCONF", "GETACK", "*")),
    (C, ask("REPLCONF", "ACK", 14)),
    (S, ask("PING")),
]
MARK = b"0123456789" * 4
DISKLESS: Talk = [
    (C, ask("SYNC")),
    (S, b"\n$EOF:" + MARK + b"\r\n" + b"REDIS0011" + MARK[:39] + b"-" + MARK + ask("PING")),
]

GOLDEN: dict[str, tuple[Talk, list[str]]] = {
    "multi": (
        MULTI,
        ["MULTI -> OK", "SET k -> QUEUED", "INCR k -> QUEUED", "EXEC -> array", "GET k -> bulk"],
    ),
    "pubsub in RESP2": (
        PUBSUB2,
        [
            "SUBSCRIBE a -> array",
            "<subscribe b",
            "<message a",
            "PSUBSCRIBE n* -> array",
            "PING -> array",
            "<pmessage news",
            "UNSUBSCRIBE -> array",
            "<unsubscribe b",
            "<message n",
            "PUNSUBSCRIBE n* -> array",
            "LRANGE l -> array",
        ],
    ),
    "pubsub in RESP3": (
        PUBSUB3,
        [
            "HELLO 3 -> map",
            "SUBSCRIBE a -> push",
            "<subscribe b",
            "GET k -> bulk",
            "<message a",
            "LRANGE l -> array",
            "<invalidate k1",
            "<invalidate",
            "SSUBSCRIBE s -> MOVED MOVED 1 10.0.0.1:6379",
            "GET k -> nil",
        ],
    ),
    "monitor": (
        MONITOR,
        [
            "MONITOR -> OK",
            "<monitor set k",
            "<monitor AUTH",
            "PING -> PONG",
            "RESET -> RESET",
            "ECHO x -> bulk",
        ],
    ),
    "client reply": (
        REPLY,
        [
            ">CLIENT REPLY SKIP",
            ">SET a",
            "GET a -> bulk",
            ">CLIENT REPLY off",
            ">SET b",
            ">SET c",
            "CLIENT REPLY ON -> OK",
            "GET b -> bulk",
            "CLIENT REPLY PERHAPS -> ERR ERR syntax error",
        ],
    ),
    "inline": (INLINE, ["PING -> PONG", "SET k -> OK", "GET k -> bulk"]),
    "replica": (
        REPLICA,
        [
            "REPLCONF capa -> OK",
            "PSYNC ? -> status",
            "<RDB",
            "<SELECT 0",
            "<SET k",
            "<REPLCONF GETACK",
            ">REPLCONF ACK",
            "<PING",
        ],
    ),
    "diskless replica": (DISKLESS, ["SYNC -> RDB", "<PING"]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_conversation(name: str) -> None:
    talk, expected = GOLDEN[name]
    assert pairs(talk) == expected


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("cuts", [[1], [2], [3, 5], [1, 40]])
def test_any_split_gives_equal_messages(name: str, cuts: list[int]) -> None:
    talk, _ = GOLDEN[name]
    assert rows(chopped(talk, cuts)) == rows(talk)


@pytest.mark.parametrize("name", GOLDEN)
def test_sizes_add_up_to_the_stream(name: str) -> None:
    talk, _ = GOLDEN[name]
    for side in (C, S):
        total = sum(len(data) for who, data in talk if who == side)
        assert sum(m.size for who, m in listen(talk) if who == side) == total


@given(st.lists(st.tuples(commands, exotic), max_size=6), sizes)
def test_any_split_of_anything(exchanges: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    talk = [turn for asked, answer in exchanges for turn in ((C, asked), (S, answer))]
    assert rows(chopped(talk, cuts)) == rows(talk)


# ---------------------------------------------------------------- what a row shows

TARGETS = [
    (ask("get", "k"), "GET", "k"),
    (ask("GeT", "k"), "GET", "k"),
    (ask("PING"), "PING", ""),
    (ask("GET", b"\xff\x00 \xc3\xa9\n"), "GET", "\\xff\\x00 é\\n"),
    (ask("GET", "x" * 300), "GET", "x" * 256 + "…"),
    (ask("AUTH", "hunter2"), "AUTH", ""),
    (ask("AUTH", "ann", "hunter2"), "AUTH", "ann"),
    (ask("HELLO", "3", "AUTH", "ann", "hunter2"), "HELLO", "3"),
    (ask("CONFIG", "SET", "requirepass", "hunter2"), "CONFIG SET", "requirepass"),
    (ask("acl", "setuser", "ann", ">hunter2"), "ACL SETUSER", "ann"),
    (ask("MIGRATE", "h", 1, "k", 0, 9, "AUTH", "hunter2"), "MIGRATE", "k"),
    (ask("EVAL", "return 1", 1, "k"), "EVAL", "k"),
    (ask("EVAL", "return 1", 0, "hunter2"), "EVAL", ""),
    (ask("XREAD", "COUNT", 1, "STREAMS", "s", "0"), "XREAD", "s"),
    (ask("XREADGROUP", "GROUP", "g", "c", "streams", "s", ">"), "XREADGROUP", "s"),
    (ask("BITOP", "AND", "d", "s"), "BITOP", "d"),
    (ask("BLMPOP", 0, 1, "l", "LEFT"), "BLMPOP", "l"),
    (ask("OBJECT", "ENCODING", "k"), "OBJECT ENCODING", "k"),
    (ask("CLIENT", "SETNAME", "me"), "CLIENT SETNAME", "me"),
    (ask("NEW.COMMAND", "k"), "NEW.COMMAND", "k"),
    (b"auth hunter2\r\n", "AUTH", ""),
]


@pytest.mark.parametrize(("data", "verb", "target"), TARGETS, ids=lambda v: repr(v)[:30])
def test_row_of_a_command(data: bytes, verb: str, target: str) -> None:
    for cuts in ([len(data)], [1]):
        ((_, m),) = listen(chopped([(C, data)], cuts))
        assert (m.kind, m.verb, m.target, m.size, m.ok) == (
            Kind.REQUEST,
            verb,
            target,
            len(data),
            True,
        )
        assert m.head == data


REPLIES = [
    (b"+OK\r\n", "OK", ""),
    (b"+string\r\n", "status", ""),
    (b"-ERR no such key\r\n", "ERR", "ERR no such key"),
    (b"-WRONGTYPE Operation\r\n", "WRONGTYPE", "WRONGTYPE Operation"),
    (b"-lower case\r\n", "ERR", "lower case"),
    (b"!9\r\nNOAUTH no\r\n", "NOAUTH", "NOAUTH no"),
    (b":-1\r\n", "int", ""),
    (b"$-1\r\n", "nil", ""),
    (b"*-1\r\n", "nil", ""),
    (b"_\r\n", "nil", ""),
    (b"$0\r\n\r\n", "bulk", ""),
    (b"*0\r\n", "array", ""),
    (b"%0\r\n", "map", ""),
    (b"~0\r\n", "set", ""),
    (b"#t\r\n", "bool", ""),
    (b",1.5\r\n", "double", ""),
    (b"(12\r\n", "bignum", ""),
    (b"=5\r\ntxt:a\r\n", "verbatim", ""),
    (b"|1\r\n+ttl\r\n:1\r\n$1\r\nx\r\n", "bulk", ""),
    (b"|1\r\n+a\r\n:1\r\n-ERR x\r\n", "ERR", "ERR x"),
]


@pytest.mark.parametrize(("data", "verb", "target"), REPLIES, ids=lambda v: repr(v)[:30])
def test_row_of_a_reply(data: bytes, verb: str, target: str) -> None:
    for cuts in ([len(data)], [1]):
        _, (_, m) = listen([(C, ask("GET", "k")), *chopped([(S, data)], cuts)])
        assert (m.kind, m.verb, m.target, m.size) == (Kind.RESPONSE, verb, target, len(data))
        assert m.ok is (not target)
        assert m.head == data


def test_an_error_within_a_reply_is_noted() -> None:
    messages = [m for _, m in listen(MULTI)]
    assert [m.verb for m in messages if m.notes == ("nested-error",)] == ["array"]
    assert all(m.ok for m in messages)


# ---------------------------------------------------------------- long ones

LONG = 300_000


def test_a_long_string_is_counted_not_kept() -> None:
    talk: Talk = [(C, ask("SET", "k", "v" * LONG)), (S, OK), (C, ask("GET", "k"))]
    talk.append((S, bulk("v" * LONG)))
    for cuts in ([10**7], [1448], [65536, 1]):
        request, _, _, reply = (m for _, m in listen(chopped(talk, cuts)))
        assert (request.target, reply.verb) == ("k", "bulk")
        assert request.size == len(talk[0][1])
        assert reply.size == len(talk[3][1])
        assert len(request.head) == len(reply.head) == limits.BODY_KEPT
        assert request.truncated
        assert reply.truncated


def test_what_is_under_way_holds_no_more_than_the_cap() -> None:
    dissector = RedisDissector()
    dissector.feed(C, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n")
    for _ in range(100):
        assert not dissector.feed(C, b"x" * 65536)
        assert dissector.inside(C)
    assert len(dissector.client.held) == limits.BODY_KEPT


def test_commands_with_special_answers_are_bounded() -> None:
    dissector = RedisDissector()
    for _ in range(3 * DUE):
        dissector.feed(C, ask("SUBSCRIBE", "a"))
    assert len(dissector.due) == DUE


# ---------------------------------------------------------------- holes


def holed(before: Talk, side: Any, missing: int, after: Talk) -> tuple[list[Message], bool]:
    dissector = RedisDissector()
    found = [m for who, data in before for m in dissector.feed(who, data)]
    found += dissector.gap(side, missing)
    kept = dissector.inside(side)
    found += [m for who, data in after for m in dissector.feed(who, data)]
    return found, kept


def test_a_hole_in_a_value_loses_no_pair() -> None:
    (_, reply, *rest), kept = holed(
        [(C, ask("GET", "k")), (S, b"$3000\r\n" + b"a" * 1000)],
        S,
        1500,
        [(S, b"a" * 500 + b"\r\n"), (C, ask("PING")), (S, b"+PONG\r\n")],
    )
    assert kept
    assert (reply.verb, reply.size, reply.gap_bytes, reply.truncated, reply.cut) == (
        "bulk",
        1509,
        1500,
        True,
        False,
    )
    assert reply.head == b"$3000\r\n" + b"a" * 1000
    assert [m.verb for m in rest] == ["PING", "PONG"]


def test_a_hole_that_takes_the_rest_of_a_value() -> None:
    (_, reply, *rest), kept = holed(
        [(C, ask("GET", "k")), (S, b"$3000\r\n" + b"a" * 1000)],
        S,
        2002,
        [(C, ask("PING")), (S, b"+PONG\r\n")],
    )
    assert kept
    assert (reply.kind, reply.verb, reply.gap_bytes, reply.cut) == (
        Kind.RESPONSE,
        "bulk",
        2002,
        False,
    )
    assert [m.verb for m in rest] == ["PING", "PONG"]


@pytest.mark.parametrize("missing", [2003, 5000, 0])
def test_a_hole_beyond_it_cuts(missing: int) -> None:
    (_, reply, *rest), kept = holed(
        [(C, ask("GET", "k")), (S, b"$3000\r\n" + b"a" * 1000)],
        S,
        missing,
        [(S, b"tail of something\r\n"), (C, ask("PING")), (S, b"+PONG\r\n")],
    )
    assert not kept
    assert (reply.kind, reply.cut, reply.gap_bytes, reply.truncated) == (
        Kind.RESPONSE,
        True,
        missing,
        True,
    )
    assert [m.verb for m in rest] == ["PING", "PONG"]
    assert (rest[1].size, rest[1].notes) == (len("tail of something\r\n") + 7, ("resync",))


def test_a_cut_command_shows_what_was_seen_of_it() -> None:
    found, _ = holed([(C, ask("SET", "k", "v" * 99)[:-50])], C, 500, [(C, ask("GET", "x"))])
    assert [(m.verb, m.target, m.cut) for m in found] == [("SET", "k", True), ("GET", "x", False)]


def test_framing_starts_again_at_a_known_command_only() -> None:
    noise = b"junk\r\n" + ask("nonsense", "k") + b"more\r\n"
    found, _ = holed([(C, ask("PING"))], C, 10, [(C, noise), (C, ask("GET", "k"))])
    assert [(m.verb, m.size, m.notes) for m in found[1:]] == [("GET", len(noise) + 20, ("resync",))]


def test_framing_of_replies_starts_again_where_all_fits() -> None:
    noise = b"- a list\r\n- in some text\r\n+ that looks like RESP\r\n$5\r\nno\r\n"
    rest = OK + b":1\r\n" + bulk("x")  # may be what is left of an array
    turn: Talk = [(C, ask("TTL", "k")), (S, b":2\r\n")]
    found, _ = holed([(C, ask("PING"))], S, 10, [(S, noise), (S, rest), *turn])
    assert [m.verb for m in found[1:]] == ["TTL", "int"]
    assert found[2].notes == ("resync",)
    assert found[2].size == len(noise) + len(rest) + 4


def test_framing_of_pushes_starts_again_without_a_command() -> None:
    noise = b"$3\r\nabc\r\n"
    for first in (message("a", "x"), message("a", "x", b">"), MONITOR[1][1][5:]):
        found, _ = holed([(C, ask("PING"))], S, 10, [(S, noise), (S, first)])
        assert [m.kind for m in found[1:]] == [Kind.ONEWAY]


def test_a_long_reply_is_enough_to_start_again() -> None:
    found, _ = holed(
        [(C, ask("PING"))],
        S,
        10,
        [(C, ask("GET", "k")), *chopped([(S, bulk("x" * 200_000))], [1448])],
    )
    assert [(m.verb, m.size) for m in found[1:]] == [("GET", 20), ("bulk", 200_011)]


def test_what_cannot_answer_a_special_command_answers_nobody() -> None:
    for special in ("SUBSCRIBE", "MONITOR", "PSYNC"):
        found, _ = holed([(C, ask(special, "a"))], C, 9, [(S, bulk("of a command that was lost"))])
        assert (found[1].kind, found[1].key) == (Kind.RESPONSE, -1)


CHATTER: Talk = [
    turn
    for n in range(12)
    for turn in (
        (C, ask("SET", f"k{n}", f"v{n}" * 20) + ask("GET", f"k{n}")),
        (S, OK + bulk(f"v{n}" * 20)),
    )
]


@pytest.mark.parametrize("side", [C, S])
@pytest.mark.parametrize("length", [1, 30, 200, 700])
def test_a_hole_anywhere_gives_no_message_that_was_not_there(side: Any, length: int) -> None:
    """Law: behind a hole come messages of the whole conversation, or such as are marked."""
    whole = {(m.verb, m.target, m.head) for _, m in listen(CHATTER)}
    total = sum(len(data) for who, data in CHATTER if who == side)
    for start in range(0, total - length, 7):
        dissector, seen, found = RedisDissector(), 0, []
        for who, data in CHATTER:
            if who != side:
                found += dissector.feed(who, data)
                continue
            before = data[: max(0, start - seen)]
            after = data[max(0, start + length - seen) :]
            missing = len(data) - len(before) - len(after)
            seen += len(data)
            if before:
                found += dissector.feed(who, before)
            if missing > 0:
                found += dissector.gap(who, missing)
            if after:
                found += dissector.feed(who, after)
        clean = [m for m in found if not m.truncated]
        assert {(m.verb, m.target, m.head) for m in clean} <= whole
        assert len(clean) >= 20


def test_a_special_command_is_not_waited_for_forever() -> None:
    dissector = RedisDissector()
    dissector.feed(C, ask("SUBSCRIBE", "a"))
    keys = [m.key for _ in range(200) for m in dissector.feed(S, b":1\r\n")]
    assert keys == [-1] * (DUE + 1) + [0] * (200 - DUE - 1)


# ---------------------------------------------------------------- mid-stream, garbage, the end


def test_joined_within_a_value() -> None:
    talk: Talk = [(S, b"rest of a value\r\n"), (C, ask("GET", "k")), (S, bulk("v"))]
    assert pairs(talk) == ["GET k -> bulk"]


def test_joined_as_a_subscriber() -> None:
    assert pairs([(S, message("a", "x")), (S, message("a", "y"))]) == ["<message a", "<message a"]


def test_joined_as_a_monitor() -> None:
    assert pairs([(S, b'+1700000000.123456 [0 127.0.0.1:1] "ping"\r\n')]) == ["<monitor ping"]


def test_what_is_no_redis_is_not_mine() -> None:
    with pytest.raises(NotMine):
        RedisDissector().feed(C, b"EHLO example.org\r\n")
    with pytest.raises(NotMine):
        RedisDissector().feed(C, b"POST / HTTP/1.1\r\n")


def test_messages_before_an_error_are_not_lost() -> None:
    dissector = RedisDissector()
    found = dissector.feed(C, ask("GET", "k") + b"*1\r\n:1\r\n" + ask("GET", "z"))
    assert [m.target for m in found] == ["k"]
    with pytest.raises(DissectError):
        dissector.feed(C, ask("GET", "y"))
    assert not dissector.gap(C, 0)
    found = dissector.feed(C, ask("GET", "x"))
    assert [m.target for m in found] == ["z", "y", "x"]
    assert [m.notes for m in found] == [("resync",), (), ()]


def test_the_end_cuts_what_is_under_way() -> None:
    dissector = RedisDissector()
    dissector.feed(C, ask("GET", "k") + b"*2\r\n$3\r\nGET\r\n$5\r\nab")
    dissector.feed(S, b"$10\r\nabc")
    cut = dissector.close()
    assert [(m.kind, m.verb, m.size, m.cut) for m in cut] == [
        (Kind.REQUEST, "GET", 19, True),
        (Kind.RESPONSE, "bulk", 8, True),
    ]
    pushed = RedisDissector()
    pushed.feed(S, b"*3\r\n$7\r\nmessage")
    assert [(m.kind, m.side) for m in pushed.close()] == [(Kind.ONEWAY, S)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([C, S]),
            st.one_of(
                st.binary(min_size=1, max_size=40),
                commands,
                exotic,
                st.sampled_from(
                    [b"*", b"\r\n", b"$5\r\n", b"*3\r\n$9\r\nsubscribe\r\n", b"|1\r\n"]
                ),
                st.integers(0, 30),
            ),
        ),
        max_size=14,
    )
)
def test_garbage_gives_messages_or_a_dissect_error(steps: list[tuple[Any, bytes | int]]) -> None:
    dissector = RedisDissector()
    for side, step in steps:
        try:
            found = (
                dissector.gap(side, step) if isinstance(step, int) else dissector.feed(side, step)
            )
        except DissectError:
            found = dissector.gap(side, 0)
        for m in found:
            assert isinstance(m.target, str)
            assert m.target.isprintable()
            assert m.size >= 0
        assert isinstance(dissector.inside(side), bool)
    dissector.close()
