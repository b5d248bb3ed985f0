"""Load on the backends whose programs are in the kernel: storms, idle crowds, long bodies, readers that are too slow,
and ends that are none. Nothing crashes, the books balance, and what is lost is counted and has its place.

Nothing here is a matter of time: a capture has seen all when it has told of a last call.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Lab, lab
from servers import LARGE, Site, ready, serving
from test_cgroup_live import group

__all__ = ["group", "lab"]
pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.load]

Entry = dict[str, Any]
PATIENCE = 600
"""Seconds for 100,000 connections on a machine that does other things as well."""
QUIET = 30
"""Seconds without an entry after which no more will come: those that wait for an answer come until then."""
STORM, CROWD, BODIES = 100_000, 10_000, 1_000
LEAST = {"ebpf": "256KiB", "tc": "512KiB", "cgroup": "512KiB"}
LOST_IN = {"ebpf": "ring", "tc": "kernel", "cgroup": "kernel"}
MANY_IDLE = """
import socket, sys
held = []
for line in sys.stdin:
    for _ in range(int(line)):
        held.append(socket.create_connection(("127.0.0.1", 6379)))
        held[-1].sendall(b"GET idle%d\\r\\n" % len(held))
        if len(held) % 250 == 0:
            assert {one.recv(100) for one in held[-250:]} == {b"$-1\\r\\n"}
    print("ok", flush=True)
for at in range(0, len(held), 250):
    for one in held[at : at + 250]:
        one.sendall(b"GET again\\r\\n")
    assert {one.recv(100) for one in held[at : at + 250]} == {b"$-1\\r\\n"}
