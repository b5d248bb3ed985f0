"""TLS in clear by the backend ``ebpf``: real servers and clients of each library; what is shown is what they said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import Lab, lab
from servers import ready
from test_ebpf_live import KSHARK, Capture, Entry, capturing, ebpf
from tls_site import ASYNCIO, ELSEWHERE, GRPC, HTTP_CLIENT, NODE, TlsSite, tls_site

__all__ = ["lab"]
pytestmark = pytest.mark.live


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[TlsSite]:
    with tls_site(lab, tmp_path) as made:
        ready(lambda: b"over TLS" in made.ask("curl", "-sk", "https://127.0.0.1/", check=False))
        yield made


def calls(capture: Capture, *protocols: str) -> list[Entry]:
    return [e for e in capture.entries if e["protocol"] in (protocols or ("http", "http2", "grpc"))]


def shown(entries: list[Entry]) -> Counter[tuple[str, str, str]]:
    """Who asked whom what."""
    for entry in entries:
        assert entry["outcome"] == "ok", entry
        assert entry["response"]["status"] == 200, entry
        assert not entry["gap_bytes"], entry
        assert not entry["midstream"], entry
    return Counter((e["src"]["comm"], e["dst"]["comm"], e["request"]["target"]) for e in entries)


def test_both_ends_are_hooked_and_tell_once(site: TlsSite, tmp_path: Path) -> None:
    with ebpf(tmp_path, site.space) as capture:
        assert site.curl("/one") == b"over TLS\n"
        assert site.curl("/file", "--http1.1") == (site.folder / "file").read_bytes()
        ready(lambda: len(calls(capture)) >= 2)
        capture.end()
    assert shown(calls(capture)) == {("curl", "nginx", "/one"): 1, ("curl", "nginx", "/file"): 1}
    assert {e["protocol"] for e in capture.entries} == {"tls", "http", "http2"}
    assert len(calls(capture, "tls")) == 2
    (large,) = calls(capture, "http")
    assert large["response"]["size"] > 160_000
    assert "lost" not in capture.said


@pytest.mark.slow
def test_clients_of_every_library(site: TlsSite, tmp_path: Path) -> None:
    url = "https://127.0.0.1"
    with ebpf(tmp_path, site.space) as capture:
        site.curl("/curl")
        site.ask("wget", "-q", "--no-check-certificate", "-O-", f"{url}/wget")
        site.python(HTTP_CLIENT)
        site.python(ASYNCIO)
        site.ask("node", "-e", NODE)
        capture.end()
    python = Path(sys.executable).name[:15]
    assert {(who, what): n for (who, _, what), n in shown(calls(capture)).items()} == {
        ("curl", "/curl"): 1,
        ("wget", "/wget"): 1,
        **{(python, f"/http.client/{number}"): 1 for number in range(2)},
        **{(python, f"/asyncio/{n}/{again}"): 1 for n in range(3) for again in range(2)},
        ("node", "/node"): 1,
    }
    assert not calls(capture, "tcp")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-s", "-w")])
def test_go(site: TlsSite, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Client and server, with symbols and without; the program is new when the capture runs already."""
    go = site.go(*flags)
    name, url = go[2:], "https://127.0.0.1:8443/go"
    with ebpf(tmp_path, site.space) as capture:

        def asked(target: str) -> list[Entry]:
            return [
                entry
                for entry in calls(capture)
                if entry["src"]["comm"] == name and entry["request"]["target"] == target
            ]

        def hooked() -> bool:
            """Whether the file is: it is found when it is mapped, while it begins to talk already."""
            site.ask(go, "http1", f"{url}/warm")
            return bool(asked("/go/warm"))

        server = site.start(go, "serve", "127.0.0.1:8443")
        try:
            ready(lambda: b"from Go" in site.ask("curl", "-sk", url, check=False))
            ready(hooked)
            site.ask(go, "http1", url)
            site.ask(go, "http2", url)
            ready(lambda: len(asked("/go")) >= 6)
        finally:
            server.terminate()
            server.wait()
        capture.end()
    found = asked("/go")
    assert shown(found) == {(name, name, "/go"): 6}
    assert Counter(e["protocol"] for e in found) == {"http": 3, "http2": 3}


