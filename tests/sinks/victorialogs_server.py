"""VictoriaLogs of our own: a log server that takes Loki's push API, asked by its own language, LogsQL."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from sinks.loki_server import free_port

SCRIPT = Path(__file__).parent.parent / "victorialogs.sh"
READY = 60.0
"""Seconds until it answers: it takes one."""


def find_binary() -> str:
    """The binary, or a visible skip; in CI that is a failure."""
    path = subprocess.run(
        [SCRIPT, "path"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.access(path, os.X_OK):
        assert "CI" not in os.environ, "make victorialogs builds it"
        pytest.skip(
            "VictoriaLogs is not built here: make victorialogs (needs Go, two minutes, once)"
        )
    return path


class VictoriaLogs:
    """The process; `stop` and `start` as often as a test likes, its data stay."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.push = f"{self.url}/insert/loki/api/v1/push"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_binary(), f"-storageDataPath={self.folder}/data", f"-httpListenAddr=127.0.0.1:{self.port}",
                 "-loggerLevel=WARN"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        """In order: what it has acknowledged is on the disk afterwards."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def wait(self) -> None:
        deadline = time.monotonic() + READY
        while not self.ready():
            if (
                self.process is None
                or self.process.poll() is not None
                or time.monotonic() > deadline
            ):
                pytest.fail((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.read() == b"OK")
        except OSError:
            return False

    def stats(self, query: str) -> list[dict[str, str]]:
        """The rows of a query that ends in ``| stats ...``."""
        data = urllib.parse.urlencode({"query": query}).encode()
        with urllib.request.urlopen(f"{self.url}/select/logsql/query", data, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def count(self, selector: str, what: str = "count()") -> int:
        """Rows that match, or ``count_uniq(id)`` of them; taken rows are there to be asked a second later."""
        rows = self.stats(f"{selector} | stats {what} n")
        return int(rows[0]["n"]) if rows else 0

    def until(self, selector: str, wanted: int) -> None:
        deadline = time.monotonic() + 30
        while (found := self.count(selector)) != wanted:
            if time.monotonic() > deadline:
                pytest.fail(f"{selector}: {found} rows, not {wanted}")
            time.sleep(0.2)
