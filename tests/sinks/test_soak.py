"""kshark on live traffic, all day in short: the books, a log server that goes away and comes back, memory.

Calls come at a steady rate over loopback (nginx, h2load), kshark watches their sockets by eBPF and sends the rows to
VictoriaLogs by Loki's push API; the server is away for a tenth of the time. At the end the server holds as many rows
as the ledger says were delivered, none twice, and nothing was lost. KSHARK_SOAK are the seconds (75 by default; `make
soak`: 600), KSHARK_SOAK_RATE the calls a second (5,000).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinks.loki_server import free_port
from sinks.test_metrics import samples
from sinks.victorialogs_server import VictoriaLogs

pytestmark = [pytest.mark.slow, pytest.mark.live]
SECONDS = int(os.environ.get("KSHARK_SOAK", "75"))
RATE = int(os.environ.get("KSHARK_SOAK_RATE", "5000"))
CLIENTS = 10
GROWTH = 64 * 1024 * 1024
"""Bytes that memory may grow by after the first quarter: what waits while the server is away takes 16 MiB packed."""
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{"id": 42}}'; }} }}
}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VictoriaLogs]:
    server = VictoriaLogs(tmp_path)
    server.start()
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[int]:
    """The port of an nginx of our own."""
    if os.geteuid() or shutil.which("nginx") is None or shutil.which("h2load") is None:
        assert "CI" not in os.environ, "make tools installs nginx and h2load; root loads programs"
        pytest.skip("needs root, nginx and h2load: make tools")
    port = free_port()
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port))
    process = subprocess.Popen(
        ["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL
    )
    yield port
    process.terminate()
    process.wait(20)


class Load:
    """h2load: so many calls a second for so long."""

    def __init__(self, port: int, seconds: int) -> None:
        self.process = subprocess.Popen(
            ["h2load", "--h1", f"-c{CLIENTS}", f"--rps={RATE // CLIENTS}", f"-D{seconds}",
             f"http://127.0.0.1:{port}/api/orders/42"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def answered(self) -> int:
        """Calls that it made, once it has ended."""
        said, _ = self.process.communicate(timeout=SECONDS + 60)
        found = re.search(r"(\d+) succeeded", said)
        assert found is not None, said
        return int(found[1])


class Watch:
    """`kshark run`, with a scrape to ask it."""

    def __init__(self, web: int, server: VictoriaLogs, folder: Path) -> None:
        self.port = free_port()
        self.said = folder / "said"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kshark", "run", "--backend", f"ebpf:,ports={web}",
                 "--sink", f"loki:{server.push},spool={folder}/spool,memory=4MiB,static=run=soak",
                 "--sink", f"metrics::{self.port}"],
                stderr=said, env={k: v for k, v in os.environ.items() if not k.startswith("KSHARK_")},
            )  # fmt: skip

    def until(self, reached: Callable[[dict[str, float]], bool]) -> None:
        deadline = time.monotonic() + 120 + SECONDS  # on a busy machine what waits is sent slowly
        while True:
            try:
                if reached(self.books()):
                    return
            except OSError:  # it starts
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(self.said.read_text())
            time.sleep(0.5)

    def books(self) -> dict[str, float]:
        return samples(self.port)

    def memory(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s*(\d+) kB", text)
        assert found is not None
        return int(found[1]) * 1024

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return self.said.read_text()


def test_a_server_that_goes_away_loses_nothing(
    web: int, server: VictoriaLogs, tmp_path: Path
) -> None:
    watch = Watch(web, server, tmp_path)
    try:
        watch.until(lambda books: True)
        load = Load(web, SECONDS)
        time.sleep(SECONDS * 0.25)
        early = watch.memory()
        time.sleep(SECONDS * 0.15)
        server.stop()
        time.sleep(SECONDS * 0.1)
        server.start()
        answered = load.answered()
        late = watch.memory()
        watch.until(lambda books: queued(books) == 0)
        books = watch.books()
    finally:
        said = watch.end()
    sys.stderr.write(
        f"\n{answered:,} calls in {SECONDS} s; memory {early:,} to {late:,} bytes\n{said}"
    )
    lost = {name: n for name, n in books.items() if name.startswith("kshark_sink_dropped") and n}
    assert lost == {}, said
    delivered = int(books["kshark_sink_delivered_total{sink=loki}"])
    server.until('{run="soak"}', delivered)
    assert server.count('{run="soak"}', "count_uniq(id)") == delivered
    assert 0 <= delivered - answered <= 2 * CLIENTS, (
        "each call is a row; the last were not counted by h2load"
    )
    assert "entries wait" in said
    assert "takes entries again" in said
    assert late - early < GROWTH


def queued(books: dict[str, float]) -> float:
    return books["kshark_sink_queued{sink=loki}"]
