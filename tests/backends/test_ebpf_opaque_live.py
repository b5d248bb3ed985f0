"""Connections that nobody reads cost no copies: their lengths are told, what others say is whole."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import PATIENCE, Lab, Seen, lab, watched
from nginx_conf import configure
from servers import ready
from test_ebpf_live import ebpf

from kshark.api import Endpoint, Flow
from kshark.backends.ebpf import Ebpf, EbpfOptions

__all__ = ["lab"]
pytestmark = pytest.mark.live

TALK = str(Path(__file__).parent / "talk.py")
PORT, OWN, SIZE = 7100, 7200, 8192
HERE = "127.0.0.1"


@contextlib.contextmanager
def talking(space: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """One end of talk.py."""
    command = ["ip", "netns", "exec", space, sys.executable, TALK, *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def space(lab: Lab) -> Iterator[str]:
    """A namespace with the echo server."""
    made = lab.space()
    with talking(made, "serve", str(PORT)) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield made


class Client:
    """The other end: each piece goes there and back."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pieces = 0

    def send(self, pieces: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for _ in range(pieces):
            self._process.stdin.write("\n")
            assert self._process.stdout.readline() == "back\n"
        self.pieces += pieces

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE) == 0


@contextlib.contextmanager
def client(space: str) -> Iterator[Client]:
    with talking(space, "ask", str(PORT), str(OWN), str(SIZE)) as process:
        yield Client(process)


def spared(port: int) -> float:
    """Bytes, by the metrics of a capture."""
    with urllib.request.urlopen(f"http://{HERE}:{port}/metrics", timeout=PATIENCE) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("kshark_backend_spared_bytes_total{") and 'reason="opaque"' in line:
                return float(line.split()[-1])
    return 0


def test_what_nobody_reads_is_not_copied(space: str, tmp_path: Path) -> None:
    """From a while after its first bytes on; its entry has all of them, and HTTP beside it is whole."""
    nginx = configure(tmp_path, "server { listen 80; location / { return 200 'small\\n'; } }")
    server = subprocess.Popen(["ip", "netns", "exec", space, *nginx.split()])
    curl = ["ip", "netns", "exec", space, "curl", "-sf", f"http://{HERE}"]
    try:
        ready(lambda: subprocess.run([*curl[:-1], f"{curl[-1]}/"], check=False).returncode == 0)
        with ebpf(tmp_path, space, "--sink", "metrics:127.0.0.1:9471") as capture:
            with client(space) as one:
                one.send(1)

                def noticed() -> bool:
                    one.send(1)
                    return spared(9471) > 0

                ready(noticed)
                before, pieces = spared(9471), one.pieces
                one.send(50)
                subprocess.run([*curl[:-1], f"{curl[-1]}/beside"], check=True)
                ready(lambda: spared(9471) >= before + 50 * 2 * SIZE)
                one.end()
            ready(lambda: len(capture.entries) == 2)
            capture.end()
    finally:
        server.terminate()
        server.wait()
    (flow,) = [e for e in capture.entries if e["protocol"] == "tcp"]
    (call,) = [e for e in capture.entries if e["protocol"] == "http"]
    assert flow["request"]["size"] == flow["response"]["size"] == one.pieces * SIZE
    assert one.pieces == pieces + 50
    assert call["request"]["target"] == "/beside"
    assert call["outcome"] == "ok"
    assert call["gap_bytes"] == 0
    assert "lost" not in capture.said


def told(seen: list[Seen], *, copied: bool) -> int:
    """Bytes of both streams that packets tell of, or have; each counts once, though both ends may tell of it."""
    spans: dict[bytes, list[tuple[int, int]]] = {}
    for one in filter(lambda s: s.ip, seen):
        size = len(one.payload) if copied else one.wire - 40
        at = int.from_bytes(one.ip[24:28], "big")
        spans.setdefault(one.ip[20:24], []).append((at, at + size))
    total = 0
    for parts in spans.values():
        end = 0
        for start, stop in sorted(parts):
            total += max(0, stop - max(start, end))
            end = max(end, stop)
    return total


def test_a_later_connection_of_the_same_ports_is_another(space: str) -> None:
    """What is said of a connection holds for that one, and also if it comes after its end."""
    asyncio.run(same_ports(space))


async def same_ports(space: str) -> None:
    backend = Ebpf(EbpfOptions(netns=[space], tls=False))
    backend.open()
    flow = Flow("", "tcp", Endpoint(HERE, OWN), Endpoint(HERE, PORT))

    async def talk(one: Client, pieces: int, copied: bool) -> int:
        """Some pieces, and when the last of them was seen."""
        begin = len(watch.seen)
        await asyncio.to_thread(one.send, pieces)
        new = pieces * 2 * SIZE
        await watch.until(lambda: told(watch.seen[begin:], copied=False) >= new)
        assert told(watch.seen[begin:], copied=True) == (new if copied else 0)
        return watch.seen[-1].ns

    async with watched(backend) as watch:
        with client(space) as one:
            backend.opaque(flow, await talk(one, 2, True))
            seen = await talk(one, 20, False)
            one.end()
        with client(space) as one:
            await talk(one, 2, True)
            backend.opaque(flow, seen)  # late: of the one before
            seen = await talk(one, 20, True)
            backend.opaque(flow, seen)
            await talk(one, 20, False)
            one.end()
        assert watch.stats.spared["opaque"] >= 2 * 20 * 2 * SIZE
        assert not watch.stats.dropped
