"""Real servers in one namespace and their clients in another, both in a cgroup of their own: what live tests capture.

`Site.traffic` is a few calls of each kind; `Site.more` adds the servers that take seconds to start, and load.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from netlab import PATIENCE, Lab
from nginx_conf import configure
from test_cgroup_live import within

from kshark.backends._netns import inside

SERVERS = {4: "10.1.0.2", 6: "fd00::2"}
HERE = Path(__file__).parent
POSTGRES = Path("/usr/lib/postgresql")
LARGE = {"64k": 65_536, "1m": 1 << 20}
"""Files that nginx serves: as they are by sendfile, below /copied by write."""
SERVED = """  sendfile on;
  server {{
    listen 80; listen [::]:80;
    location /small {{ return 200 'small\\n'; }}
    location /copied/ {{ sendfile off; alias {folder}/; }}
  }}"""


def ready(done: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


class Site:
    """The servers, and how to ask them."""

    def __init__(self, lab: Lab, group: Path, folder: Path) -> None:
        self.group = group
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.clients, self.servers = lab.space(), lab.space()
        lab.veth(self.clients, "va", self.servers, "vb", 1)
        for space, link, address in (
            (self.clients, "va", "fd00::1/64"),
            (self.servers, "vb", "fd00::2/64"),
            (self.clients, "lo", "::1/128"),
            (self.servers, "lo", "::1/128"),
        ):
            with inside(space), open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w") as knob:
                knob.write("0")
            words = ["ip", "-n", space, "addr", "replace", address, "dev", link, "nodad"]
            subprocess.run(words, check=True, capture_output=True)
        self.nginx = configure(folder, SERVED.format(folder=folder), connections=1024).split()
        for name, size in LARGE.items():
            (folder / name).write_bytes(os.urandom(size // 2).hex().encode())

    @property
    def ways(self) -> list[tuple[str, list[str]]]:
        """The namespaces of clients, and how they call the servers: over the veth, and over loopback."""
        return [(self.clients, list(SERVERS.values())), (self.servers, ["127.0.0.1", "::1"])]

    def member(self) -> AbstractContextManager[None]:
        """Within this, processes that are started are the servers' cgroup's."""
        return within(self.group)

    def start(self, *command: str, space: str = "", user: str = "") -> subprocess.Popen[bytes]:
        with within(self.group):
            became = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            process = subprocess.Popen(
                ["ip", "netns", "exec", space or self.servers, *(became if user else []), *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._processes.append(process)
        return process

    def ask(self, *command: str, space: str = "", check: bool = True, timeout: float = 60) -> bytes:
        with within(self.group):
            done = subprocess.run(
                ["ip", "netns", "exec", space or self.clients, *command],
                capture_output=True,
                timeout=timeout,
            )
        assert not check or done.returncode == 0, (command, done.stderr, done.stdout)
        return done.stdout

    def traffic(self) -> None:
        """What clients of all kinds ask, over IPv4 and IPv6, from the other namespace and over loopback."""
        for space, hosts in self.ways:
            for host in hosts:
                url = f"http://[{host}]" if ":" in host else f"http://{host}"
                for path in ("small", "64k", "1m", "copied/64k", "copied/1m", "nosuch"):
                    got = self.ask("curl", "-sg", f"{url}/{path}", space=space)
                    file = self.folder / path.removeprefix("copied/")
                    if file.exists():
                        assert got == file.read_bytes(), "passive: nothing is lost"
                upload = ["curl", "-sg", "-T", str(self.folder / "64k"), f"{url}/small?up"]
                self.ask(*upload, "-H", "Expect:", space=space)
                for words in ("SET k v", "GET k", "LPUSH l 1 2 3", "NOSUCH"):
                    self.ask("redis-cli", "-h", host, *words.split(), space=space)
                for kind in ("A", "AAAA"):
                    self.ask("dig", f"@{host}", "+tries=1", kind, "known.test", space=space)
                self.ask("dig", f"@{host}", "+tcp", "A", "known.test", space=space)

    def more(self) -> None:
        """PostgreSQL, gRPC, HTTP/2 and loads, on the same ways: `start_more` has started their servers."""
        for space, hosts in self.ways:
            for host in hosts:
                named = f"[{host}]" if ":" in host else host
                for words in (
                    [
                        "redis-benchmark",
                        "-h",
                        host,
                        "-n",
                        "200",
                        "-c",
                        "8",
                        "-q",
                        "-t",
                        "set,lpush",
                    ],
                    ["h2load", "-n", "100", "-c", "4", "-m", "8", f"http://{named}:8080/64k"],
                    [sys.executable, str(HERE / "grpc_peer.py"), "call", f"{named}:50051"],
                    [*self._psql(host), "select g, repeat('x', g) from generate_series(1, 100) g"],
                    [*self._psql(host), "select 1/0"],
                ):
                    self.ask(*words, space=space, check="select 1/0" not in words)

    def start_more(self) -> None:
        """The servers of `more`, until they answer."""
        self.start("nghttpd", "--no-tls", "-d", str(self.folder), "8080")
        self.start(sys.executable, str(HERE / "grpc_peer.py"), "serve", "[::]:50051")
        self._start_postgres()
        peer = [sys.executable, str(HERE / "grpc_peer.py"), "call", f"{SERVERS[4]}:50051"]
        for ask in (
            ["nghttp", "-n", f"http://{SERVERS[4]}:8080/64k"],
            peer,
            [*self._psql(SERVERS[4]), "select 1"],
        ):
            ready(lambda ask=ask: answered(self, ask), 3 * PATIENCE)  # type: ignore[misc]

    def _psql(self, host: str) -> list[str]:
        where = f"host={host} user=postgres sslmode=disable gssencmode=disable"
        return ["psql", "-X", "-q", "-t", where, "-c"]

    def _start_postgres(self) -> None:
        programs = max(POSTGRES.glob("*/bin"), default=None)
        assert programs, "PostgreSQL is not installed: make tools"
        data = self.folder / "postgres"
        data.mkdir()
        for folder in (self.folder, *self.folder.parents[:2]):
            folder.chmod(0o755)
        subprocess.run(["chown", "postgres", data], check=True)
        became = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        made = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-N", "--no-locale"]
        subprocess.run([*became, *made], check=True, capture_output=True, cwd="/")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n")
        words = ["-D", str(data), "-k", str(data), "-c", "listen_addresses=*", "-c", "fsync=off"]
        self.start(str(programs / "postgres"), *words, user="postgres")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        ready(lambda: not (self.group / "cgroup.procs").read_text())


def answered(site: Site, command: list[str]) -> bool:
    """Whether a server answers: its client is content."""
    with within(site.group):
        words = ["ip", "netns", "exec", site.clients, *command]
        return not subprocess.run(words, capture_output=True, timeout=60).returncode


@contextmanager
def serving(lab: Lab, group: Path, folder: Path) -> Iterator[Site]:
    """nginx, Redis and dnsmasq, ready."""
    made = Site(lab, group, folder)
    dns = ["dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "--user=root", "--pid-file="]
    hosts = ["/known.test/192.0.2.7", "/known.test/2001:db8::7", "/test/192.0.2.8"]
    redis = ["redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", ""]
    try:
        made.start(*made.nginx)
        made.start(*redis, "--dir", str(folder))
        made.start(*dns, *(f"--address={host}" for host in hosts))
        for command in (
            ["curl", "-sf", "http://10.1.0.2/small"],
            ["redis-cli", "-h", "10.1.0.2", "PING"],
            ["dig", "@10.1.0.2", "+tries=1", "+time=1", "A", "ready.test"],
        ):
            ready(lambda command=command: answered(made, command))  # type: ignore[misc]
        yield made
    finally:
        made.stop()
