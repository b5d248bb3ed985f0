"""A real server, driven by redis-py through a recording proxy: what it got is what is dissected."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis_kit import C, ask, chopped, listen, pairs, row, rows
from redis_proxy import Chunk, Recorder

from kshark.api import Kind, Message
from kshark.protocols.redis.details import RedisReply, details


def client(recorder: Recorder, protocol: int = 2) -> Any:
    return redis.Redis(
        port=recorder.port,
        protocol=protocol,
        single_connection_client=True,
        socket_timeout=5,
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait for the proxy's threads."""
    for _ in range(200):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the server did not answer in time")


def shown(talk: list[Chunk]) -> list[str]:
    """Pairs without what redis-py sends by itself at the beginning."""
    return [line for line in pairs(talk) if not line.startswith(("HELLO", "CLIENT "))]


def values(talk: list[Chunk]) -> list[Any]:
    """The values of all replies, by details()."""
    replies = [details(m) for _, m in listen(talk) if m.kind == Kind.RESPONSE]
    return [r.error or r.value for r in replies if isinstance(r, RedisReply)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_calls_and_pipelines(recorder: Recorder, protocol: int) -> None:
    r = client(recorder, protocol)
    r.flushall()
    got: list[Any] = [r.set("s", "v"), r.get("s"), r.get("none"), r.incr("n"), r.rpush("l", *"abc")]
    got += [
        r.lrange("l", 0, -1),
        r.hset("h", mapping={"f": "1"}),
        r.hgetall("h"),
        r.zadd("z", {"m": 1.5}),
    ]
    got += [r.zscore("z", "m"), r.sadd("m", "x"), r.smembers("m"), r.exists("s"), r.type("s")]
    with pytest.raises(redis.ResponseError) as error:
        r.lpush("s", 1)
    with r.pipeline(transaction=True) as pipe:
        pipe.set("a", 1)
        pipe.incr("a")
        got_tx = pipe.execute()
    with r.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.set(f"key:{n}", n)
        pipe.execute()
    r.close()
    lines = [line for talk in recorder.talks for line in shown(talk)]
    assert lines[:6] == [
        "FLUSHALL -> OK",
        "SET s -> OK",
        "GET s -> bulk",
        "GET none -> nil",
        "INCRBY n -> int",
        "RPUSH l -> int",
    ]
    assert any(line.startswith("LPUSH s -> WRONGTYPE") for line in lines)
    at = lines.index("MULTI -> OK")
    assert lines[at : at + 4] == [
        "MULTI -> OK",
        "SET a -> QUEUED",
        "INCRBY a -> QUEUED",
        "EXEC -> array",
    ]
    assert [line for line in lines if line.startswith("SET key:")] == [
        f"SET key:{n} -> OK" for n in range(500)
    ]
    found = [value for talk in recorder.talks for value in values(talk)]
    assert str(error.value) in [str(v).removeprefix("WRONGTYPE ") for v in found] + [
        str(v) for v in found
    ]
    assert ["a", "b", "c"] in found
    assert [str(v) for v in got_tx] == ["True", "2"]
    assert ["OK", 2] in found
    assert not any(line.endswith("->") or line.startswith(" ->") for line in lines)
    assert got[1] == b"v"
    for talk in recorder.talks:
        assert rows(chopped(talk, [1, 3, 1448])) == rows(talk)


def test_a_long_value(recorder: Recorder) -> None:
    r = client(recorder)
    r.set("big", b"x" * 1_000_000)
    assert len(r.get("big")) == 1_000_000
    r.close()
    (talk,) = recorder.talks
    messages = [m for _, m in listen(talk)]
    assert [m.size for m in messages if m.verb == "SET"] == [
        len(ask("SET", "big", "x" * 1_000_000))
    ]
    assert [(m.size, m.truncated) for m in messages if m.verb == "bulk"] == [(1_000_012, True)]
    assert sum(m.size for m in messages) == sum(len(data) for _, data in talk)


@pytest.mark.parametrize("protocol", [2, 3])
def test_publish_and_subscribe(recorder: Recorder, protocol: int) -> None:
    r = client(recorder, protocol)
    sub = r.pubsub()
    sub.subscribe("news", "sport")
    sub.psubscribe("n*")
    got = [sub.get_message(timeout=5) for _ in range(3)]
    r.publish("news", "hot")
    got += [sub.get_message(timeout=5) for _ in range(2)]
    sub.unsubscribe()
    sub.punsubscribe("n*")
    got += [sub.get_message(timeout=5) for _ in range(3)]
    assert [m["type"] for m in got] == [
        *["subscribe", "subscribe", "psubscribe", "message", "pmessage"],
        *["unsubscribe", "unsubscribe", "punsubscribe"],
    ]
    sub.close()
    r.close()
    (talk,) = [t for t in recorder.talks if any(b"SUBSCRIBE" in data for _, data in t)]
    kind = "push" if protocol == 3 else "array"
    ended = [m["channel"].decode() for m in got[5:7]]
    assert shown(talk) == [
        f"SUBSCRIBE news -> {kind}",
        "<subscribe sport",
        f"PSUBSCRIBE n* -> {kind}",
        "<message news",
        "<pmessage news",
        f"UNSUBSCRIBE -> {kind}",
        f"<unsubscribe {ended[1]}",
        f"PUNSUBSCRIBE n* -> {kind}",
    ]


def raw(recorder: Recorder) -> socket.socket:
    return socket.create_connection(("127.0.0.1", recorder.port), 5)


def said(talk: list[Chunk], text: bytes) -> Callable[[], bool]:
    return lambda: any(text in data for side, data in talk if side)


def test_monitor(recorder: Recorder) -> None:
    with raw(recorder) as watcher, raw(recorder) as other:
        watcher.sendall(ask("MONITOR"))
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b"+OK")())
        other.sendall(ask("SET", "k", 'a "b"\n') + ask("AUTH", "hunter2"))
        until(lambda: said(recorder.talks[0], b'"SET"')())
        watcher.sendall(b"PING\r\n")
        until(lambda: said(recorder.talks[0], b"+PONG")())
        watcher.sendall(ask("RESET") + ask("GET", "none"))
        until(lambda: said(recorder.talks[0], b"$-1")())
    lines = pairs(recorder.talks[0])
    assert lines[0] == "MONITOR -> OK"
    assert "<monitor SET k" in lines
    assert lines[-2:] == ["RESET -> RESET", "GET none -> nil"]
    assert "PING -> PONG" in lines
    assert "hunter2" not in str([details(m) for _, m in listen(recorder.talks[0])])


