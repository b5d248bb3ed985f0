"""The backend ``ebpf`` on calls of real servers and clients, in network namespaces of their own.

Captures run in processes of their own, since what a capturing process does itself is left out.
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
from pathlib import Path
from typing import Any

import pytest
from netlab import PATIENCE, Lab, lab
from nginx_conf import configure
from servers import ready

from kshark.backends._cgroups import hierarchies
from kshark.backends._hooks import MOVES
from kshark.backends._libbpf import has_tracepoints
from kshark.backends._netns import inside

__all__ = ["lab"]
pytestmark = pytest.mark.live

Entry = dict[str, Any]
KSHARK = [sys.executable, "-m", "kshark", "run"]
SERVED = """  sendfile on;
  server { listen 80; listen [::]:80; location /small { return 200 'small\\n'; } }"""
HOOKS = ("", ",hooks=tracepoint")  # the best way of this kernel, and the one of all kernels
NOISE = {"time", "latency_ns", "duration_ns", "backend", "iface", "id"}


class Capture:
    """``kshark run``, and what it has found."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self.process, self._file = process, file
        self.said = ""

    @property
    def entries(self) -> list[Entry]:
        """Those of whole lines: the last one may be being written."""
        lines = self._file.read_text().splitlines(keepends=True) if self._file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self) -> None:
        """As a user ends it."""
        self.process.send_signal(signal.SIGINT)
        _, rest = self.process.communicate(timeout=30)
        self.said += rest


