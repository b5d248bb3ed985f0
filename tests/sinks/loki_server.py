"""A real Loki of our own: built by ``make loki``, started on free ports, asked by LogQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "loki.sh"
READY = 120.0
"""Seconds until it answers: its ring takes ten, on a busy machine longer."""
CONFIG = """
auth_enabled: false
server: {{http_listen_address: 127.0.0.1, http_listen_port: {http}, grpc_listen_address: 127.0.0.1,
  grpc_listen_port: {grpc}, log_level: error}}
common:
  instance_addr: 127.0.0.1
  path_prefix: {folder}
  storage: {{filesystem: {{chunks_directory: {folder}/chunks, rules_directory: {folder}/rules}}}}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
schema_config:
  configs: [{{from: 2020-10-24, store: tsdb, object_store: filesystem, schema: v13,
    index: {{prefix: index_, period: 24h}}}}]
analytics: {{reporting_enabled: false}}
ingester: {{lifecycler: {{min_ready_duration: 0s, final_sleep: 0s}}}}
limits_config: {limits}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class LokiServer:
    """The process; `kill` and `start` as often as a test likes, its data stay."""

    def __init__(self, binary: str, folder: Path, **limits: Any) -> None:
        self.binary, self.folder = binary, folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        text = CONFIG.format(
            http=self.port, grpc=free_port(), folder=folder, limits=json.dumps(limits)
        )
        (folder / "loki.yaml").write_text(text)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, f"-config.file={self.folder}/loki.yaml"], stdout=log, stderr=log
            )

    def wait(self) -> None:
        deadline = time.monotonic() + READY
        while not self.ready():
            dead = self.process is None or self.process.poll() is not None
            if dead or time.monotonic() > deadline:
                pytest.fail((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return self.get("/ready").startswith(b"ready")
        except OSError:
            return False

    def kill(self) -> None:
        """Without a chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path: str, **query: str) -> bytes:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: bytes = answer.read()
        return text

    def query(self, logql: str, at: float | None = None) -> dict[str, float]:
        """The values of a metric query, by their labels."""
        when = {} if at is None else {"time": str(at)}
        found = json.loads(self.get("/loki/api/v1/query", query=logql, **when))["data"]["result"]
        return {
            ",".join(f"{k}={v}" for k, v in sorted(one["metric"].items())): float(one["value"][1])
            for one in found
        }

    def count(self, selector: str) -> int:
        return int(self.query(f"sum(count_over_time({selector}[2h]))").get("", 0))


def find_binary() -> str:
    """The binary, or a visible skip."""
    done = subprocess.run([SCRIPT, "path"], capture_output=True, text=True, check=True)
    path = done.stdout.strip()
    if not os.access(path, os.X_OK):
        pytest.skip("Loki is not built here: make loki (needs Go, ten minutes, once)")
    return path


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    server = LokiServer(find_binary(), tmp_path_factory.mktemp("loki"), ingestion_rate_mb=64)
    server.start()
    server.wait()
    yield server
    server.kill()