@pytest.mark.slow
def test_a_hooked_process_that_is_killed_and_one_that_becomes_another(
    site: TlsSite, tmp_path: Path
) -> None:
    loop = (
        "import http.client, os, ssl, sys\n"
        "c = http.client.HTTPSConnection('127.0.0.1', context=ssl._create_unverified_context())\n"
        "c.request('GET', '/before'); c.getresponse().read()\n"
        "if sys.argv[1] == 'exec': os.execvp('curl', ['curl', '-sk', 'https://127.0.0.1/after'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with ebpf(tmp_path, site.space) as capture:
        site.ask(sys.executable, "-c", loop, "kill", check=False)
        assert site.ask(sys.executable, "-c", loop, "exec") == b"over TLS\n"
        ready(lambda: len(calls(capture)) >= 3)
        capture.end()
    targets = Counter(e["request"]["target"] for e in calls(capture))
    assert targets == {"/before": 2, "/after": 1}


@pytest.mark.slow
def test_grpc(site: TlsSite, tmp_path: Path) -> None:
    """The client's library has no names: the server's end tells of both directions."""
    with ebpf(tmp_path, site.space) as capture:
        site.python(GRPC)
        capture.end()
    within = [e for e in calls(capture, "grpc") if e["dst"]["port"] == 443]
    assert Counter(e["request"]["target"] for e in within) == {"/toy.Echo/Say": 3}
    assert {e["dst"]["comm"] for e in within} == {"nginx"}
    assert {e["outcome"] for e in within} == {"ok"}


@pytest.mark.slow
def test_a_session_whose_connection_nobody_knows(site: TlsSite, tmp_path: Path) -> None:
    """Its records are sent by another thread than made them: no address is guessed."""
    client = tmp_path / "elsewhere"
    client.symlink_to(sys.executable)
    with capturing(tmp_path, "ebpf:,comms=elsewhere", "TLS in clear") as capture:
        site.ask(str(client), "-c", ELSEWHERE)
        capture.end()
    (found,) = calls(capture)
    assert (found["request"]["target"], found["outcome"]) == ("/elsewhere", "ok")
    assert (found["src"]["ip"], found["src"]["port"], found["src"]["comm"]) == ("", 0, "elsewhere")
    assert (found["dst"]["ip"], found["dst"]["port"]) == ("", 0)
    assert len(calls(capture, "tcp")) == 1, (
        "the connection, of which nobody knows that it is this one"
    )


@pytest.mark.slow
def test_without_the_privilege_the_rest_works(site: TlsSite, tmp_path: Path) -> None:
    """Probes at programs need more than those at sockets."""
    alone = 'mount -t tracefs none /sys/kernel/tracing; exec setpriv --bounding-set=-sys_admin "$@"'
    words = ["unshare", "-m", "sh", "-c", alone, "sh", *KSHARK]
    file = tmp_path / "out"
    kshark = subprocess.Popen(
        [*words, "--backend", "ebpf:,comms=curl", "--sink", f"jsonl:{file}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert kshark.stderr is not None
    try:
        while "CAP_SYS_ADMIN" not in (line := kshark.stderr.readline()):
            assert line
        site.curl("/one")
        ready(lambda: file.exists() and "hello" in file.read_text())
    finally:
        kshark.kill()
        kshark.wait()
        kshark.stderr.close()


def test_nothing_stays_after_a_kill(site: TlsSite, tmp_path: Path) -> None:
    with ebpf(tmp_path, site.space) as capture:
        assert programs()
        capture.process.send_signal(signal.SIGKILL)
        capture.process.wait()
        ready(lambda: not programs())
    assert site.curl("/after") == b"over TLS\n"


def programs() -> set[int]:
    tool = subprocess.run(
        ["/usr/sbin/bpftool", "-j", "prog", "show"], capture_output=True, check=True
    )
    return {one["id"] for one in json.loads(tool.stdout) if one.get("name") == "tls_write"}
