"""io_uring in a guest: hooks at functions see what it moves, those at system calls the other end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import guest
import pytest
from image import ROOT

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, guest.Round]:
    """By the name of the set: one question to Redis, asked by io_uring."""
    folder = tmp_path_factory.mktemp("guest")
    compiler = shutil.which("gcc")
    if compiler is None or not Path("/usr/include/liburing.h").exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)(
            "needs a C compiler and liburing: apt-get install gcc liburing-dev"
        )
    source = str(ROOT / "tests/backends/uring.c")
    words = [compiler, "-O1", source, "-o", str(folder / "uring"), "-luring"]
    subprocess.run(words, check=True, capture_output=True)
    made = guest.image()
    made.file("/bin/uring", folder / "uring")
    made.libraries(folder / "uring")
    rounds = [
        {
            "name": name,
            "arguments": ["--backend", f"ebpf:,hooks={name},tls=false"],
            "entries": 1,
            "traffic": ["uring ask 6379 PING"],
        }
        for name in ("auto", "kprobe", "tracepoint")
    ]
    return {one["name"]: one for one in guest.run(made, rounds, folder)}


@pytest.mark.parametrize(
    ("name", "client"), [("auto", "uring"), ("kprobe", "uring"), ("tracepoint", None)]
)
def test_a_client_by_io_uring(
    captured: dict[str, guest.Round], name: str, client: str | None
) -> None:
    found = captured[name]
    assert found["code"] == 0, found["said"]
    (entry,) = found["entries"]
    assert (entry["request"]["verb"], entry["outcome"]) == ("PING", "ok")
    assert (entry["src"].get("comm"), entry["dst"]["comm"]) == (client, "redis-server")
