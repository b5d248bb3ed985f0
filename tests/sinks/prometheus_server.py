"""A real Prometheus of our own: Debian's, on a free port, asked by PromQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from sinks.loki_server import free_port


def need_prometheus() -> None:
    """A visible skip where it is missing; in CI that is a failure."""
    if shutil.which("prometheus") is None:
        assert "CI" not in os.environ, "make tools installs prometheus"
        pytest.skip("prometheus is not installed: make tools")


def labelled(metric: Mapping[str, str]) -> str:
    """``a=1,b=2``, without the name of the metric and what is empty."""
    return ",".join(f"{k}={v}" for k, v in sorted(metric.items()) if v and k != "__name__")


class Prometheus:
    """The process; its data are in the folder `data`."""

    def __init__(self, folder: Path, config: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "prometheus.yml").write_text(config)
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", "--storage.tsdb.retention.time=10y",
             f"--web.listen-address={self.url.removeprefix('http://')}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def query(self, promql: str, at: float | None = None) -> dict[str, float]:
        """The values, by their labels; nothing while it does not answer yet."""
        asked = {"query": promql, **({} if at is None else {"time": str(at)})}
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                return {}
            pytest.fail(f"{promql}: {error.read().decode()}")
        except OSError:
            return {}
        return {labelled(one["metric"]): float(one["value"][1]) for one in found}

    def until(self, promql: str, value: float) -> None:
        deadline = time.monotonic() + 60
        while (found := self.query(promql)) != {"": value}:
            if time.monotonic() > deadline:
                pytest.fail(f"{promql} is {found}, not {value}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
