"""A real server on a free port, and a proxy that records what passes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kshark.api import Side

Chunk = tuple[Side, bytes]


class Recorder:
    """A TCP proxy on loopback; each connection is a list of (who, bytes), in the order they passed.

    What a client sends is noted before it is passed on, and what a server sends before the client sees it,
    so that an answer is never noted before its question.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.talks: list[list[Chunk]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            talk: list[Chunk] = []
            self.talks.append(talk)
            for source, sink, side in (
                (client, server, Side.CLIENT),
                (server, client, Side.SERVER),
            ):
                threading.Thread(
                    target=self.pump, args=(source, sink, side, talk), daemon=True
                ).start()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, side: Side, talk: list[Chunk]) -> None:
        try:
            while data := source.recv(16_384):
                talk.append((side, data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a redis-server of our own."""
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(
        [program, *options, "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def recorder(redis_port: int) -> Iterator[Recorder]:
    proxy = Recorder(redis_port)
    yield proxy
    proxy.close()
