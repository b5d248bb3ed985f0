"""The same traffic of real servers, through every way to capture: the entries are the same.

But for what docs/capture.md says that one of them cannot see.

Servers live in one namespace, clients in another; there is loopback traffic, too. All of them are in a cgroup of
their own, so that ``cgroup`` sees nothing else of this machine.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from netlab import Lab, lab
from servers import LARGE, SERVERS, Site, ready, serving
from test_cgroup_live import group

from kshark import limits

__all__ = ["group", "lab"]
pytestmark = pytest.mark.live

Entry = dict[str, Any]
WARM, LAST = "warm.test", "last.test"
KSHARK = [sys.executable, "-m", "kshark"]
NOISE = {"time", "latency_ns", "duration_ns", "backend", "iface", "id"}
COMMS = {
    80: (["nginx"], ["curl"]),
    53: (["dnsmasq"], ["dig"]),
    6379: (["redis-server"], ["redis-cli", "redis-benchmark"]),
    8080: (["nghttpd"], ["h2load"]),
    50051: (["python"], ["python"]),
    5432: (["postgres"], ["psql"]),
}
"""By the server's port: what servers and clients are called."""
MARK_HOSTS = (SERVERS[4], "127.0.0.1")


@pytest.fixture
def site(lab: Lab, group: Path, tmp_path: Path) -> Iterator[Site]:
    with serving(lab, group, tmp_path) as made:
        yield made


def mark(site: Site, name: str) -> None:
    """Questions over the veth and over loopback that show how far a capture has come."""
    for host, space in zip(MARK_HOSTS, (site.clients, site.servers), strict=True):
        site.ask("dig", f"@{host}", "+tries=1", "+time=1", "A", name, space=space, check=False)


