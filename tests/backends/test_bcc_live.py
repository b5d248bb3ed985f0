"""The backend ``ebpf`` by its second loader: programs that bcc compiles here, without structures of the kernel.

It cannot be asked for a network namespace, so each test has ports of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import need_root
from nginx_conf import configure
from servers import ready
from test_ebpf_live import KSHARK, NOISE, Capture, Entry, capturing

from kshark.backends import _bcc

pytestmark = pytest.mark.live

WEB, STORE = 18_480, 18_479
SERVED = """  sendfile on;
  server {{ listen 127.0.0.1:{web}; listen [::1]:{web}; location /small {{ return 200 'small\\n'; }} }}"""
DESCRIPTORS = """
import os, socket, sys
web = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def ask(fd, target):
    os.write(fd, b"GET /small?%s HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" % target)
    got = b""
    while not got.endswith(b"small\\n"):
        got += os.read(fd, 65536)
ask(web.fileno(), b"first")
other = os.dup(web.fileno())
ask(other, b"duplicate")
file = os.open("file", os.O_CREAT | os.O_WRONLY)
os.dup2(file, other)
os.write(other, b"GET /small?file HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
number = web.fileno()
web.close()
again = os.open("file", os.O_WRONLY)
assert again == number
os.write(again, b"GET /small?again HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
"""
GREETS = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    with server.accept()[0] as client:
        client.sendall(b"hello\\n")
        assert client.recv(100) == b"bye\\n"
"""
GREETED = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    assert server.recv(100) == b"hello\\n"
    server.sendall(b"bye\\n")
"""
ALONE = 'for hidden in $HIDDEN; do mount -t tmpfs none "$hidden"; done; exec "$@"'
BTF, MODULES = "/sys/kernel/btf", "/usr/lib/python3/dist-packages"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """nginx and Redis; gives their folder."""
    need_root()
    if why := _bcc.missing():
        (pytest.fail if "CI" in os.environ else pytest.skip)(why)
    (tmp_path / "64k").write_bytes(b"0123456789abcdef" * 4096)
    redis = f"redis-server --bind 127.0.0.1 --port {STORE} --dir {tmp_path}"
    quiet = subprocess.DEVNULL
    servers = [
        subprocess.Popen(command, stdout=quiet, stderr=quiet)
        for command in (
            configure(tmp_path, SERVED.format(web=WEB)).split(),
            [*redis.split(), "--save", ""],
        )
    ]
    try:
        ready(lambda: ask("curl", "-sf", f"http://127.0.0.1:{WEB}/small") == b"small\n")
        ready(lambda: b"PONG" in store("PING"))
        yield tmp_path
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def ask(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout


def store(*words: str) -> bytes:
    return ask("redis-cli", "-p", str(STORE), *words)


def by_bcc(folder: Path, options: str = "") -> contextlib.AbstractContextManager[Capture]:
    ports = f",ports={WEB},ports={STORE}"
    return capturing(folder, f"ebpf:,hooks=bcc{ports}{options}", "TLS stays closed")


def plain(entries: list[Entry]) -> list[str]:
    """Entries with the processes at their ends, without what differs from one capture to another."""
    found = []
    for entry in entries:
        if (entry["request"] or {}).get("target") == "/64k":
            sizes = entry["response"].pop("size") + entry.pop("gap_bytes"), entry.pop("truncated")
            assert sizes[0] > 65_536, sizes
        for half in (entry, entry["request"] or {}, entry["response"] or {}):
            for key in NOISE & set(half):
                del half[key]
        for end in ("src", "dst"):
            for key in ("cgroup", "netns", "tid"):
                entry[end].pop(key, None)
        found.append(json.dumps(entry, sort_keys=True))
    return sorted(found)


def test_it_tells_what_the_first_loader_tells(site: Path) -> None:
    """Both at once, of the same calls, with the same processes at both ends.

    But for a body by sendfile: the first tells of the sender, the second of the client, who sees it.
    """
    other_folder = site / "other"
    other_folder.mkdir()
    ports = f",ports={WEB},ports={STORE}"
    first = capturing(other_folder, f"ebpf:,hooks=tracepoint,tls=false{ports}", "hooks: ")
    with by_bcc(site) as capture, first as other:
        for host in ("127.0.0.1", "[::1]"):
            for path in ("small", "64k", "nosuch"):
                ask("curl", "-sg", f"http://{host}:{WEB}/{path}")
        for words in ("SET k v", "GET k", "LPUSH l 1 2 3", "NOSUCH"):
            store(*words.split())
        for one in (capture, other):
            ready(lambda one=one: len(one.entries) >= 10)  # type: ignore[misc]
            one.end()
    assert plain(capture.entries) == plain(other.entries)
    assert "hooks: system calls (tracepoint), compiled by bcc" in capture.said
    assert "lost" not in capture.said


def test_servers_alone_and_a_connection_that_was_open(site: Path) -> None:
    words = ["redis-cli", "-p", str(STORE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None

        def say(text: bytes) -> None:
            client.stdin.write(text)  # type: ignore[union-attr]
            client.stdin.flush()  # type: ignore[union-attr]
            assert client.stdout.readline()  # type: ignore[union-attr]

        say(b"PING\n")
        with by_bcc(site, ",comms=redis-server") as capture:
            store("SET", "fresh", "v")
            say(b"GET joined\n")
            say(b"GET again\n")
            capture.end()  # whose answer comes first is in doubt until then
        client.stdin.close()
    found = {e["request"]["target"]: e for e in capture.entries if e["request"]}
    assert set(found) >= {"fresh", "again"}
    assert (found["fresh"]["midstream"], found["again"]["midstream"]) == (False, True)
    assert {e["dst"]["comm"] for e in found.values()} == {"redis-server"}


def test_a_server_that_speaks_first(site: Path) -> None:
    """Which connection it has accepted is known by who asked for it."""
    server, port = site / "greeter", WEB + 1
    server.symlink_to(sys.executable)
    ports = f"ebpf:,hooks=bcc,comms=greeter,ports={port}"
    with capturing(site, ports, "TLS stays closed") as capture:
        with subprocess.Popen([str(server), "-c", GREETS, str(port)], stdout=subprocess.PIPE) as it:
            assert it.stdout is not None
            assert it.stdout.readline()
            subprocess.run([sys.executable, "-c", GREETED, str(port)], check=True, timeout=60)
        capture.end()
    (entry,) = capture.entries
    assert (entry["protocol"], entry["dst"]["comm"]) == ("tcp", "greeter")
    assert (entry["request"]["size"], entry["response"]["size"]) == (4, 6)


def test_a_number_that_is_a_file_now_is_no_connection(site: Path) -> None:
    with by_bcc(site) as capture:
        words = [sys.executable, "-c", DESCRIPTORS, str(WEB)]
        subprocess.run(words, check=True, timeout=60, cwd=site)
        ask("curl", "-s", f"http://127.0.0.1:{WEB}/small?last")
        ready(lambda: "?last" in json.dumps(capture.entries))
        capture.end()
    found = Counter((e["request"]["target"], e["outcome"]) for e in capture.entries)
    targets = ("first", "duplicate", "last")
    assert found == {(f"/small?{name}", "ok"): 1 for name in targets}


def test_under_load_the_books_balance(site: Path) -> None:
    with by_bcc(site, ",ring_bytes=256MiB") as capture:
        words = ["redis-benchmark", "-p", str(STORE), "-n", "5000", "-c", "50", "-k", "0"]
        ask(*words, "-q", "-t", "ping_inline")
        ready(lambda: len(capture.entries) >= 5_000, 60)
        capture.end()
    calls = [e for e in capture.entries if e["request"]["verb"] == "PING"]
    assert Counter(e["outcome"] for e in calls) == {"ok": 5_000}
    assert {(e["src"]["comm"], e["dst"]["comm"]) for e in calls} == {
        ("redis-benchmark", "redis-server")
    }
    assert "do not balance" not in capture.said


def hidden(*paths: str) -> list[str]:
    """kshark where these folders are empty."""
    return ["unshare", "-m", "env", f"HIDDEN={' '.join(paths)}", "sh", "-c", ALONE, "sh", *KSHARK]


def test_it_is_taken_where_the_kernel_has_no_btf(site: Path) -> None:
    file = site / "out"
    words = [*hidden(BTF), "--backend", f"ebpf:,ports={STORE}", "--sink", f"jsonl:{file}"]
    kshark = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert kshark.stderr is not None
    try:
        said = ""
        while "TLS stays closed" not in said:
            line = kshark.stderr.readline()
            assert line, said
            said += line
        assert "compiled by bcc" in said
        assert "not by libbpf: this kernel has no BTF" in said
        store("SET", "without", "v")
        ready(lambda: file.exists() and "without" in file.read_text())
    finally:
        kshark.kill()
        kshark.wait()
        kshark.stderr.close()


@pytest.mark.parametrize(
    ("folders", "options", "said"),
    [
        ((BTF, MODULES), "", "this kernel has no BTF (/sys/kernel/btf/vmlinux)"),
        ((MODULES,), ",hooks=bcc", "bcc is not installed: apt-get install python3-bpfcc"),
        ((), ",hooks=bcc,netns=OWN", "netns and cgroups cannot be asked for with hooks=bcc"),
    ],
)
def test_what_cannot_be_is_one_line(
    site: Path, folders: tuple[str, ...], options: str, said: str
) -> None:
    options = options.replace("OWN", str(os.getpid()))
    words = [*hidden(*folders), "--backend", f"ebpf:{options}", "--sink", "jsonl:-"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if said in line]
    assert "Traceback" not in done.stderr
    assert line.startswith("kshark: ")


def test_nothing_stays_after_a_kill(site: Path) -> None:
    with by_bcc(site) as capture:
        ours = programs()
        assert ours
        capture.process.kill()
        capture.process.wait()
        ready(lambda: not programs() & ours)


def programs() -> set[int]:
    """Numbers of the programs in the kernel that only this loader has."""
    words = ["/usr/sbin/bpftool", "-j", "prog", "show"]
    told = subprocess.run(words, capture_output=True, check=True).stdout
    return {one["id"] for one in json.loads(told) if one.get("name") == "on_adjust"}
