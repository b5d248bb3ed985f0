"""Two containers with roots of their own, and kshark outside: what both say over TLS, and who they are."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Container, two
from netlab import Lab, lab
from nginx_conf import configure
from servers import ready
from test_ebpf_live import Capture, Entry, capturing

__all__ = ["lab"]
pytestmark = [pytest.mark.live, pytest.mark.slow]

SERVED = """  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 443 ssl; location / {{ return 200 'in a container\\n'; }} }}"""
ADDRESSES = {"one": "10.1.0.1", "other": "10.1.0.2"}


@pytest.fixture
def containers(lab: Lab, tmp_path: Path) -> Iterator[list[Container]]:
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    keys = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*words.split(), *keys], check=True, capture_output=True)
    command = configure(tmp_path, SERVED.format(folder=tmp_path))
    with two(lab, tmp_path, f"/bin/{command}", ("nginx", "openssl")) as made:
        yield made


@contextlib.contextmanager
def client(here: Container, there: Container) -> Iterator[None]:
    """A client in one container that has asked the other's server, and is still there."""
    words = ["/bin/openssl", "s_client", "-quiet", "-connect", f"{ADDRESSES[there.name]}:443"]
    process = here.start(*words)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"GET /from-%s HTTP/1.1\r\nHost: a\r\n\r\n" % here.name.encode())
    process.stdin.flush()
    said = b""
    while b"in a container\n" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    try:
        yield
    finally:
        with process:
            here.kill("openssl")


def http(capture: Capture) -> dict[str, Entry]:
    return {e["request"]["target"]: e for e in capture.entries if e["protocol"] == "http"}


def lives_in(pid: int, container: Container) -> bool:
    """Whether it is a number outside, of a process that has another one inside, with the container's root."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = re.search(r"^NSpid:(.*)$", status, re.M)
    assert numbers
    outside, inside = numbers[1].split()
    assert int(outside) == pid != int(inside)
    return os.path.samefile(f"/proc/{pid}/root", container.root)


@pytest.mark.parametrize("comms", [(), ("nginx",), ("openssl",)])
def test_tls_of_both_in_clear_with_names(
    containers: list[Container], tmp_path: Path, comms: tuple[str, ...]
) -> None:
    """Told of both ends, or of either alone: each has a library of its own, which the machine has not."""
    libraries = {
        os.stat(next(root.rglob("libssl.so*"))).st_ino for root in (c.root for c in containers)
    }
    assert len(libraries) == 2
    one, other = containers
    options = (
        "".join(f",comms={comm}" for comm in comms) or f",netns={one.first},netns={other.first}"
    )
    with (
        capturing(tmp_path, f"ebpf:{options}", "TLS in clear") as capture,
        client(one, other),
        client(other, one),
    ):
        ready(lambda: len(http(capture)) >= 2)
        found = http(capture)
        for here, there in ((one, other), (other, one)):
            entry = found[f"/from-{here.name}"]
            assert (entry["outcome"], entry["response"]["status"]) == ("ok", 200)
            assert (entry["src"]["ip"], entry["dst"]["ip"]) == (
                ADDRESSES[here.name],
                ADDRESSES[there.name],
            )
            for end, comm, home in (("src", "openssl", here), ("dst", "nginx", there)):
                if comms and comm not in comms:
                    assert entry[end].get("comm") is None
                    continue
                assert entry[end]["comm"] == comm
                assert lives_in(entry[end]["pid"], home)
                assert entry[end]["cgroup"] == f"/{home.group.name}"
                assert entry[end]["netns"] == os.stat(f"/proc/{home.first}/ns/net").st_ino
        capture.end()
    assert "lost" not in capture.said
