"""Typed details: values against redis-py's parser, bounds, and no secret in any of them."""

from __future__ import annotations

from typing import Any

import hiredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_kit import C, S, array, ask, bulk, exotic, listen, resp2, resp3
from test_redis_dissector import GOLDEN, TARGETS

from kshark.api import Details, Kind, Message
from kshark.protocols.redis import SPEC
from kshark.protocols.redis.details import RedisCommand, RedisReply, details
from kshark.protocols.redis.words import text


def reply(data: bytes) -> RedisReply:
    _, (_, message) = listen([(C, ask("GET", "k")), (S, data)])
    found = details(message)
    assert isinstance(found, RedisReply)
    return found


def command(data: bytes) -> RedisCommand:
    ((_, message),) = listen([(C, data)])
    found = details(message)
    assert isinstance(found, RedisCommand)
    return found


def expected(value: Any) -> Any:
    """What hiredis parsed, as details show it."""
    if isinstance(value, bytes):
        return text(value, 1024)
    if isinstance(value, Exception):
        return str(value)
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        pairs = [(expected(k), expected(v)) for k, v in value.items()]
        return (
            dict(pairs) if all(isinstance(k, str) for k, _ in pairs) else [list(p) for p in pairs]
        )
    if isinstance(value, list):
        return [expected(item) for item in value]
    return value


@given(resp2)
def test_values_are_those_of_hiredis(data: bytes) -> None:
    reader = hiredis.Reader()
    reader.feed(data)
    value = reader.gets()
    found = reply(data)
    if isinstance(value, hiredis.ReplyError):
        assert found.error == str(value)
    else:
        assert found.value == expected(value)


@given(resp3 | exotic)
def test_values_can_be_written_as_json(data: bytes) -> None:
    msgspec.json.encode(reply(data))


@pytest.mark.parametrize(
    ("data", "value", "length"),
    [
        (b"$5\r\nhello\r\n", "hello", 5),
        (b"*2\r\n:1\r\n_\r\n", [1, None], 2),
        (b"%1\r\n+a\r\n#t\r\n", {"a": True}, 1),
        (b"%1\r\n:1\r\n+b\r\n", [[1, "b"]], 1),
        (b"=7\r\ntxt:abc\r\n", "abc", 7),
        (b"(%s\r\n" % (b"9" * 30), "9" * 30, None),
        (b",nan\r\n", "nan", None),
        (b"*?\r\n:1\r\n*1\r\n:2\r\n.\r\n", [1, [2]], None),
        (b"$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n", "abc", None),
        (b"|1\r\n+ttl\r\n:9\r\n*1\r\n|1\r\n+x\r\n:1\r\n:5\r\n", None, None),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_value(data: bytes, value: Any, length: int | None) -> None:
    found = reply(data)
    if value is not None:
        assert (found.value, found.length) == (value, length)
    else:
        assert found.attributes == {"ttl": 9}
        assert found.type == "array"


def test_error_code() -> None:
    found = reply(b"-WRONGTYPE Operation against a key\r\n")
    assert (found.type, found.code, found.value) == ("error", "WRONGTYPE", None)
    assert found.error == "WRONGTYPE Operation against a key"


def test_long_and_deep_values_are_shortened() -> None:
    many = reply(array(*[b":1\r\n"] * 5000))
    assert len(many.value) < 1100
    assert many.value[-1] == "…"
    assert many.length == 5000
    assert len(reply(bulk("x" * 5000)).value) == 1025
    deep = msgspec.json.encode(reply(b"*1\r\n" * 30 + b":7\r\n").value)
    assert b"7" not in deep
    cut = Message(Kind.RESPONSE, head=b"*3\r\n$2\r\nab\r\n$500\r\nxxx")
    assert details(cut) == RedisReply(type="array", value=["ab", "xxx"], length=3)


def test_a_command() -> None:
    found = command(ask("set", "k", b"\xff v", "EX", 10))
    assert found == RedisCommand(command="SET", key="k", args=["k", "\\xff v", "EX", "10"], count=4)
    found = command(b'SET k "a b"\r\n')
    assert found == RedisCommand(command="SET", key="k", args=["k", "a b"], count=2, inline=True)
    found = command(ask("MSET", *range(1000)))
    assert (len(found.args), found.count) == (256, 1000)


SECRETS = [
    ask("AUTH", "hunter2"),
    ask("auth", "ann", "hunter2"),
    ask("AUTH", "ann", "hunter2", "hunter2"),
    ask("HELLO", 3, "AUTH", "ann", "hunter2", "SETNAME", "x"),
    ask("CONFIG", "SET", "requirepass", "hunter2"),
    ask("config", "set", "maxmemory", 1, "MasterAuth", "hunter2"),
    ask("ACL", "SETUSER", "ann", "on", ">hunter2", "~*", "<hunter2", "#hunter2", "!hunter2"),
    ask("MIGRATE", "h", 1, "", 0, 9, "AUTH", "hunter2", "KEYS", "auth", "k"),
    ask("MIGRATE", "h", 1, "k", 0, 9, "COPY", "AUTH2", "ann", "hunter2"),
    ask("SENTINEL", "SET", "m", "auth-pass", "hunter2"),
    b"AUTH hunter2\r\n",
    b'auth ann "hunter2"\r\n',
    b"HELLO 3 AUTH ann hunter2\r\n",
]


@pytest.mark.parametrize("data", SECRETS, ids=lambda d: repr(d)[:40])
def test_secrets_are_nowhere(data: bytes) -> None:
    for cut in range(1, len(data) + 1):
        for _, message in listen([(C, data[:cut])]):
            shown = f"{message.verb} {message.target} {details(message)}"
            assert "hunter" not in shown
    assert "[redacted]" in command(data).args


def test_what_is_no_secret_stays() -> None:
    assert command(ask("MIGRATE", "h", 1, "", 0, 9, "KEYS", "auth", "k")).args[-2:] == ["auth", "k"]
    assert command(ask("SET", "requirepass", "v")).args == ["requirepass", "v"]
    assert command(ask("AUTH", "ann", "x")).args == ["ann", "[redacted]"]


@pytest.mark.parametrize(
    "data",
    [
        array(bulk("requirepass"), bulk("hunter2")),
        b"%1\r\n" + bulk("masterauth") + bulk("hunter2"),
        array(array(bulk("requirepass"), bulk("hunter2"))),
        array(bulk("flags"), b"*0\r\n", bulk("passwords"), array(bulk("hunter2"))),
        array(bulk("user ann on #hunter2 >hunter2 ~* +@all")),
    ],
    ids=lambda d: repr(d)[:30],
)
def test_secrets_in_replies(data: bytes) -> None:
    found = str(reply(data))
    assert "hunter2" not in found
    assert "[redacted]" in found


@pytest.mark.parametrize("name", GOLDEN)
def test_every_message_has_details(name: str) -> None:
    for _, message in listen(GOLDEN[name][0]):
        found = details(message)
        assert isinstance(found, Details)
        msgspec.json.encode(found)
        command_like = message.kind == Kind.REQUEST or message.extra == "command"
        assert isinstance(found, RedisCommand if command_like else RedisReply)


@given(st.binary(max_size=60), st.sampled_from(list(Kind)))
def test_details_of_anything(head: bytes, kind: Kind) -> None:
    msgspec.json.encode(details(Message(kind, head=head)))


def test_schema_is_documented() -> None:
    for kind in (SPEC.request, SPEC.response):
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        for field in info.fields:
            assert isinstance(field.type, msgspec.inspect.Metadata)
            assert (field.type.extra_json_schema or {}).get("description")
    assert TARGETS
