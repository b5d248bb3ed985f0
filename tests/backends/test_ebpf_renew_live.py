"""Filters of the backend ``ebpf`` that change while it runs: the file is written anew, and SIGHUP sent."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from netlab import lab
from servers import ready
from test_cgroup_live import group
from test_ebpf_live import Capture, Site, capturing, site

__all__ = ["group", "lab", "site"]
pytestmark = pytest.mark.live

COUNT = 3_000
"""Requests that go on while the filters change."""


class Filters:
    """The configuration file of a capture."""

    def __init__(self, folder: Path, space: str) -> None:
        self.path, self._space = folder / "kshark.toml", space
        self.write("ports = [6379]")

    def write(self, lines: str) -> None:
        space = "" if "netns" in lines else f'netns = ["{self._space}"]'
        self.path.write_text(f"[backend.ebpf]\n{space}\ntls = false\n{lines}\n")

    def send(self, capture: Capture, lines: str) -> str:
        """Write other filters, and have them read; what is said."""
        self.write(lines)
        capture.process.send_signal(signal.SIGHUP)
        assert capture.process.stderr is not None
        while "configuration" not in (line := capture.process.stderr.readline()):
            assert line, capture.said
            capture.said += line
        capture.said += line
        return line


def targets(capture: Capture) -> Sequence[str]:
    return [e["request"]["target"] for e in capture.entries]


def test_filters_change_while_it_runs(site: Site, tmp_path: Path) -> None:
    filters = Filters(tmp_path, site.servers)
    with capturing(tmp_path, "ebpf", "hooks: ", "--config", str(filters.path)) as capture:

        def both(name: str) -> None:
            site.ask("redis-cli", "SET", name, "v")
            site.ask("curl", "-s", f"http://127.0.0.1/{name}")

        both("first")
        ready(lambda: "first" in targets(capture))
        said = filters.send(capture, "ports = [80]")
        assert said == "kshark: the configuration is read again: ebpf\n"
        both("second")
        ready(lambda: "/second" in targets(capture))
        for wrong, why in (
            ("ports = [0]", "ports must be between 1 and 65535"),
            ("port = [6379]", "has no option"),
            ("ports = [6379", "no TOML"),
            ('ring_bytes = "1MiB"', "ring_bytes cannot change while it runs"),
        ):
            said = filters.send(capture, wrong)
            assert said.startswith(
                "kshark: the configuration is not taken, all goes on as before: "
            )
            assert why in said
        both("third")
        ready(lambda: "/third" in targets(capture))
        filters.send(capture, 'comms = ["redis-cli"]')
        both("fourth")
        ready(lambda: "fourth" in targets(capture))
        filters.send(capture, "")
        both("fifth")
        ready(lambda: "/fifth" in targets(capture))
        assert filters.send(capture, "") == (
            "kshark: the configuration is read again: nothing new for a backend\n"
        )
        capture.end()
    assert sorted(targets(capture)) == [
        *("/fifth", "/second", "/third", "fifth", "first", "fourth")
    ]
    assert {e["outcome"] for e in capture.entries} <= {"ok", "error"}


def test_other_namespaces_processes_and_groups(site: Site, tmp_path: Path, group: Path) -> None:
    """Each kind of filter, taken and given up again, for three that ask the same server."""
    filters = Filters(tmp_path, site.servers)
    url = "http://10.1.0.2/"

    def everybody(name: str) -> None:
        """One in the servers' namespace, one in the clients', one of a control group."""
        site.ask("curl", "-s", f"{url}{name}-near")
        site.ask("curl", "-s", f"{url}{name}-far", space=site.clients)
        joins = f"echo $$ >{group}/cgroup.procs && exec ip netns exec {site.clients} curl -s {url}{name}-group"
        subprocess.run(["sh", "-c", joins], check=True, capture_output=True)

    def seen(name: str, *who: str) -> None:
        """Of all who asked, these are told of, and then nobody else."""
        everybody(name)
        wanted = {f"/{name}-{one}" for one in who}
        ready(lambda: wanted <= set(targets(capture)))
        expected.update(wanted)

    expected: set[str] = set()
    nginx = int((tmp_path / "pid").read_text())
    workers = Path(f"/proc/{nginx}/task/{nginx}/children").read_text().split()
    with capturing(tmp_path, "ebpf", "hooks: ", "--config", str(filters.path)) as capture:
        filters.send(capture, "")
        seen("servers", "near", "far", "group")
        filters.send(capture, f'cgroups = ["{group}"]\nnetns = ["{site.clients}"]')
        seen("group", "group")
        filters.send(capture, f'netns = ["{site.clients}"]')
        seen("clients", "far", "group")
        filters.send(capture, f"pids = [{', '.join(workers)}]")
        seen("pids", "near", "far", "group")
        filters.send(capture, "pids = [1]")
        everybody("nobody")
        filters.send(capture, "")
        seen("last", "near", "far", "group")
        capture.end()
    assert set(targets(capture)) == expected


def test_what_both_filters_want_loses_nothing(site: Site, tmp_path: Path) -> None:
    filters = Filters(tmp_path, site.servers)
    with capturing(tmp_path, "ebpf", "hooks: ", "--config", str(filters.path)) as capture:
        load = site.start("redis-benchmark", "-n", str(COUNT), "-c", "5", "-q", "-t", "set")
        changes = 0
        while load.poll() is None:
            changes += 1
            filters.send(capture, f"ports = [6379, {changes}]")
        assert changes
        ready(lambda: targets(capture).count("key:__rand_int__") >= COUNT, 60)
        capture.end()
    sets = [e for e in capture.entries if e["request"]["verb"] == "SET"]
    assert len(sets) == COUNT
    assert {e["outcome"] for e in sets} == {"ok"}
    assert "lost" not in capture.said