def test_client_reply_off(recorder: Recorder) -> None:
    with raw(recorder) as sock:
        sock.sendall(ask("CLIENT", "REPLY", "SKIP") + ask("SET", "a", 1) + ask("PING"))
        sock.sendall(ask("CLIENT", "REPLY", "OFF") + ask("SET", "b", 1) + ask("LPUSH", "b", 1))
        sock.sendall(ask("CLIENT", "REPLY", "ON") + ask("GET", "b"))
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b"$1\r\n1")())
    lines = pairs(recorder.talks[0])  # what is not answered may be noted before an answer
    assert [line for line in lines if line.startswith(">")] == [
        *[">CLIENT REPLY SKIP", ">SET a", ">CLIENT REPLY OFF", ">SET b", ">LPUSH b"]
    ]
    assert [line for line in lines if not line.startswith(">")] == [
        *["PING -> PONG", "CLIENT REPLY ON -> OK", "GET b -> bulk"]
    ]


def test_invalidation(recorder: Recorder) -> None:
    with raw(recorder) as sock, raw(recorder) as other:
        sock.sendall(ask("HELLO", 3) + ask("CLIENT", "TRACKING", "ON") + ask("GET", "t"))
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b"_\r\n")())
        other.sendall(ask("SET", "t", 1))
        until(lambda: said(recorder.talks[0], b"invalidate")())
        sock.sendall(ask("GET", "t"))
        until(lambda: said(recorder.talks[0], b"$1\r\n1")())
    assert pairs(recorder.talks[0]) == [
        "HELLO 3 -> map",
        "CLIENT TRACKING ON -> OK",
        "GET t -> nil",
        "<invalidate t",
        "GET t -> bulk",
    ]


def test_blocking(recorder: Recorder) -> None:
    with raw(recorder) as sock, raw(recorder) as other:
        sock.sendall(ask("DEL", "q") + ask("BLPOP", "q", 5) + ask("PING"))
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b":")())
        other.sendall(ask("RPUSH", "q", "x"))
        until(lambda: said(recorder.talks[0], b"+PONG")())
    assert pairs(recorder.talks[0]) == ["DEL q -> int", "BLPOP q -> array", "PING -> PONG"]


@pytest.mark.parametrize("capability", ["eof", "psync2"])
def test_replica(recorder: Recorder, capability: str) -> None:
    """A replica's handshake with diskless (EOF) and counted snapshots, and the stream that follows."""
    with raw(recorder) as sock, raw(recorder) as other:
        other.sendall(
            ask("CONFIG", "SET", "repl-diskless-sync", "yes" if capability == "eof" else "no")
        )
        sock.sendall(ask("PING") + ask("REPLCONF", "capa", capability))
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b"+OK")())
        talk = next(t for t in recorder.talks if said(t, b"+PONG")())
        sock.sendall(ask("PSYNC", "?", "-1"))
        until(said(talk, b"REDIS0"))
        time.sleep(0.3)
        sock.sendall(ask("REPLCONF", "ACK", 0))
        other.sendall(ask("SET", "replicated", 1))
        until(said(talk, b"$10\r\nreplicated"))
    lines = pairs(talk)
    assert lines[:3] == ["PING -> PONG", "REPLCONF capa -> OK", "PSYNC ? -> status"]
    assert "<RDB" in lines
    assert "<SET replicated" in lines
    assert ">REPLCONF ACK" in lines
    assert not any(line.endswith("->") for line in lines)


def test_what_the_server_says_of_nonsense(recorder: Recorder) -> None:
    with raw(recorder) as sock:
        sock.sendall(
            b"PING\r\nNONSENSE a b\r\nSET k\r\n" + ask("GET", "a", "b") + b'ECHO "x\\x41"\r\n'
        )
        until(lambda: bool(recorder.talks) and said(recorder.talks[0], b"$2\r\nxA")())
    lines = pairs(recorder.talks[0])
    assert [line.split(" -> ")[0] for line in lines] == [
        "PING",
        "NONSENSE a",
        "SET k",
        "GET a",
        "ECHO xA",
    ]
    assert [line.split(" -> ")[1].split()[0] for line in lines] == [
        "PONG",
        "ERR",
        "ERR",
        "ERR",
        "bulk",
    ]
    assert all(isinstance(m, Message) for _, m in listen(recorder.talks[0]))
    assert row(C, listen(recorder.talks[0])[0][1])[2] == "PING"
