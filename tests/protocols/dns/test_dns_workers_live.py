"""Live, with two workers: who hears the answer of DNS and who hears the connection may be two processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dns_kit import query, reply
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve

sys.path.insert(0, str(Path(__file__).parents[2] / "backends"))
from netlab import Lab, bound, lab

__all__ = ["lab"]
pytestmark = [pytest.mark.live, pytest.mark.slow]
CLIENT, SITE, PORT = "127.0.0.1", "127.0.0.2", 8080
CALLS = 8
PATIENCE = 60.0
"""Seconds after which the test gives up."""
Rows = list[dict[str, Any]]


@contextmanager
def resolver(space: str) -> Iterator[None]:
    """Answers everything with the address of the site."""
    sock = bound(space, CLIENT, 53)

    def work() -> None:
        while True:
            try:
                asked, who = sock.recvfrom(4096)
                sock.sendto(reply(asked, f"api.test. 60 IN A {SITE}"), who)
            except TimeoutError:
                continue
            except OSError:
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sock.close()


@contextmanager
def site(space: str) -> Iterator[None]:
    """HTTP, and a WebSocket that repeats what it hears."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    def plain(connection: ServerConnection, request: Any) -> Any:
        return None if request.path == "/chat" else connection.respond(200, "ok\n")

    sock = bound(space, SITE, PORT, socket.SOCK_STREAM)
    sock.settimeout(None)
    sock.listen()
    with serve(echo, sock=sock, process_request=plain) as server:
        assert isinstance(server, Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield


def get(space: str, path: str) -> None:
    with bound(space, CLIENT, 0, socket.SOCK_STREAM) as sock:
        sock.connect((SITE, PORT))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n".encode())
        while sock.recv(4096):
            pass


def resolve(space: str) -> None:
    with bound(space, CLIENT, 0) as sock:
        sock.connect((CLIENT, 53))
        sock.send(query("api.test."))
        sock.recv(4096)


def chat(space: str) -> None:
    sock = bound(space, CLIENT, 0, socket.SOCK_STREAM)
    sock.connect((SITE, PORT))
    with connect(f"ws://{SITE}:{PORT}/chat", sock=sock) as client:
        client.send("hello")
        assert client.recv() == "hello"


def until(
    out: Path, enough: Callable[[Rows], object], again: Callable[[], None] = lambda: None
) -> Rows:
    """What is in the file once it is enough."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        again()
        text = out.read_text() if out.exists() else ""
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if enough(rows):
            return rows
        time.sleep(0.05)
    pytest.fail("it does not come")


def targets(rows: Rows, protocol: str) -> list[str]:
    return [
        row["request"]["target"] for row in rows if row["protocol"] == protocol and row["request"]
    ]


def test_names_and_messages_of_two_workers(lab: Lab, tmp_path: Path) -> None:
    space, out = lab.space(), tmp_path / "out.ndjson"
    command = [sys.executable, "-m", "kshark", "run", "--backend", "af_packet", "--netns", space,
               "--iface", "lo", "--workers", "2", "--sink", f"jsonl:{out}"]  # fmt: skip
    with resolver(space), site(space):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            until(out, lambda rows: targets(rows, "http"), lambda: get(space, "/early"))
            resolve(space)
            until(out, lambda rows: "api.test" in targets(rows, "dns"))
            for number in range(CALLS):
                get(space, f"/{number}")
            chat(space)
            rows = until(
                out,
                lambda rows: (
                    {f"/{n}" for n in range(CALLS)} <= set(targets(rows, "http"))
                    and targets(rows, "websocket").count("/chat") >= 2
                ),
            )
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    late = [row for row in rows if row["protocol"] in ("http", "websocket")]
    for row in late:
        asked = row["request"] or {"target": "/early"}  # the capture began with its answer
        early = row["protocol"] == "http" and asked["target"] == "/early"
        server = row["src"] if row["src"]["port"] == PORT else row["dst"]
        assert server.get("dns") == (None if early else "api.test"), row
    texts = [
        row for row in late if row["protocol"] == "websocket" and row["request"]["verb"] == "text"
    ]
    assert [row["dst"]["port"] == PORT for row in texts] == [True, False]
