"""No secret of a peer in what sinks are given, also where bytes of the exchange are lost or its end is."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from numbered import SPECS, Talk, block, timed

from kshark.engine import Engine
from kshark.redact import redact_targets
from kshark.render import Renderer

SECRET = "hunter2"
PROTOCOLS = {spec.name: spec for spec in SPECS}
RENDERER = Renderer(PROTOCOLS)
STEP = 7
"""Bytes of one segment: as long as the secret, so that each part of a message is lost once."""


def http(
    body: str | bytes = "", kind: str = "", more: str = "", target: str = "/", host: str = "a"
) -> bytes:
    body = body.encode("latin-1") if isinstance(body, str) else body
    head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\n{more}"
    head += f"Content-Type: {kind}\r\n" if kind else ""
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: str, kind: str, trailers: str = "") -> bytes:
    pieces = "".join(f"5\r\n{body[at : at + 5]:5}\r\n" for at in range(0, len(body), 5))
    head = f"POST / HTTP/1.1\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return f"{head}{pieces}0\r\n{trailers}\r\n".encode()


FIELDS = (
    '--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nann\r\n'
    '--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2\r\n'
)
FORM = "multipart/form-data; boundary=b"
URLENCODED = "application/x-www-form-urlencoded"
HTTP = {
    "multipart": http(FIELDS + "--b--\r\n", FORM),
    "multipart, chunked": chunked(FIELDS + "--b--\r\n", FORM),
    "multipart, packed": http(gzip.compress(FIELDS.encode()), FORM, "Content-Encoding: gzip\r\n"),
    "multipart, binary": http(
        FIELDS + "--b\r\nContent-Type: image/png\r\n\r\n\0\xff\r\n--b--", FORM
    ),
    "multipart, undeclared": http(FIELDS),
    "batch": http(
        "--b\r\nContent-Type: application/http\r\n\r\nGET /?token=hunter2 HTTP/1.1\r\n"
        "Authorization: Bearer hunter2\r\n\r\n\r\n--b--",
        "multipart/mixed; boundary=b",
    ),
    "form": http("user=a&password=hunter2", URLENCODED),
    "form, chunked": chunked("user=a&password=hunter2", URLENCODED),
    "form, packed": http(
        gzip.compress(b"user=a&password=hunter2"), URLENCODED, "Content-Encoding: gzip\r\n"
    ),
    "form, undeclared": http("a=b&password=hunter2", "application/octet-stream"),
    "json": http('{"a": [{"b": {"password": "hunter2"}}]}', "application/json"),
    "json of a cloud": http('{"SecretString": "hunter2"}', "application/x-amz-json-1.1"),
    "json, wide": http('{"token": "hunter2"}'.encode("utf-16"), "application/json; charset=utf-16"),
    "xml": http("<a><Password>hunter2</Password></a>", "text/xml"),
    "trailers": chunked("abc", "text/plain", "Authorization: Bearer hunter2\r\n"),
    "headers": http(
        more="Authorization: Bearer hunter2\r\nProxy-Authorization: Basic hunter2\r\n"
        "Cookie: a=hunter2\r\nX-Forwarded-Authorization: hunter2\r\nX-Api-Key: hunter2\r\n"
    ),
    "folded": http(more="Authorization:\r\n Bearer\r\n hunter2\r\n"),
    "kubectl in a browser": http(
        more="Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.hunter2, v4\r\n"
    ),
    "user info": http(target="http://u:hunter2@a/?password=hunter2", host="u:hunter2@a"),
    "url in a url": http(target="/?next=http%3A%2F%2Fu%3Ahunter2%40h%2F"),
    "connect": b"CONNECT u:hunter2@h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
}
ANSWER = (
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=hunter2\r\nLocation: //u:hunter2@h/?token=hunter2\r\n"
    b"Content-Type: application/json\r\nContent-Length: 25\r\n\r\n"
    b'{"access_token":"hunter2"}'
)


def ask(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words
    )


MONITORED = (
    '"config" "set" "requirepass" "hunter2"',
    '"AUTH" "hunter2"',
    '"acl" "setuser" "x" ">hunter2"',
)
REDIS = {
    "AUTH": (ask("aUtH", SECRET), b"+OK\r\n"),
    "AUTH, user": (ask("AUTH", "ann", SECRET), b"+OK\r\n"),
    "HELLO": (ask("HELLO", "3", "SETNAME", "n", "AUTH", "u", SECRET), b"+OK\r\n"),
    "CONFIG": (ask("CONFIG", "SET", "maxmemory", "1", "masterauth", SECRET), b"+OK\r\n"),
    "ACL": (ask("ACL", "SETUSER", "ann", "on", f">{SECRET}", f"<{SECRET}"), b"+OK\r\n"),
    "MIGRATE": (ask("MIGRATE", "h", "1", "", "0", "1", "AUTH2", "u", SECRET), b"+OK\r\n"),
    "SENTINEL": (ask("SENTINEL", "SET", "m", "auth-pass", SECRET), b"+OK\r\n"),
    "MULTI": (
        ask("MULTI") + ask("AUTH", SECRET) + ask("EXEC"),
        b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
    ),
    "inline": (b"auth ann \"hunter2\"\r\nconfig\tset requirepass 'hunter2'\r\n", b"+OK\r\n" * 2),
    "CONFIG GET": (ask("CONFIG", "GET", "*"), b"%1\r\n+requirepass\r\n$7\r\nhunter2\r\n"),
    "ACL GETUSER": (
        ask("ACL", "GETUSER", "ann"),
        b"*2\r\n$9\r\npasswords\r\n*1\r\n$7\r\nhunter2\r\n",
    ),
    "SLOWLOG": (
        ask("SLOWLOG", "GET"),
        b"*1\r\n*2\r\n:1\r\n*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n",
    ),
    "MONITOR": (
        ask("MONITOR"),
        b"+OK\r\n"
        + "".join(f"+1339518083.107412 [0 127.0.0.1:6] {m}\r\n" for m in MONITORED).encode(),
    ),
}
BEFORE, AFTER = ask("SET", "a", "b"), ask("GET", "k")

EXCHANGES = {
    **{f"http: {name}": (80, asked, ANSWER) for name, asked in HTTP.items()},
    **{
        f"redis: {name}": (6379, BEFORE + asked + AFTER, b"+OK\r\n" + said + b"$-1\r\n")
        for name, (asked, said) in REDIS.items()
    },
}


def shown(port: int, asked: bytes, said: bytes, lost: int = -1) -> tuple[str, int]:
    """What sinks see of an exchange without its segment number `lost`; and how many there are."""
    talk = Talk(ports=(40_000, port)).open()
    opening = len(talk.packets)
    for side, data in ((0, asked), (1, said)):
        for at in range(0, len(data), STEP):
            talk.send(side, data[at : at + STEP])
    count = len(talk.packets) - opening
    packets = talk.close().packets
    if lost >= 0:
        del packets[opening + lost]
    return seen(packets), count


def seen(packets: list[bytes]) -> str:
    engine = Engine(SPECS)
    entries = engine.feed(block(timed(packets))) + engine.finish()
    redact_targets(entries, PROTOCOLS)
    lines = RENDERER.encode(entries, full=True)
    return lines.decode() + "".join(unpacked(json.loads(line)) for line in lines.splitlines())


def unpacked(row: dict[str, Any]) -> str:
    """Bodies that are shown in base64."""
    halves = [half for half in (row.get("http") or {}).values() if half]
    bodies = [half["body"] for half in halves if half.get("body_encoding") == "base64"]
    return "".join(base64.b64decode(text).decode("latin-1") for text in bodies)


@pytest.mark.parametrize("name", EXCHANGES)
def test_no_secret_is_shown(name: str) -> None:
    port, asked, said = EXCHANGES[name]
    text, count = shown(port, asked, said)
    assert f'"protocol":"{name.partition(":")[0]}"' in text
    assert SECRET not in text
    assert "redacted" in text.lower()
    for lost in range(count):
        text, _ = shown(port, asked, said, lost)
        assert SECRET not in text, f"without segment {lost}"


# Only the "@" after user info tells that it is no host and port.
@pytest.mark.parametrize("name", [name for name in EXCHANGES if name != "http: user info"])
def test_no_secret_of_half_an_exchange_is_shown(name: str) -> None:
    port, asked, _ = EXCHANGES[name]
    for end in range(asked.find(SECRET.encode()) + 4, len(asked)):
        talk = Talk(ports=(40_000, port)).open()
        talk.send(0, asked[:end])
        text = seen(talk.close().packets)
        assert SECRET[:4] not in text
