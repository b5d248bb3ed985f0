"""Packets at the sockets of a cgroup: the backend ``cgroup``, on real traffic in a cgroup of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Lab, Seen, Watch, bound, lab, watched

from kshark.api import PluginError
from kshark.backends import _makers, cgroup
from kshark.backends._netns import inside

__all__ = ["lab"]
pytestmark = pytest.mark.live
_serial = itertools.count()


@pytest.fixture
def group(lab: Lab) -> Iterator[Path]:
    """A cgroup of the version 2 hierarchy, without processes."""
    try:
        path = Path(cgroup._root(), f"ks{os.getpid()}x{next(_serial)}")
    except PluginError as error:
        pytest.skip(str(error))
    path.mkdir()
    yield path
    for inner in (*path.glob("*/"), path):
        inner.rmdir()


@contextlib.contextmanager
def within(group: Path) -> Iterator[None]:
    """This process is in `group`: sockets that it makes are that cgroup's for good."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.asynccontextmanager
async def watching(**options: Any) -> AsyncIterator[Watch]:
    """The backend ``cgroup``, which captures from now on."""
    backend = cgroup.make(cgroup.CgroupOptions(**options))
    backend.open()
    async with watched(backend) as watch:
        yield watch


def test_sockets_of_the_cgroup_in_any_namespace(lab: Lab, group: Path) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(target=str(group)) as watch:
            with bound(left, "10.1.0.1", 0) as outside, bound(right, "10.1.0.2", 9) as sink:
                outside.sendto(b"not seen", sink.getsockname())
            with (
                within(group),
                bound(left, "10.1.0.1", 0) as one,
                bound(right, "10.1.0.2", 9) as two,
            ):
                one.sendto(b"seen", two.getsockname())
                two.recv(100)
            with within(group), bound(left, "127.0.0.1", 0) as one:
                with bound(left, "127.0.0.1", 9) as two:
                    one.sendto(b"x" * 60_000, two.getsockname())
                one.sendto(b"nobody listens", ("127.0.0.1", 9))
            found = await watch.count(4)
            assert [(s.iface, s.payload[:20], s.linktype) for s in found] == [
                ("egress", b"seen", 101),
                ("ingress", b"seen", 101),
                ("lo", b"x" * 20, 101),
                ("lo", b"nobody listens", 101),
            ]
            assert watch.stats.dropped == {}
            assert watch.stats.received == 4

    asyncio.run(main())


def test_the_root_is_for_all(lab: Lab, group: Path) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(ports=[4242]) as watch:
            with within(group), bound(space, "127.0.0.1", 0) as one:
                one.sendto(b"below", ("127.0.0.1", 4242))
                one.sendto(b"other port", ("127.0.0.1", 4243))
            with bound(space, "127.0.0.1", 0) as two:
                two.sendto(b"at the root", ("127.0.0.1", 4242))
            await watch.until(lambda: {b"below", b"at the root"} <= {s.payload for s in watch.ip})
            assert b"other port" not in {s.payload for s in watch.ip}

    asyncio.run(main())


