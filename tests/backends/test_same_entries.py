"""The same traffic of real servers, through every way to capture packets: the entries are the same.

Servers live in one namespace, clients in another; there is loopback traffic, too. All of them are in a cgroup of
their own, so that ``cgroup`` sees nothing else of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from netlab import PATIENCE, Lab, lab
from test_cgroup_live import group, within

from kshark.backends._netns import inside

__all__ = ["group", "lab"]
pytestmark = pytest.mark.live

SERVERS = {4: "10.1.0.2", 6: "fd00::2"}
WARM, LAST = "warm.test", "last.test"
NGINX = """
user root; worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; root {folder};
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 80; listen [::]:80; location /small {{ return 200 'small\\n'; }} }}
}}
"""


class Site:
    """The servers, and how to ask them."""

    def __init__(self, lab: Lab, group: Path, folder: Path) -> None:
        self._group = group
        self.folder = folder
        self.clients, self.servers = lab.space(), lab.space()
        lab.veth(self.clients, "va", self.servers, "vb", 1)
        for space, link, address in (
            (self.clients, "va", "fd00::1/64"),
            (self.servers, "vb", "fd00::2/64"),
            (self.servers, "lo", "::1/128"),
        ):
            with inside(space), open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w") as knob:
                knob.write("0")
            words = ["ip", "-n", space, "addr", "replace", address, "dev", link, "nodad"]
            subprocess.run(words, check=True, capture_output=True)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        for name, size in (("64k", 65_536), ("1m", 1 << 20)):
            (folder / name).write_bytes(os.urandom(size // 2).hex().encode())

    def start(self, *command: str, space: str = "") -> subprocess.Popen[bytes]:
        with within(self._group):
            return subprocess.Popen(
                ["ip", "netns", "exec", space or self.servers, *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def ask(self, *command: str, space: str = "", check: bool = True) -> bytes:
        with within(self._group):
            done = subprocess.run(
                ["ip", "netns", "exec", space or self.clients, *command],
                capture_output=True,
                timeout=30,
            )
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout

    def traffic(self) -> None:
        """What clients of all kinds ask, over IPv4 and IPv6, from the other namespace and over loopback."""
        for space, hosts in (
            (self.clients, list(SERVERS.values())),
            (self.servers, ["127.0.0.1", "::1"]),
        ):
            for host in hosts:
                url = f"http://[{host}]" if ":" in host else f"http://{host}"
                for path in ("small", "64k", "1m", "nosuch"):
                    got = self.ask("curl", "-sg", f"{url}/{path}", space=space)
                    if (self.folder / path).exists():
                        assert got == (self.folder / path).read_bytes(), "passive: nothing is lost"
                upload = ["curl", "-sg", "-T", str(self.folder / "64k"), f"{url}/small?up"]
                self.ask(*upload, "-H", "Expect:", space=space)
                for words in ("SET k v", "GET k", "LPUSH l 1 2 3", "NOSUCH"):
                    self.ask("redis-cli", "-h", host, *words.split(), space=space)
                for kind in ("A", "AAAA"):
                    self.ask("dig", f"@{host}", "+tries=1", kind, "known.test", space=space)
                self.ask("dig", f"@{host}", "+tcp", "A", "known.test", space=space)

    def mark(self, name: str) -> None:
        """Questions over the veth and over loopback that show how far a capture has come."""
        for host, space in ((SERVERS[4], self.clients), ("127.0.0.1", self.servers)):
            self.ask("dig", f"@{host}", "+tries=1", "+time=1", "A", name, space=space, check=False)


@pytest.fixture
def site(lab: Lab, group: Path, tmp_path: Path) -> Iterator[Site]:
    """nginx, Redis and dnsmasq, ready."""
    made = Site(lab, group, tmp_path)
    hosts = "--address=/known.test/192.0.2.7 --address=/known.test/2001:db8::7"
    dns = f"dnsmasq -k -C /dev/null -R -h --user=root --pid-file= {hosts} --address=/test/192.0.2.8"
    redis = f"redis-server --bind 0.0.0.0 :: --protected-mode no --save --dir {tmp_path}"
    commands = (
        ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        [word for part in redis.split() for word in ([part, ""] if part == "--save" else [part])],
        dns.split(),
    )
    processes = [made.start(*command) for command in commands]
    try:
        ready(lambda: b"small" in made.ask("curl", "-s", "http://10.1.0.2/small", check=False))
        ready(lambda: b"PONG" in made.ask("redis-cli", "-h", "10.1.0.2", "PING", check=False))
        ready(
            lambda: (
                b"NOERROR" in made.ask("dig", "@10.1.0.2", "+tries=1", "+time=1", WARM, check=False)
            )
        )
        yield made
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        ready(lambda: not (group / "cgroup.procs").read_text())


def ready(done: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


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


KSHARK = [sys.executable, "-m", "kshark"]
NOISE = {"time", "latency_ns", "duration_ns", "backend", "iface", "id"}


def rows(path: Path, since: str) -> list[str]:
    """The entries in a file from some time on, without what has to do with how and when they were captured."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        entry = json.loads(line)
        if entry["time"] < since or entry["protocol"] == "icmp" or LAST in line:
            continue  # neighbour discovery: the kernel asks when it likes, and no socket gets the answers
        for half in (entry, entry["request"] or {}, entry["response"] or {}):
            for key in NOISE & set(half):
                del half[key]
        found.append(json.dumps(entry, sort_keys=True))
    return sorted(found)


def told(file: Path, name: str) -> int:
    """Over how many ways a capture has seen the questions for `name`."""
    lines = file.read_text().splitlines() if file.exists() else []
    marks = [line for line in lines if f'"{name}"' in line]
    return sum(any(f'"{host}"' in line for line in marks) for host in (SERVERS[4], "127.0.0.1"))


def test_the_same_traffic_gives_the_same_entries(site: Site, group: Path, tmp_path: Path) -> None:
    names = ("af_packet", "tcx", "clsact", "cgroup")
    files = {name: tmp_path / f"{name}.ndjson" for name in names}
    links = ["--netns", site.servers]
    options = {
        "af_packet": ["--backend", "af_packet", *links],
        "tcx": ["--backend", "tc:,hook=tcx", *links],
        "clsact": ["--backend", "tc:,hook=clsact", *links],
        "cgroup": ["--backend", f"cgroup:{group.name}"],
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
            site.mark(WARM)
            return all(told(file, WARM) == 2 for file in files.values()) and all(
                pcap.exists() and pcap.stat().st_size > 100 for pcap in pcaps.values()
            )

        ready(begun)
        time.sleep(0.1)
        since = datetime.now(UTC).isoformat()
        site.traffic()
        site.mark(LAST)
        ready(lambda: all(told(file, LAST) == 2 for file in files.values()))
        ready(lambda: all(LAST[:4].encode() in pcap.read_bytes() for pcap in pcaps.values()))
    files["pcap"] = tmp_path / "pcap.ndjson"
    reads = [word for pcap in pcaps.values() for word in ("--read", str(pcap))]
    read = [*KSHARK, "run", *reads, "--sink", f"jsonl:{files['pcap']}"]
    subprocess.run(read, check=True, capture_output=True)
    found = {name: rows(file, since) for name, file in files.items()}
    expected = found.pop("af_packet")
    kinds = [json.loads(row)["protocol"] for row in expected]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"http": 20, "redis": 16, "dns": 12}
    for name, entries in found.items():
        odd = {"more": set(entries) - set(expected), "less": set(expected) - set(entries)}
        assert entries == expected, f"{name}: {odd}"


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
