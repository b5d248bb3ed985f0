"""Programs that use io_uring, seen by the backend ``ebpf``: all of them at functions, at system calls the other end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import Lab, lab
from servers import ready
from test_ebpf_live import HOOKS, Capture, ebpf

__all__ = ["lab"]
pytestmark = pytest.mark.live

REFUSED = 77
ASKED = "GET /{} HTTP/1.1\r\nHost: a\r\n"
ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nuring"
AT_CALLS = ("hooks: sockets", "hooks: system calls")


@pytest.fixture(scope="module")
def uring(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program; a visible skip where it cannot be built or the kernel refuses, but in CI."""
    program = tmp_path_factory.mktemp("uring") / "uring"
    source = Path(__file__).parent / "uring.c"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/usr/include/liburing.h").exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)(
            "needs a C compiler and liburing: apt-get install gcc liburing-dev"
        )
    words = [compiler, "-Wall", "-Werror", "-O1", str(source), "-o", str(program), "-luring"]
    subprocess.run(words, check=True, capture_output=True)
    done = subprocess.run([program, "ask", "1", ""], capture_output=True, check=False)
    if done.returncode == REFUSED:
        pytest.skip("this kernel refuses io_uring")
    return str(program)


@contextlib.contextmanager
def serving(space: str, uring: str) -> Iterator[int]:
    """A server that takes and gives by io_uring, at port 80; its process."""
    words = ["ip", "netns", "exec", space]
    server = subprocess.Popen([*words, uring, "serve", "80", ANSWER])
    try:
        ready(lambda: b"uring" in ask(space, "curl", "-s", "http://127.0.0.1/ready"))
        yield server.pid
    finally:
        server.kill()
        server.wait()


def ask(space: str, *command: str) -> bytes:
    words = ["ip", "netns", "exec", space, *command]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).stdout


def found(capture: Capture, target: str) -> list[tuple[str | None, str | None, str]]:
    """Both commands and the outcome of each request for it."""
    return [
        (e["src"].get("comm"), e["dst"].get("comm"), e["outcome"])
        for e in capture.entries
        if (e["request"] or {}).get("target") == target
    ]


@pytest.mark.parametrize("hooks", HOOKS)
def test_a_server_and_a_client_by_io_uring(
    lab: Lab, tmp_path: Path, uring: str, hooks: str
) -> None:
    space = lab.space()
    with serving(space, uring), ebpf(tmp_path, space, options=f",tls=false{hooks}") as capture:
        assert b"uring" in ask(space, "curl", "-s", "http://127.0.0.1/served")
        assert b"uring" in ask(space, uring, "ask", "80", ASKED.format("both"))
        ask(space, "curl", "-s", "http://127.0.0.1/last")
        ready(lambda: found(capture, "/last"))
        capture.end()
    if any(way in capture.said for way in AT_CALLS):
        (line,) = [line for line in capture.said.splitlines() if "io_uring" in line]
        assert "seen at the other end alone" in line
        assert "uring" in line.partition("used by")[2].replace(",", "").split()
        assert found(capture, "/served") == [("curl", None, "ok")]
        assert found(capture, "/both") == []
    else:
        assert "io_uring" not in capture.said
        assert found(capture, "/served") == [("curl", "uring", "ok")]
        assert found(capture, "/both") == [("uring", "uring", "ok")]
    assert "lost" not in capture.said
