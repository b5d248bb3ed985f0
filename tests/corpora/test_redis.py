"""Redis against Zeek, DeepFlow, Packetbeat and Kindling, field by field; and that nothing else is taken for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from oracle import CAPTURES, CORPORA, Found, Known, differences, replayed, settle

from kshark.api import Entry, Kind, Message
from kshark.protocols import redis
from kshark.protocols.redis.details import RedisCommand, RedisReply, details
from kshark.testing import converse

pytestmark = [pytest.mark.corpora, pytest.mark.usefixtures("corpora")]

SPEC = redis.SPEC
ZEEK = CORPORA / "zeek"
BASE = "scripts.base.protocols.redis."
REDIS = {name for name in CAPTURES if "redis" in name}

NOT_COMPARED = {
    "scripts.base.frameworks.storage.redis.async-reading-pcap/out": "of a live server, no capture",
    f"{BASE}pipelined/output": "empty",
}


@cache
def entries(name: str) -> tuple[Entry, ...]:
    """The entries of a capture, by the time of their first half."""
    _, found = replayed(CORPORA / name)
    return tuple(sorted(found, key=lambda e: e.time_ns))


def command(message: Message | None) -> RedisCommand:
    found = details(message) if message is not None else None
    assert isinstance(found, RedisCommand)
    return found


def reply(message: Message | None) -> RedisReply:
    found = details(message) if message is not None else None
    assert isinstance(found, RedisReply)
    return found


def flat(value: Any) -> str:
    """A value as Zeek prints it."""
    if isinstance(value, list):
        return "[" + ", ".join(map(flat, value)) + "]"
    return str(value)


# ---------------------------------------------------------------- Zeek

LOGS = {
    f"{BASE}pipelined/redis.log": "zeek/Traces/redis/pipelining-example.pcap",
    f"{BASE}stream/redis.log": "zeek/Traces/redis/stream.pcap",
    f"{BASE}pubsub/redis.log": "zeek/Traces/redis/pubsub.pcap",
}
KNOWN_LOGS: dict[str, tuple[Known, ...]] = {}


def zeek_rows(name: str) -> Iterator[dict[str, str]]:
    """The lines of a Zeek log; what it left out ("-") is left out."""
    fields: list[str] = []
    for line in (ZEEK / "Baseline" / name).read_text().splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            values = zip(fields, line.split("\t"), strict=True)
            yield {key: value for key, value in values if value != "-"}


def as_zeek(entry: Entry) -> dict[str, str]:
    """An entry in the words of Zeek's redis.log."""
    asked, shown = command(entry.request), reply(entry.response)
    row = {
        "id.orig_h": entry.flow.client.ip,
        "id.orig_p": str(entry.flow.client.port),
        "id.resp_h": entry.flow.server.ip,
        "id.resp_p": str(entry.flow.server.port),
        "cmd.name": asked.command,
        "cmd.key": asked.key,
        "success": "T" if shown.error is None else "F",
        "reply.value": flat(shown.value if shown.error is None else shown.error),
    }
    if asked.command == "SET":
        row["cmd.value"] = asked.args[1]
    return row


@pytest.mark.parametrize("name", LOGS)
def test_zeek_log(name: str) -> None:
    theirs = list(zeek_rows(name))
    calls = [e for e in entries(LOGS[name]) if e.response is not None]
    ours = [as_zeek(e) for e in calls]
    order = ("id.orig_p", "cmd.name")  # Zeek logs a command when it is answered, or at the end
    found: Found = {}
    assert len(ours) == len(theirs)
    for theirs_row, ours_row in zip(by(theirs, order), by(ours, order), strict=True):
        where = (theirs_row["id.orig_p"], theirs_row["cmd.name"])
        theirs_row = {k: v for k, v in theirs_row.items() if k in ours_row}
        found |= differences(where, theirs_row, ours_row)
    settle(found, KNOWN_LOGS.get(name, ()))


def by(rows: list[dict[str, str]], keys: tuple[str, ...]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: [row[key] for key in keys])


def output(test: str) -> list[str]:
    text = (ZEEK / "Baseline" / f"{BASE}{test}" / "output").read_text()
    return [line for line in text.splitlines() if not line.startswith("###")]


def sets(name: str) -> list[tuple[str, str]]:
    asked = [command(e.request) for e in entries(name) if e.request and e.request.verb == "SET"]
    return [(found.args[0], found.args[1]) for found in asked]