def test_cgroups_that_cannot_be(lab: Lab, group: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    (group / "inner").mkdir()
    root = cgroup._root()
    for target, text in (
        (f"{group}/nosuch", f"cgroup: there is no cgroup {group}/nosuch"),
        ("nosuch.slice", f"cgroup: there is no cgroup {root}/nosuch.slice"),
        ("/proc", f"cgroup: /proc is not in the version 2 hierarchy at {root}"),
        (
            f"{group.name}+{group}/inner",
            f"cgroup: {group} and {group}/inner: one is within the other",
        ),
    ):
        backend = cgroup.make(cgroup.CgroupOptions(target=target))
        with pytest.raises(PluginError) as caught:
            backend.open()
        assert str(caught.value) == text
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_the_capability_for_names_it_captures_all_the_same(group: Path) -> None:
    caps = ["setpriv", "--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all"]
    run = [sys.executable, "-m", "kshark", "run", "--backend", f"cgroup:{group.name}"]
    command = [*caps, *run, "--sink", "jsonl:/dev/null"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline(), process.stderr.readline()]
        process.kill()
    assert said[1].endswith("have no names: that needs CAP_PERFMON, and Linux 5.12\n"), said


def test_a_cgroup_that_goes_is_missed(lab: Lab, group: Path) -> None:
    inner = group / "goes"
    inner.mkdir()

    async def main() -> None:
        async with watching(target=str(inner)) as watch:
            inner.rmdir()
            said = f"the cgroup {inner} is gone: nothing more is seen of it"
            await watch.until(lambda: said in watch.stats.notes)

    asyncio.run(main())


def test_where_no_hierarchy_is_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("25 30 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr(_makers, "MOUNTS", str(mounts))
    with pytest.raises(PluginError, match="no version 2 hierarchy is mounted"):
        cgroup.located("")
    mounts.write_text("25 30 0:23 / /run/cg2 rw,relatime shared:7 - cgroup2 cgroup2 rw\n")
    assert cgroup.located("") == ["/run/cg2"]
    assert cgroup.located(["a.slice", "b.slice"]) == ["/run/cg2/a.slice", "/run/cg2/b.slice"]


# ---------------------------------------------------------------- privileges

NEEDS = """
import asyncio, os, sys
from kshark.api import PluginError
from kshark.backends import cgroup, tc

def tried(name, options):
    backend = {"tc": tc.make, "cgroup": cgroup.make}[name](options)
    try:
        backend.open()
    except PluginError as error:
        return str(error)
    async def rest():
        await backend.close()
    asyncio.run(rest())
    return "open"

print(tried("tc", tc.TcOptions(target="lo", hook="tcx")))
print(tried("cgroup", cgroup.CgroupOptions()))
print(tried("tc", tc.TcOptions(target="lo", netns=[sys.argv[1]])))
"""


def with_capabilities(names: str, space: str, user: str = "0") -> list[str]:
    """What opening the backends says in a process that has these capabilities alone."""
    drop = ["setpriv", f"--bounding-set=-all{names}", f"--inh-caps=-all{names}", "--no-new-privs"]
    if user != "0":
        drop += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", NEEDS, space], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_exactly_the_capabilities_that_are_named(lab: Lab) -> None:
    space = lab.space()
    hint = "needs CAP_BPF and CAP_NET_ADMIN: run with sudo"
    both = with_capabilities(",+bpf,+net_admin", space)
    assert both[:2] == ["open", "open"]
    assert both[2].startswith(f"netns {space}: needs CAP_SYS_ADMIN")
    assert with_capabilities(",+bpf,+net_admin,+sys_admin", space) == ["open"] * 3
    for lacking in (",+bpf", ",+net_admin", ",+net_raw"):
        for line in with_capabilities(lacking, space)[:2]:
            assert hint in line, lacking


def test_a_user_without_privileges_is_told_in_one_line(lab: Lab) -> None:
    for line in with_capabilities("", lab.space(), "65534"):
        assert line.split(": ", 1)[1].startswith("needs CAP_BPF and CAP_NET_ADMIN: run with sudo")


DROPPED = """
import asyncio, os, sys
from kshark.backends import cgroup, tc

async def main():
    backend = tc.make(tc.TcOptions(netns=[sys.argv[1]], user="nobody", ring_bytes=1 << 19))
    backend.open()
    print("open", os.getuid(), flush=True)
    sys.stdin.readline()
    count = 0
    async for block in backend.blocks():
        count += block.count
        if any("late" in note for note in backend.stats().notes):
            break
    stats = backend.stats()
    print(count, stats.dropped.get("kernel", 0) > 0, stats.notes, flush=True)

asyncio.run(main())
"""


def test_privileges_are_dropped_and_capturing_goes_on(lab: Lab) -> None:
    """Losses are still counted then; links that appear cannot be attached to, and that is said."""
    import pwd

    space = lab.space()
    process = subprocess.Popen(
        [sys.executable, "-c", DROPPED, space],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == f"open {pwd.getpwnam('nobody').pw_uid}\n"
        with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
            for _ in range(500):
                one.sendto(b"x" * 1000, two.getsockname())
        lab.ip("link", "add", "late", "type", "veth", "peer", "etal", space=space)
        said, _ = process.communicate("go on\n", timeout=20)
    finally:
        process.kill()
        process.wait()
    count, lost, notes = said.strip().split(" ", 2)
    assert int(count) > 0
    assert lost == "True"
    assert f"{space}/late is not captured: netns {space}: needs CAP_SYS_ADMIN" in notes


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_of_both_families(lab: Lab, group: Path, host: str) -> None:
    """SYN and all: what the kernel answers before anybody has accepted is a socket's, too."""
    space = lab.space()
    with inside(space), open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w") as knob:
        knob.write("0")
    lab.ip("addr", "replace", "::1/128", "dev", "lo", space=space)

    async def main() -> None:
        async with watching(target=str(group)) as watch:
            with within(group), bound(space, host, 0, socket.SOCK_STREAM) as server:
                server.listen()
                with bound(space, host, 0, socket.SOCK_STREAM) as client:
                    client.connect(server.getsockname()[:2])
                    peer, _ = server.accept()
                    with peer:
                        client.sendall(b"question")
                        assert peer.recv(100) == b"question"
            await watch.until(lambda: any(flags(s) & 1 for s in watch.ip))
            assert [flags(s) for s in watch.ip[:3]] == [2, 18, 16]
            assert any(b"question" in s.data for s in watch.ip)

    def flags(seen: Seen) -> int:
        return seen.ip[(40 if ":" in host else 20) + 13]

    asyncio.run(main())