def told(file: Path, name: str) -> int:
    """Over how many ways a capture has seen the questions for `name`."""
    lines = file.read_text().splitlines() if file.exists() else []
    marks = [line for line in lines if f'"{name}"' in line]
    return sum(any(f'"{host}"' in line for line in marks) for host in MARK_HOSTS)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A capture in a process of its own, ended as a user would end it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(20) == 0, said
        assert "lost" not in said, said
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@contextlib.contextmanager
def running_tcpdump(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def captured(site: Site, tmp_path: Path, more: bool) -> dict[str, list[Entry]]:
    """The traffic's entries, by the way they were captured."""
    names = ("af_packet", "tcx", "clsact", "cgroup", "ebpf")
    files = {name: tmp_path / f"{name}.ndjson" for name in names}
    links = ["--netns", site.servers]
    options = {
        "af_packet": ["--backend", "af_packet", *links],
        "tcx": ["--backend", "tc:,hook=tcx", *links],
        "clsact": ["--backend", "tc:,hook=clsact", *links],
        "cgroup": ["--backend", f"cgroup:{site.group.name}"],
        "ebpf": ["--backend", f"ebpf:,netns={site.servers},payload=64KiB"],
    }
    pcaps = {link: tmp_path / f"{link}.pcap" for link in ("lo", "vb")}
    with contextlib.ExitStack() as stack:
        for link, pcap in pcaps.items():
            tcpdump = f"ip netns exec {site.servers} tcpdump -U --immediate-mode -s 0 -B 65536 -i {link} -w {pcap}"
            stack.enter_context(running_tcpdump(tcpdump.split()))
        for name in names:
            sink = ["--sink", f"jsonl:{files[name]}"]
            stack.enter_context(running(*KSHARK, "run", *options[name], *sink))

        def begun() -> bool:
            """Whether all of them see the veth and loopback."""
            mark(site, WARM)
            return all(told(file, WARM) == 2 for file in files.values()) and all(
                pcap.exists() and pcap.stat().st_size > 100 for pcap in pcaps.values()
            )

        ready(begun, 30)
        time.sleep(0.1)
        since = datetime.now(UTC).isoformat()
        site.traffic()
        if more:
            site.more()
        mark(site, LAST)
        ready(lambda: all(told(file, LAST) == 2 for file in files.values()), 30)
        ready(lambda: all(LAST[:4].encode() in pcap.read_bytes() for pcap in pcaps.values()))
    files["pcap"] = tmp_path / "pcap.ndjson"
    reads = [word for pcap in pcaps.values() for word in ("--read", str(pcap))]
    read = [*KSHARK, "run", *reads, "--sink", f"jsonl:{files['pcap']}"]
    subprocess.run(read, check=True, capture_output=True)
    return {name: entries(file, since) for name, file in files.items()}


def entries(path: Path, since: str) -> list[Entry]:
    """The entries in a file from some time on, without what has to do with how and when they were captured."""
    found = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry["time"] < since or entry["protocol"] == "icmp" or LAST in line:
            continue  # neighbour discovery: the kernel asks when it likes, and no socket gets the answers
        for half in (entry, entry["request"] or {}, entry["response"] or {}):
            for key in NOISE & set(half):
                del half[key]
        found.append(entry)
    return found


def rows(found: list[Entry]) -> Counter[str]:
    return Counter(json.dumps(entry, sort_keys=True) for entry in found)


def whole(found: list[Entry]) -> list[Entry]:
    """The entries of calls as packets give them: see docs/capture.md.

    Of a body by sendfile the sender has no bytes. Over loopback its receiver, if it is quicker, has some.
    """
    for entry in found:
        sent = (entry["request"] or {}).get("target", "").lstrip("/")
        if entry["protocol"] == "http" and sent in LARGE:
            unseen = entry.pop("gap_bytes")
            local = entry["dst"]["ip"] in ("127.0.0.1", "::1")
            assert (0 if local else LARGE[sent]) <= unseen <= LARGE[sent]
            assert entry["truncated"] == bool(unseen)
            entry["response"]["size"] += unseen
            entry |= {"gap_bytes": 0, "truncated": LARGE[sent] > limits.BODY_KEPT}
    return found


def test_the_same_traffic_gives_the_same_entries(site: Site, tmp_path: Path) -> None:
    same(captured(site, tmp_path, more=False), {"http": 28, "redis": 16, "dns": 12})


@pytest.mark.slow
def test_so_it_does_with_more_servers_and_load(site: Site, tmp_path: Path) -> None:
    site.start_more()
    kinds = {"http": 28, "dns": 12, "http2": 400, "grpc": 64, "tcp": 8}
    same(captured(site, tmp_path, more=True), kinds)


def same(found: dict[str, list[Entry]], kinds: dict[str, int]) -> None:
    expected = rows(found.pop("af_packet"))
    seen = Counter(json.loads(row)["protocol"] for row in expected.elements())
    assert kinds.items() <= seen.items(), seen
    for name in ("tcx", "clsact", "cgroup", "ebpf"):
        check_names(name, found[name])
    calls = found.pop("ebpf")
    for name, entries in found.items():
        differ(name, rows(entries), expected)
    differ("ebpf", rows(whole(calls)), expected)


def check_names(name: str, entries: list[Entry]) -> None:
    """Processes have their names, and are taken out of the entries; `ebpf` was told to look at one namespace."""
    for entry in entries:
        port = next(entry[end]["port"] for end in ("dst", "src") if entry[end]["port"] in COMMS)
        for end in ("src", "dst"):
            named, pid = entry[end].pop("comm", ""), entry[end].pop("pid", None)
            for key in ("tid", "cgroup", "netns"):
                entry[end].pop(key, None)
            wanted = COMMS[port][entry[end]["port"] != port]
            if name == "ebpf" and entry[end]["ip"] in ("10.1.0.1", "fd00::1"):
                assert not named
            else:
                assert pid
                assert named in wanted, (name, entry)


def differ(name: str, found: Counter[str], expected: Counter[str]) -> None:
    more, less = list((found - expected).elements()), list((expected - found).elements())
    lines = "\n".join([f"+ {row}" for row in more[:9]] + [f"- {row}" for row in less[:9]])
    assert not more + less, f"{name}: {len(more)} more, {len(less)} less\n{lines}"
