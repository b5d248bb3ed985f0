"""Real clients and servers on the loopback of a namespace, recorded by tcpdump, with one key log for all."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tls_kit import NAME, folder

sys.path.insert(0, str(Path(__file__).parents[2] / "backends"))
from netlab import Lab, need_root

from kshark.backends._netns import inside

__all__ = ["Lab", "Scene", "need_root", "program"]
PATIENCE = 20.0
"""Seconds after which a test gives up."""
ASK = b"GET /%s HTTP/1.0\r\nHost: api.example\r\n\r\n"


def program(name: str) -> str:
    """Where a program is; the test fails without it (`make tools`)."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    return found or pytest.fail(f"{name} is needed: make tools")


class Scene:
    """A namespace; `run` and `serve` are in it."""

    def __init__(self, lab: Lab, where: Path) -> None:
        self.space = lab.space()
        self.where = where
        self.keys = where / "keys.log"
        self.keys.touch()
        self.capture = where / "all.pcap"
        self.prefix = [program("ip"), "netns", "exec", self.space]
        self.environ = {**os.environ, "SSLKEYLOGFILE": str(self.keys)}

    def port(self) -> int:
        """A free one."""
        with inside(self.space):
            sock = socket.socket()
        with sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        return port

    @contextmanager
    def process(self, *words: object, logs: bool = False) -> Iterator[subprocess.Popen[bytes]]:
        """A program of this test, ended with it; `logs`: it writes the key log."""
        environ = self.environ if logs else {**os.environ}
        with (self.where / "output").open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix, *map(str, words)],
                stdin=subprocess.PIPE, stdout=output, stderr=output, env=environ, cwd=self.where,
            )  # fmt: skip
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.send_signal(signal.SIGINT)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def serve(self, *words: object) -> Iterator[int]:
        """``openssl s_server`` with a web page; gives its port."""
        port = self.port()
        keys = folder()
        cert = (
            [] if "-cert" in words else ["-cert", keys / "server.pem", "-key", keys / "server.key"]
        )
        with self.process(program("openssl"), "s_server", "-www", "-accept", port, *cert, *words):
            self.listens(port)
            yield port

    def listens(self, port: int) -> None:
        """Wait for a server, without connecting to it."""
        end = time.monotonic() + PATIENCE
        while True:
            with inside(self.space):
                table = Path("/proc/thread-self/net/tcp").read_text()
                table += Path("/proc/thread-self/net/tcp6").read_text()
            if f":{port:04X} 0" in table:
                return
            assert time.monotonic() < end, (self.where / "output").read_text()
            time.sleep(0.02)

    def ask(self, port: int, tag: str, *words: object, text: bytes = b"") -> bytes:
        """``openssl s_client`` that asks for a page named `tag`."""
        given = [] if "-noservername" in words else ["-servername", NAME]
        words = tuple(word for word in words if word)
        found = subprocess.run(
            [*self.prefix, program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}",
             "-keylogfile", str(self.keys), "-ign_eof", *given, *map(str, words)],
            input=text or ASK % tag.encode(), capture_output=True, timeout=PATIENCE, cwd=self.where, check=False,
        )  # fmt: skip
        return found.stdout + found.stderr

    def run(self, *words: object, text: bytes = b"") -> bytes:
        """A client that writes the key log."""
        found = subprocess.run(
            [*self.prefix, *map(str, words)],
            input=text, capture_output=True, timeout=PATIENCE, env=self.environ, cwd=self.where, check=False,
        )  # fmt: skip
        return found.stdout + found.stderr

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """All packets go to `capture`."""
        with self.process(
            program("tcpdump"), "-i", "lo", "-U", "--immediate-mode", "-s", 0, "-B", 8192, "-Z", "root",
            "-w", self.capture, "tcp",
        ):  # fmt: skip
            self._seen(b"the first packet")
            yield
            self._seen(b"the last packet")

    def _seen(self, mark: bytes) -> None:
        """Say something until it is in the capture, as then is all that was said before."""
        end = time.monotonic() + PATIENCE
        with inside(self.space):
            listener, sender = socket.socket(), socket.socket()
        with listener, sender:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            sender.connect(listener.getsockname())
            while not self.capture.exists() or mark not in self.capture.read_bytes():
                assert time.monotonic() < end, (self.where / "output").read_text()
                sender.send(mark + b"\n")
                time.sleep(0.05)
