"""Ends under load, of the capture and of those whom it watches: nothing stays in the kernel, and the books balance."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import Lab, lab
from servers import ready
from test_ebpf_live import Capture, capturing
from test_load_live import held, listed
from tls_site import TlsSite, tls_site

from kshark.backends import _bcc, _tracefs

__all__ = ["lab"]
pytestmark = [pytest.mark.live, pytest.mark.slow]

LOAD = "while :; do h2load --h1 -n 200 -c 4 -m 1 {url} >/dev/null 2>&1; curl -sk {url}curl >/dev/null; done"
PATIENCE = 120
HTTPS = "https://127.0.0.1/"


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[TlsSite]:
    with tls_site(lab, tmp_path) as made:
        ready(lambda: b"over TLS" in made.ask("curl", "-sk", HTTPS, check=False))
        yield made


@contextlib.contextmanager
def load(site: TlsSite, url: str = HTTPS) -> Iterator[None]:
    """Requests, as many as the machine allows, until the end."""
    words = site.words("sh", "-c", LOAD.format(url=url))
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def watching(site: TlsSite, hooks: str) -> contextlib.AbstractContextManager[Capture]:
    if hooks == "bcc":
        if why := _bcc.missing():
            (pytest.fail if "CI" in os.environ else pytest.skip)(why)
        return capturing(site.folder, "ebpf:,hooks=bcc,ports=443", "TLS stays closed")
    return capturing(site.folder, f"ebpf:,netns={site.space}", "TLS in clear")


def at_least(capture: Capture, count: int) -> None:
    ready(lambda: len(capture.entries) >= count, PATIENCE)


def probes() -> str:
    """The probes that tracefs knows."""
    names = ("uprobe_events", "kprobe_events")
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            found += [line for line in _tracefs.read(name).splitlines() if "kshark" in line]
    return "\n".join(found)


def breakpoints(pid: int) -> int:
    """Bytes of libssl's code in a process that are not as in the file."""
    different = 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if " r-xp " not in line or "libssl" not in line:
            continue
        begin, end = (int(one, 16) for one in line.split()[0].split("-"))
        with open(f"/proc/{pid}/mem", "rb") as memory, open(line.split()[-1], "rb") as file:
            memory.seek(begin)
            file.seek(int(line.split()[2], 16))
            for mine, theirs in zip(memory.read(end - begin), file.read(end - begin), strict=False):
                different += mine != theirs
    return different


def worker(capture: Capture) -> int:
    """A process that answered lately."""
    found: int = next(e["dst"]["pid"] for e in reversed(capture.entries) if e["dst"].get("pid"))
    return found


def check(capture: Capture) -> None:
    """What is told at the end, whatever happened."""
    assert capture.process.returncode in (0, 1), capture.said
    for word in ("Traceback", "do not balance", "unsound"):
        assert word not in capture.said, capture.said
    for entry in capture.entries:
        if entry["outcome"] == "ok" and entry["protocol"] == "http":
            assert entry["response"]["status"] == 200, entry


@pytest.mark.parametrize("hooks", ["auto", "bcc"])
def test_killed_under_load_it_leaves_nothing(site: TlsSite, hooks: str) -> None:
    before = probes()
    with watching(site, hooks) as capture, load(site):
        at_least(capture, 20)
        nginx = worker(capture)
        ours = held(capture.process.pid)
        assert ours["prog_id"]
        assert ours["map_id"]
        assert hooks == "bcc" or breakpoints(nginx)
        capture.process.kill()
        capture.process.wait()
        for kind in ("prog", "map", "link"):
            ready(lambda kind=kind: not ours[f"{kind}_id"] & listed(kind), PATIENCE)  # type: ignore[misc]
        ready(lambda: not breakpoints(nginx), PATIENCE)
        assert site.curl("/after") == b"over TLS\n"
    assert probes() == before