def test_zeek_set() -> None:
    ours = [f"Key: {key} Value: {value}" for key, value in sets("zeek/Traces/redis/set.pcap")]
    assert ours == output("set")


BULK = "zeek/Traces/redis/bulk-loading.pcap"


def test_zeek_bulk_loading() -> None:
    assert [f"SET: {key} {value}" for key, value in sets(BULK)] == output("bulk")


def test_every_command_of_a_long_pipeline_is_answered() -> None:
    assert {e.outcome for e in entries(BULK)} == {"ok"}
    assert len(entries(BULK)) == 1001  # and the ECHO by which redis-cli --pipe knows the end


def test_zeek_auth() -> None:
    """Zeek prints the passwords; here they are in no detail."""
    lines = output("auth")
    names = [line.removeprefix("username: ") for line in lines if line.startswith("username")]
    secrets = [line.removeprefix("password: ") for line in lines if line.startswith("password")]
    verdicts = [line.partition(":, ")[2] for line in lines if line.startswith("Auth ")]
    found = entries("zeek/Traces/redis/auth.pcap")
    assert [command(e.request).args for e in found] == [[name, "[redacted]"] for name in names]
    answers = [reply(e.response) for e in found]
    assert [a.error or a.value for a in answers] == verdicts
    shown = [f"{e.request.target} {command(e.request)}" for e in found if e.request]
    assert not any(secret in text for secret, text in zip(secrets, shown, strict=True))


@pytest.mark.parametrize("test", ["pubsub", "pubsub-resp3"])
def test_zeek_publications(test: str) -> None:
    """What Zeek calls published data: messages, and the confirmations, which here answer SUBSCRIBE."""
    kinds = ("subscribe", "psubscribe", "message", "pmessage")
    halves = [m for e in entries(f"zeek/Traces/redis/{test}.pcap") for m in (e.response, e.request)]
    server = [m for m in halves if m is not None and m.kind != Kind.REQUEST]
    values = [reply(m).value for m in sorted(server, key=lambda m: m.first_ns) if m.extra is None]
    published = [v for v in values if isinstance(v, list) and v and v[0] in kinds]
    assert [f"Got published data!, {flat(value)}" for value in published] == output(test)


def test_every_file_of_zeek_is_compared() -> None:
    files = {
        path.relative_to(ZEEK / "Baseline").as_posix()
        for path in (ZEEK / "Baseline").glob("*redis*/*")
    }
    done = {f"{BASE}{test}/output" for test in ("set", "bulk", "auth", "pubsub", "pubsub-resp3")}
    assert files == {*LOGS, *done, *NOT_COMPARED}


# ---------------------------------------------------------------- DeepFlow

INFO = re.compile(
    r'RedisInfo \{ request: "(?P<request>.*?)", request_type: "(?P<request_type>.*?)",'
    r' status: "", response_result: (?P<result>\w+), error: "(?P<error>.*?)" \} is_redis: (?P<is>\w+)'
)
RESULTS = {"bulk": "BulkString", "integer": "Integer", "error": "Error"}


def as_deepflow(entry: Entry) -> Iterator[dict[str, str]]:
    asked, shown = command(entry.request), reply(entry.response)
    words = [asked.command, *asked.args]
    yield {
        "request": " ".join(words),
        "request_type": asked.command,
        "result": "Unknown",
        "error": "",
    }
    error = f"-{shown.error}" if shown.error else ""
    yield {"request": "", "request_type": "", "result": RESULTS[shown.type], "error": error}


@pytest.mark.parametrize("name", ["redis", "redis-error"])
def test_deepflow(name: str) -> None:
    """It reads packet by packet: those within a long reply are no Redis to it (``is_redis: false``)."""
    lines = (CORPORA / "deepflow" / "redis" / f"{name}.result").read_text().splitlines()
    matches = [match for line in lines if (match := INFO.match(line))]
    assert len(matches) == len([line for line in lines if line.startswith("RedisInfo")])
    theirs = [m.groupdict() for m in matches if m["is"] == "true"]
    calls = [e for e in entries(f"deepflow/redis/{name}.pcap") if e.protocol == "redis"]
    ours = [row for entry in calls for row in as_deepflow(entry)]
    assert len(theirs) == len(ours)
    for at, row in enumerate(theirs):  # names as the client wrote them: here always upper case
        row["request"] = re.sub(r"^\w+", lambda m: m[0].upper(), row["request"])
        row["request_type"] = row["request_type"].upper()
        settle(differences(at, {k: v for k, v in row.items() if k != "is"}, ours[at]), ())