"""
EXECUTED = """
exec 3<>/dev/tcp/127.0.0.1/80
printf 'GET /small?%s HTTP/1.0\\r\\n\\r\\n' "$1" >&3
exec cat <&3
"""


class Capture:
    """``kshark run`` with one backend on loopback of the servers, and what it has found."""

    def __init__(self, name: str, site: Site, *options: str) -> None:
        self.name, self.site = name, site
        self.file = site.folder / f"{name}.ndjson"
        target = {
            "ebpf": f"ebpf:,netns={site.servers}",
            "tc": f"tc:lo,netns={site.servers}",
            "cgroup": f"cgroup:{site.group.name}",
        }[name]
        command = [sys.executable, "-m", "kshark", "run", "--sink", f"jsonl:{self.file}"]
        self.log = site.folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--backend", ",".join((target, *options))], stderr=log
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def entries(self) -> list[Entry]:
        """But for an answer whose question came before the capture."""
        return [entry for entry in map(json.loads, self._lines()) if entry["request"]]

    def sees(self, word: str) -> None:
        """Ask Redis for a key of this name until the capture tells of it."""

        def told() -> bool:
            self.site.ask("redis-cli", "GET", word, space=self.site.servers)
            return any(f'"{word}"' in line for line in self._lines())

        ready(told, PATIENCE)

    def settles(self, word: str, count: int) -> Counter[str]:
        """Wait for so many entries with this word, or until no more come; gives their outcomes, after the end."""
        seen, since = -1, time.monotonic()
        while seen < count and time.monotonic() < since + QUIET:
            now = sum(word in line for line in self._lines())
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(2)
        self.end()
        return Counter(e["outcome"] for e in self.entries if word in json.dumps(e))

    def end(self) -> None:
        """As a user ends it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        assert self.process.returncode in (0, 1), self.said
        assert (self.process.returncode == 1) == bool(self.lost), self.said
        for word in ("Traceback", "do not balance", "unsound"):
            assert word not in self.said, self.said

    @property
    def lost(self) -> int:
        """Packets that were lost in the kernel, as the last line says."""
        found = re.search(r"([\d,]+) lost", self.said.splitlines()[-1])
        return int(found[1].replace(",", "")) if found else 0

    def _lines(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []


@contextlib.contextmanager
def capturing(name: str, site: Site, *options: str) -> Iterator[Capture]:
    """A capture that has begun; the test ends it."""
    capture = Capture(name, site, *options)
    try:
        capture.sees("begun")
        yield capture
    finally:
        capture.process.kill()
        capture.process.wait()


@pytest.fixture
def site(lab: Lab, group: Path, tmp_path: Path) -> Iterator[Site]:
    with serving(lab, group, tmp_path) as made:
        made.ask("redis-cli", "CONFIG", "SET", "maxclients", "15000", space=made.servers)
        yield made


backends = pytest.mark.parametrize("name", list(LEAST))


@backends
def test_a_storm_of_connections(site: Site, name: str) -> None:
    with capturing(name, site, "ring_bytes=512MiB") as capture:
        words = ["-n", str(STORM), "-k", "0", "-c", "400", "-q", "-t", "ping_inline"]
        site.ask("redis-benchmark", *words, space=site.servers, timeout=PATIENCE)
        found = capture.settles('"PING"', STORM)
    assert found == {"ok": STORM}, capture.said
    assert not capture.lost, capture.said
    names = Counter(
        (e["src"].get("comm"), e["dst"].get("comm"))
        for e in capture.entries
        if e["request"]["verb"] == "PING"
    )
    assert names == {("redis-benchmark", "redis-server"): STORM}


@backends
def test_a_crowd_that_is_idle(site: Site, name: str) -> None:
    """Half of it is there already; in the end each of them says something."""
    words = ["ip", "netns", "exec", site.servers, sys.executable, "-c", MANY_IDLE]
    with (
        site.member(),
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd,
    ):
        assert crowd.stdin is not None
        assert crowd.stdout is not None

        def more() -> None:
            crowd.stdin.write(f"{CROWD // 2}\n")  # type: ignore[union-attr]
            crowd.stdin.flush()  # type: ignore[union-attr]
            assert crowd.stdout.readline() == "ok\n"  # type: ignore[union-attr]

        more()
        with capturing(name, site) as capture:
            more()
            crowd.stdin.close()
            assert crowd.wait(PATIENCE) == 0
            capture.settles('"again"', CROWD)
    found = capture.entries
    assert not capture.lost, capture.said
    again = [e for e in found if e["request"]["target"] == "again"]
    assert Counter((e["outcome"], e["midstream"]) for e in again) == {
        ("ok", True): CROWD // 2,
        ("ok", False): CROWD // 2,
    }
    idle = {e["request"]["target"] for e in found} - {"again", "begun"}
    assert idle == {f"idle{n + 1}" for n in range(CROWD // 2, CROWD)}
    assert {e["dst"].get("comm") for e in again} == {"redis-server"}
    assert {e["src"].get("pid") for e in again} == {crowd.pid}


def load(site: Site, path: str, count: int = BODIES) -> None:
    words = ["h2load", "--h1", "-n", str(count), "-c", str(min(count, 8))]
    said = site.ask(*words, f"http://127.0.0.1{path}", space=site.servers, timeout=PATIENCE)
    assert f"{count} succeeded" in said.decode()


@backends
def test_bodies_of_64_kib_are_whole(site: Site, name: str) -> None:
    whole = ["payload=64KiB"] if name == "ebpf" else []
    with capturing(name, site, "ring_bytes=1GiB", *whole) as capture:
        load(site, "/copied/64k")
        assert capture.settles("/copied/64k", BODIES) == {"ok": BODIES}
    assert not capture.lost, capture.said
    found = [e for e in capture.entries if e["request"]["target"] == "/copied/64k"]
    sizes = {(e["gap_bytes"], e["response"]["size"] > LARGE["64k"]) for e in found}
    assert sizes == {(0, True)}


@backends
def test_a_ring_that_is_too_small(site: Site, name: str) -> None:
    """Every body that is told is whole, or says how much of it is missing."""
    with capturing(name, site, f"ring_bytes={LEAST[name]}") as capture:
        whole = size_of(site, capture)
        load(site, "/copied/64k")
        capture.sees("last")
        capture.end()
    assert capture.lost, capture.said
    assert LOST_IN[name] in capture.said
    check_places(capture, whole)


@backends
def test_a_reader_that_is_stopped(site: Site, name: str) -> None:
    with capturing(name, site, "ring_bytes=1MiB") as capture:
        whole = size_of(site, capture)
        capture.process.send_signal(signal.SIGSTOP)
        load(site, "/copied/64k", 200)
        capture.process.send_signal(signal.SIGCONT)
        capture.sees("last")
        capture.end()
    assert capture.lost, capture.said
    check_places(capture, whole)


def size_of(site: Site, capture: Capture) -> int:
    """Bytes of the answer, head and body, while nothing is lost."""
    load(site, "/copied/64k", 1)
    ready(lambda: "/copied/64k" in capture.file.read_text())
    (first,) = [e for e in capture.entries if e["request"]["target"] == "/copied/64k"]
    size: int = first["response"]["size"] + first["gap_bytes"]
    return size


def check_places(capture: Capture, whole: int) -> None:
    """Of an answer whose head was seen, what was captured and what was lost are the whole."""
    found = [
        e
        for e in capture.entries
        if e["request"] and e["request"]["target"] == "/copied/64k" and e["outcome"] == "ok"
    ]
    assert found
    wrong = [e for e in found if e["response"]["size"] + e["gap_bytes"] != whole]
    assert not wrong, (len(wrong), len(found), wrong[:3])


@backends
def test_processes_that_become_others(site: Site, name: str) -> None:
    """A connection made by bash, read by cat; and clients that are killed while they wait."""
    turns = 200
    with capturing(name, site) as capture:
        for turn in range(turns):
            site.ask("bash", "-c", EXECUTED, "-", str(turn), space=site.servers)
            if turn % 10 == 0:
                waits = site.start("redis-cli", "BLPOP", "never", "0")
                waits.kill()
        ready(lambda: sum("/small?" in line for line in capture._lines()) >= turns, PATIENCE)
        capture.end()
    assert not capture.lost, capture.said
    found = [e for e in capture.entries if "/small?" in e["request"]["target"]]
    assert Counter(e["outcome"] for e in found) == {"ok": turns}
    assert {e["src"].get("comm") for e in found} <= {"bash", "cat"}


@backends
def test_killed_it_leaves_nothing(site: Site, name: str) -> None:
    with capturing(name, site) as capture:
        ours = held(capture.process.pid)
        assert ours["prog_id"]
        assert ours["link_id"] or name == "ebpf"
        load(site, "/64k", 10)
        capture.process.kill()
        capture.process.wait()
    ready(lambda: not ours["prog_id"] & listed("prog"))
    ready(lambda: not ours["link_id"] & listed("link"))


def held(pid: int) -> dict[str, set[int]]:
    """The numbers of the programs, maps and links that a process has."""
    found: dict[str, set[int]] = {"prog_id": set(), "map_id": set(), "link_id": set()}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            for line in file.read_text().splitlines():
                key, _, value = line.partition(":")
                if key in found:
                    found[key].add(int(value))
    return found


def listed(kind: str) -> set[int]:
    """The numbers of all programs, maps or links in the kernel."""
    tool = ["/usr/sbin/bpftool", "-j", kind, "show"]
    said = subprocess.run(tool, capture_output=True, check=True).stdout
    return {one["id"] for one in json.loads(said)}