@pytest.mark.parametrize("hooks", ["auto", "bcc"])
def test_ended_under_load_it_leaves_nothing(site: TlsSite, hooks: str) -> None:
    with watching(site, hooks) as capture, load(site):
        at_least(capture, 20)
        nginx = worker(capture)
        ours = held(capture.process.pid)
        capture.process.send_signal(signal.SIGINT)
        _, rest = capture.process.communicate(timeout=PATIENCE)
        capture.said += rest
        ready(lambda: not ours["prog_id"] & listed("prog"), PATIENCE)
        ready(lambda: not breakpoints(nginx), PATIENCE)
        assert site.curl("/after") == b"over TLS\n"
    check(capture)


def test_a_hooked_server_that_is_killed_under_load(site: TlsSite) -> None:
    """nginx begins another worker: its calls are read as well."""
    with watching(site, "auto") as capture, load(site):
        at_least(capture, 20)
        first = worker(capture)
        os.kill(first, signal.SIGKILL)
        ready(lambda: any(read_by(capture, first)), PATIENCE)
        capture.end()
    check(capture)


def read_by(capture: Capture, first: int) -> Iterator[bool]:
    """Whether an answer was read in clear that another process than the first one gave."""
    for entry in capture.entries:
        if entry["protocol"] == "http" and entry["dst"].get("pid") not in (None, first):
            yield True


def test_a_hooked_go_server_that_is_killed_under_load(site: TlsSite) -> None:
    go = site.go()
    url = "https://127.0.0.1:8443/"
    servers = []

    def serve() -> int:
        servers.append(site.start(go, "serve", "127.0.0.1:8443"))
        ready(lambda: b"from Go" in site.ask("curl", "-sk", url, check=False), PATIENCE)
        return servers[-1].pid

    try:
        with watching(site, "auto") as capture:
            first = serve()
            with load(site, url):
                ready(lambda: any(read_by(capture, 0)), PATIENCE)
                os.kill(first, signal.SIGKILL)
                servers[0].wait()
                serve()
                ready(lambda: any(read_by(capture, first)), PATIENCE)
                capture.end()
    finally:
        for server in servers:
            server.kill()
            server.wait()
    check(capture)


def test_nobody_else_can_detach_its_probes(site: TlsSite) -> None:
    """The kernel refuses it for most links; of a control group's it does not, and they are attached again."""
    with watching(site, "auto") as capture, load(site):
        at_least(capture, 20)
        links = held(capture.process.pid)["link_id"]
        assert links
        detached = set()
        for link in links:
            words = ["/usr/sbin/bpftool", "link", "detach", "id", str(link)]
            if not subprocess.run(words, capture_output=True, check=False).returncode:
                detached.add(link)
        assert len(detached) == 2 * ("hooks: sockets" in capture.said)
        ready(lambda: len(held(capture.process.pid)["link_id"] - detached) == len(links), PATIENCE)
        site.curl("/afterwards")
        ready(lambda: any("afterwards" in str(e["request"]) for e in capture.entries), PATIENCE)
        capture.end()
    assert bool(detached) == ("attached again" in capture.said)
    check(capture)


@pytest.mark.parametrize("backend", ["tc:lo,netns={space},hook=tcx", "cgroup:,ports=443"])
def test_programs_that_are_detached_under_load(site: TlsSite, backend: str) -> None:
    """They are attached again; what passed meanwhile is a gap, or a connection joined in the middle."""
    target = backend.format(space=site.space)
    with capturing(site.folder, target, f"kshark: {backend[:2]}") as capture, load(site):
        at_least(capture, 5)
        for link in held(capture.process.pid)["link_id"]:
            words = ["/usr/sbin/bpftool", "link", "detach", "id", str(link)]
            subprocess.run(words, capture_output=True, check=False)
        assert capture.process.stderr is not None
        while "they are attached again" not in capture.said:
            line = capture.process.stderr.readline()
            assert line, capture.said
            capture.said += line
        count = len(capture.entries)
        at_least(capture, count + 5)
        capture.end()
    check(capture)