# ---------------------------------------------------------------- Packetbeat

KNOWN_BEATS = (
    Known(
        "the assertion of the original leaves the failed one out (`if i != 2`)",
        ("status",),
        ("test_0013_redis_basic.test_redis_session: o==2",),
    ),
    Known(
        "the expected text was lost when the assertion was turned into data; the capture has one",
        ("redis.error",),
        ("test_0013_redis_basic.test_redis_session: 2",),
    ),
    Known(
        "return_value there for errors too; here they are in `error`",
        ("redis.return_value",),
        ("test_0013_redis_basic.test_redis_session: o==2",),
    ),
)


def as_beat(entry: Entry) -> dict[str, Any]:
    """An entry in Packetbeat's words; `query` is what the client wrote, as it wrote it."""
    asked, shown = command(entry.request), reply(entry.response)
    assert entry.request is not None
    assert entry.response is not None
    name = re.search(rb"\r\n(\w+)\r\n", entry.request.head)
    assert name is not None
    beat = {
        "type": entry.protocol,
        "event.dataset": entry.protocol,
        "method": asked.command,
        "resource": asked.key,
        "query": " ".join([name[1].decode(), *asked.args]),
        "status": "OK" if shown.error is None else "Error",
        "source.bytes": entry.request.size,
        "destination.bytes": entry.response.size,
    }
    if shown.error is None:
        beat["redis.return_value"] = shown.value
    else:
        beat["redis.error"] = shown.error
    return beat


def test_packetbeat() -> None:
    expected = json.loads((CORPORA / "packetbeat" / "expected.json").read_text())
    beats = [as_beat(e) for e in entries("packetbeat/pcaps/redis_session.pcap")]
    assert len(beats) == 11
    found: Found = {}
    for case in expected["redis_session.pcap"]:
        for want in case["expect"]:
            several = want["event"] == "o"
            for at, beat in (
                enumerate(beats) if several else [(want["event"], beats[want["event"]])]
            ):
                where = f"{case['test']}: {f'o=={at}' if several else at}"
                found |= unmet(where, want, beat)
    settle(found, KNOWN_BEATS)


def unmet(where: str, want: dict[str, Any], beat: dict[str, Any]) -> Found:
    """An expectation that does not hold."""
    name = want["value"] if want["op"] == "has_key" else want["field"][0]
    value = beat.get(name)
    checks: dict[str, Callable[[], bool]] = {
        "has_key": lambda: name in beat,
        ">": lambda: value is not None and value > want["value"],
        "==": lambda: value == want["value"],
    }
    return {} if checks[want["op"]]() else {(where, name): (want["value"], value)}


# ---------------------------------------------------------------- Kindling


def test_kindling() -> None:
    talk = yaml.safe_load((CORPORA / "kindling" / "redis" / "server-trace-get.yml").read_text())[
        "trace"
    ]
    sent = "".join(s for r in talk["requests"] for s in r["user_attributes"]["data"])
    answered = "".join(s for r in talk["responses"] for s in r["user_attributes"]["data"])
    (entry,) = converse(SPEC, [(0, sent.encode()), (1, answered.encode())])  # type: ignore[list-item]
    (expected,) = talk["expects"]
    labels, values = expected["Labels"], expected["Values"]
    assert entry.request is not None
    assert entry.response is not None
    assert entry.protocol == labels["protocol"]
    assert entry.request.verb == labels["redis_command"].upper()
    assert entry.response.ok is not labels["is_error"]
    assert entry.request.head.decode() == labels["request_payload"]
    assert entry.response.head.decode() == labels["response_payload"]
    assert (entry.request.size, entry.response.size) == (
        values["request_io"],
        values["response_io"],
    )


# ---------------------------------------------------------------- identification


@pytest.mark.parametrize("name", sorted(REDIS))
def test_every_flow_of_a_redis_capture_is_redis(name: str) -> None:
    found = entries(name)
    assert found
    silent = {e.flow.id for e in found if e.flow.reason == "no payload"}
    assert {e.protocol for e in found if e.flow.id not in silent} == {"redis"}


def test_no_other_capture_has_redis() -> None:
    wrong = [
        f"{name}: {entry.flow.reason}"
        for name in CAPTURES
        if name not in REDIS
        for entry in replayed(CORPORA / name)[1]
        if entry.protocol == "redis"
    ]
    assert not wrong
