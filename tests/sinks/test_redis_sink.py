"""The sink ``redis`` with a real server: restarted, full, with a password, by TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from kshark.api import PluginError
from kshark.fanout import Fanout
from kshark.lane import LaneOptions
from kshark.sinks.redis import Redis, RedisOptions
from sinks.conftest import FakeContext, MakeEntry
from sinks.loki_server import free_port


class Server:
    """A redis-server of our own."""

    def __init__(self, folder: Path, *options: str, tls: bool = False) -> None:
        self.port = free_port()
        where = ["--port", "0", "--tls-port"] if tls else ["--port"]
        self.command = ["redis-server", *where, str(self.port), "--bind", "127.0.0.1",
                        "--save", "", "--appendonly", "yes", "--dir", str(folder), *options]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def client(self, **options: Any) -> redis.Redis:
        client = redis.Redis("127.0.0.1", self.port, **options)
        deadline = time.monotonic() + 30
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return client


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: make tools")
    started: list[Server] = []

    def begin(*options: str, tls: bool = False) -> Server:
        started.append(Server(tmp_path, *options, tls=tls))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


def deliver(
    context: FakeContext, make_entry: MakeEntry, count: int,
    between: Callable[[int], Any] = lambda n: None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    async def whole() -> dict[str, Any]:
        fanout = Fanout(context.say)
        fanout.add("redis", Redis(RedisOptions(**options), context), LaneOptions(), live=True)
        await fanout.open()
        for n in range(0, count, 100):
            await asyncio.to_thread(between, n)
            fanout.offer([make_entry(n + k) for k in range(100)])
            await asyncio.sleep(0.001)
        await fanout.drain()
        return fanout.snapshot()["redis"]

    books = asyncio.run(whole())
    assert books["entries"] == books["delivered"] + sum(books["dropped"].values())
    return books


def ids(client: Any, stream: str = "kshark") -> list[str]:
    return [json.loads(item[b"entry"])["id"] for _, item in client.xrange(stream)]


def test_entries_are_items_and_the_stream_is_bounded(
    context: FakeContext, make_entry: MakeEntry, start: Start
) -> None:
    server = start()
    client = server.client()
    url = f"redis://127.0.0.1:{server.port}"
    assert deliver(context, make_entry, 1_000, target=url)["delivered"] == 1_000
    assert ids(client) == [f"f1-{n}" for n in range(1_000)]
    deliver(context, make_entry, 5_000, target=url, stream="short", maxlen=100)
    assert 100 <= client.xlen("short") < 300
    client.close()


def test_a_restart_loses_nothing(context: FakeContext, make_entry: MakeEntry, start: Start) -> None:
    server = start()
    server.client().close()

    def between(n: int) -> None:
        if n == 1_000:
            server.kill()
        elif n == 3_000:
            server.start()

    books = deliver(context, make_entry, 5_000, between, target=f"redis://127.0.0.1:{server.port}")
    assert (books["delivered"], books["dropped"]) == (5_000, {})
    client = server.client()
    assert list(dict.fromkeys(ids(client))) == [f"f1-{n}" for n in range(5_000)]
    client.close()


def test_one_that_is_slow_to_answer_loses_nothing(
    context: FakeContext, make_entry: MakeEntry, start: Start
) -> None:
    """It answers later than we wait: a batch comes again, and ids tell."""
    server = start()
    client = server.client()

    def between(n: int) -> None:
        if n in (1_000, 2_000):
            client.client_pause(800, all=True)

    books = deliver(
        context, make_entry, 3_000, between, target=f"redis://127.0.0.1:{server.port}", timeout=0.2
    )
    assert (books["delivered"], books["dropped"]) == (3_000, {})
    assert sorted(set(ids(client))) == sorted(f"f1-{n}" for n in range(3_000))
    client.close()


def test_full_and_with_a_password(
    context: FakeContext, make_entry: MakeEntry, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    server = start(
        "--requirepass", "s3cret", "--maxmemory", "1", "--maxmemory-policy", "noeviction"
    )
    client = server.client(password="s3cret")

    def between(n: int) -> None:
        if n == 900:
            while not any("entries wait" in said for said in context.said):
                time.sleep(0.01)
            client.config_set("maxmemory", 0)

    books = deliver(
        context, make_entry, 1_000, between, target=f"redis://127.0.0.1:{server.port}",
        password_file=str(tmp_path / "pw"),
    )  # fmt: skip
    assert (books["delivered"], client.xlen("kshark")) == (1_000, 1_000)
    assert "OOM" in context.said[0] or "maxmemory" in context.said[0]
    assert "s3cret" not in "".join(context.said)
    client.close()


def test_tls(context: FakeContext, make_entry: MakeEntry, start: Start, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = start(
        "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no", tls=True,
    )  # fmt: skip
    client = server.client(ssl=True, ssl_ca_certs=str(certificate))
    url = f"rediss://127.0.0.1:{server.port}"
    assert (
        deliver(context, make_entry, 100, target=url, ca_file=str(certificate))["delivered"] == 100
    )
    assert client.xlen("kshark") == 100
    client.close()


@pytest.mark.parametrize(
    "options",
    [{"target": "host"}, {"target": "redis://me:SECRET@host"}, {"password_file": "/nonexistent"},
     {"ca_file": "/nonexistent"}, {"target": "redis://h:99999"}],
)  # fmt: skip
def test_mistakes_are_said(context: FakeContext, options: dict[str, Any]) -> None:
    with pytest.raises(PluginError) as caught:
        asyncio.run(Redis(RedisOptions(**options), context).open())
    assert "SECRET" not in str(caught.value)