@contextlib.contextmanager
def capturing(tmp_path: Path, backend: str, hint: str, *words: str) -> Iterator[Capture]:
    """A capture that has begun: it says so by `hint`. Ends at the end, unless it was ended."""
    file = tmp_path / f"{backend.partition(':')[0]}.ndjson"
    process = subprocess.Popen(
        [*KSHARK, "--backend", backend, "--sink", f"jsonl:{file}", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    capture = Capture(process, file)
    try:
        assert process.stderr is not None
        while hint not in capture.said:
            line = process.stderr.readline()
            assert line, capture.said
            capture.said += line
        yield capture
        if process.poll() is None:
            capture.end()
            assert process.returncode == 0, capture.said
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def ebpf(
    tmp_path: Path, space: str, *words: str, options: str = ""
) -> contextlib.AbstractContextManager[Capture]:
    return capturing(tmp_path, f"ebpf:,netns={space}{options}", "hooks: ", *words)


class Site:
    """nginx, Redis and dnsmasq in one namespace, clients there and in another."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.clients, self.servers = lab.space(), lab.space()
        lab.veth(self.clients, "va", self.servers, "vb", 1)
        for space, link, address in (
            (self.clients, "va", "fd00::1/64"),
            (self.servers, "vb", "fd00::2/64"),
            (self.servers, "lo", "::1/128"),
        ):
            with inside(space):
                Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("0")
            lab.ip("addr", "replace", address, "dev", link, "nodad", space=space)
        self.nginx = configure(folder, SERVED).split()
        (folder / "64k").write_bytes(os.urandom(32_768).hex().encode())

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.servers, *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, *command: str, space: str = "", check: bool = True) -> bytes:
        words = ["ip", "netns", "exec", space or self.servers, *command]
        done = subprocess.run(words, capture_output=True, timeout=30)
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout

    def traffic(self, space: str, host: str) -> None:
        url = f"http://[{host}]" if ":" in host else f"http://{host}"
        for path in ("small", "64k", "nosuch"):
            got = self.ask("curl", "-sg", f"{url}/{path}", space=space)
            if (self.folder / path).exists():
                assert got == (self.folder / path).read_bytes(), "passive: nothing is lost"
        for words in ("SET k v", "GET k", "LPUSH l 1 2 3", "NOSUCH"):
            self.ask("redis-cli", "-h", host, *words.split(), space=space)
        for kind in ("A", "AAAA"):
            self.ask("dig", f"@{host}", "+tries=1", kind, "known.test", space=space)
        self.ask("dig", f"@{host}", "+tcp", "A", "known.test", space=space)


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    made = Site(lab, tmp_path)
    dns = ["dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "--user=root", "--pid-file="]
    redis = ["redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", ""]
    processes = [
        made.start(*made.nginx),
        made.start(*redis, "--dir", str(tmp_path)),
        made.start(*dns, "--address=/known.test/192.0.2.7", "--address=/known.test/2001:db8::7"),
    ]
    try:
        ready(lambda: made.ask("curl", "-s", "http://127.0.0.1/small", check=False) == b"small\n")
        ready(lambda: b"PONG" in made.ask("redis-cli", "PING", check=False))
        dig = ("dig", "@127.0.0.1", "+tries=1", "+time=1", "known.test")
        ready(lambda: b"NOERROR" in made.ask(*dig, check=False))
        yield made
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def rows(entries: list[Entry]) -> list[str]:
    """Entries without what has to do with how they were captured."""
    found = []
    for entry in entries:
        if entry["protocol"] == "icmp":
            continue
        for half in (entry, entry["request"] or {}, entry["response"] or {}):
            for key in NOISE & set(half):
                del half[key]
        for end in ("src", "dst"):
            for key in ("pid", "comm", "tid", "cgroup", "netns"):
                entry[end].pop(key, None)
        found.append(json.dumps(entry, sort_keys=True))
    return sorted(found)


CALLS = 3 + 4 + 3
"""Entries of `Site.traffic`."""


def settled(capture: Capture, count: int) -> list[Entry]:
    ready(lambda: len(capture.entries) >= count)
    time.sleep(0.3)  # one too many
    return capture.entries


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("hooks", HOOKS)
def test_both_ends_here_are_one_entry_with_both_processes(
    site: Site, tmp_path: Path, host: str, hooks: str
) -> None:
    with ebpf(tmp_path, site.servers, options=hooks) as capture:
        site.traffic(site.servers, host)
        found = settled(capture, CALLS)
        assert len(found) == CALLS, [(e["protocol"], e["request"]) for e in found]
    servers = {"http": "nginx", "redis": "redis-server", "dns": "dnsmasq"}
    clients = {"http": "curl", "redis": "redis-cli", "dns": "dig"}
    for entry in found:
        assert entry["src"]["comm"] == clients[entry["protocol"]], entry
        assert entry["dst"]["comm"] == servers[entry["protocol"]], entry
        assert entry["src"]["pid"]
        assert entry["dst"]["pid"]
        assert entry["src"]["ip"] == entry["dst"]["ip"] == host
        assert (
            entry["src"]["netns"]
            == entry["dst"]["netns"]
            == os.stat(f"/run/netns/{site.servers}").st_ino
        )
        assert entry["src"]["tid"]
        assert entry["src"]["cgroup"].startswith("/"), "of a process that has ended"
        assert not entry["midstream"]
    assert "lost" not in capture.said


@pytest.mark.parametrize("host", ["10.1.0.2", "fd00::2"])
@pytest.mark.parametrize("hooks", HOOKS)
def test_the_same_as_packets_show(site: Site, tmp_path: Path, host: str, hooks: str) -> None:
    """Only the servers' namespace is watched: the other end is a stranger's."""
    packets = ["--netns", site.servers]
    with (
        capturing(tmp_path, "af_packet", "af_packet on", *packets) as other,
        ebpf(tmp_path, site.servers, options=hooks) as capture,
    ):
        time.sleep(0.5)  # af_packet says its name before it is open
        site.traffic(site.clients, host)
        found = settled(capture, CALLS)
        expected = settled(other, CALLS)
    assert all(e["dst"]["comm"] and not e["src"].get("comm") for e in found)
    mine, theirs = rows(found), rows(expected)
    for body in (mine, theirs):  # the bytes of sendfile are a gap to calls
        body[:] = [row for row in body if "/64k" not in row]
    assert mine == theirs
    for entries, gap in ((found, 65_536), (expected, 0)):
        (large,) = [e for e in entries if e["request"]["target"] == "/64k"]
        assert large["gap_bytes"] == gap
        assert large["response"]["size"] + gap > 65_536


@pytest.mark.parametrize("hooks", HOOKS)
def test_rare_calls(lab: Lab, tmp_path: Path, hooks: str) -> None:
    space = lab.space()
    with ebpf(tmp_path, space, options=hooks) as capture:
        script = str(Path(__file__).parent / "odd_calls.py")
        words = ["ip", "netns", "exec", space, sys.executable, script, "5300"]
        subprocess.run(words, check=True, timeout=PATIENCE)
        found = settled(capture, 5)
    shown = sorted((e["protocol"], e["request"]["target"], e["outcome"]) for e in found)
    questions = [("dns", f"{name}.test", "ok") for name in "abcd"]
    assert shown == [*questions, ("http", "/peek", "ok")]
    assert all(e["gap_bytes"] == 0 and e["src"]["ip"] == "127.0.0.1" for e in found)


@pytest.mark.parametrize("hooks", HOOKS)
def test_either_end_may_tell_of_a_datagram_and_one_does(
    lab: Lab, tmp_path: Path, hooks: str
) -> None:
    """Both at the same time, on two processors: every question once, and before its answer."""
    space, count = lab.space(), 2_000
    with ebpf(tmp_path, space, options=hooks) as capture:
        script = str(Path(__file__).parent / "ask_dns.py")
        words = ["ip", "netns", "exec", space, sys.executable, script, "5300", str(count)]
        subprocess.run(words, check=True, timeout=60)
        found = settled(capture, count)
    assert {e["outcome"] for e in found} == {"ok"}
    assert len(found) == count
    assert "lost" not in capture.said


def test_a_ring_too_small_is_counted_and_the_books_balance(site: Site, tmp_path: Path) -> None:
    """A reader that is stopped for a while: what did not fit is lost, counted, and a gap where it was."""
    (tmp_path / "many").write_bytes(b"x" * 10_000_000)
    with ebpf(tmp_path, site.servers, options=",ring_bytes=256KiB") as capture:
        site.ask("redis-cli", "SET", "k", "v")
        ready(lambda: capture.entries)
        capture.process.send_signal(signal.SIGSTOP)
        site.ask("redis-benchmark", "-n", "5000", "-c", "5", "-q", "-t", "set", "-d", "1000")
        capture.process.send_signal(signal.SIGCONT)

        def seen_again() -> bool:
            """Whether the ring has room again: until then what is asked is lost as well."""
            site.ask("redis-cli", "SET", "last", "v")
            return any((e["request"] or {}).get("target") == "last" for e in capture.entries)

        ready(seen_again)
        capture.end()
    assert capture.process.returncode == 1, capture.said
    assert "ring" in capture.said
    assert "lost" in capture.said


def test_filters_are_the_kernels(site: Site, tmp_path: Path) -> None:
    for options, protocols in ((",ports=6379", {"redis"}), (",comms=curl", {"http"})):
        with ebpf(tmp_path, site.servers, options=options) as capture:
            site.traffic(site.servers, "127.0.0.1")
            settled(capture, 3)
            assert {e["protocol"] for e in capture.entries} == protocols
        (tmp_path / "ebpf.ndjson").unlink()


def test_processes_of_a_control_group_alone(site: Site, tmp_path: Path) -> None:
    """Also of one below it; the entry names it."""
    place = max(hierarchies().items())[1]
    outer = Path(place, f"kshark-test-{os.getpid()}")
    inner = outer / "inner"
    inner.mkdir(parents=True)
    try:
        with ebpf(tmp_path, site.servers, options=f",cgroups=/{outer.name}") as capture:
            site.ask("redis-cli", "SET", "outside", "v")
            asks = f"ip netns exec {site.servers} redis-cli SET inside v"
            joins = f"echo $$ >{inner}/cgroup.procs && exec {asks}"
            subprocess.run(["sh", "-c", joins], check=True, capture_output=True)
            settled(capture, 1)
            (found,) = capture.entries
        assert found["request"]["target"] == "inside"
        assert found["src"]["cgroup"] == f"/{outer.name}/inner"
    finally:
        ready(lambda: not (inner / "cgroup.procs").read_text())
        inner.rmdir()
        outer.rmdir()


CAPABILITIES = "cap_bpf,cap_perfmon,cap_dac_read_search"


def test_no_more_capabilities_than_the_docs_say(site: Site, tmp_path: Path) -> None:
    """As a user who is not root, with exactly those; without one of them a line says which."""
    mounted = Path("/sys/kernel/tracing/events").is_dir()
    wanted = CAPABILITIES + ("" if mounted else ",cap_sys_admin")
    with armed(wanted, tmp_path) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while "hooks: " not in "".join(lines[-1:]):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
    lacks = wanted.split(",")[-1]
    with armed(wanted.removesuffix(f",{lacks}"), tmp_path) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"needs {lacks.upper()}: run with sudo, or once: sudo setcap" in said


def test_at_sockets_it_needs_neither_tracefs_nor_root(site: Site, tmp_path: Path) -> None:
    if not has_tracepoints(MOVES):
        pytest.skip("this kernel has no sock_send_length: Linux 6.3")
    with armed("cap_bpf,cap_perfmon,cap_net_admin", tmp_path) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while "hooks: " not in "".join(lines[-1:]):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
    assert "hooks: sockets (tracepoint)" in lines[-1] or "hooks: functions" in lines[-1]


@contextlib.contextmanager
def armed(capabilities: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A capture by user nobody with some capabilities."""
    given = ",".join(f"+{name.removeprefix('cap_')}" for name in capabilities.split(","))
    bounds = [
        f"--inh-caps=-all,{given}",
        f"--ambient-caps=-all,{given}",
        f"--bounding-set=-all,{given}",
    ]
    who = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    words = [*KSHARK, "--backend", "ebpf:,ports=6379", "--sink", "jsonl:-"]
    command = ["setpriv", *who, *bounds, *words]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_an_open_connection_is_joined_and_named(site: Site, tmp_path: Path) -> None:
    words = ["ip", "netns", "exec", site.servers, "redis-cli"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"PING\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"PONG\n"
        with ebpf(tmp_path, site.servers) as capture:
            client.stdin.write(b"GET nothing\n")
            client.stdin.flush()
            assert client.stdout.readline()
            time.sleep(0.3)
            capture.end()  # whose answer comes first is in doubt until then
            (found,) = capture.entries
        client.stdin.close()
    assert (found["src"]["comm"], found["dst"]["comm"]) == ("redis-cli", "redis-server")
    assert found["midstream"]
    assert found["request"]["target"] == "nothing"


def test_nothing_stays_after_a_kill(site: Site, tmp_path: Path) -> None:
    before = programs()
    with ebpf(tmp_path, site.servers) as capture:
        ours = programs() - before
        assert ours
        capture.process.kill()
        capture.process.wait()
        ready(lambda: not programs() & ours)


def programs() -> set[int]:
    """Numbers of the programs in the kernel that only this backend has."""
    tool = subprocess.run(
        ["/usr/sbin/bpftool", "-j", "prog", "show"], capture_output=True, check=True
    )
    ours = ("enter_splice", "on_taken")  # one of either way to hook calls
    return {one["id"] for one in json.loads(tool.stdout) if one.get("name") in ours}
