"""Network namespaces for live tests: made here, with unique names, and always removed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pytest

from kshark.api import INDEX_FORMAT, Backend, CaptureStats
from kshark.backends._netns import inside
from kshark.backends.af_packet import AfPacket, AfPacketOptions

RECORD = struct.Struct(INDEX_FORMAT)
PATIENCE = 10.0
"""Seconds after which a test gives up; nothing waits that long when it works."""
_serial = itertools.count()


def need_root() -> None:
    """Skip, saying why, where namespaces cannot be made; fail in CI, which is root."""
    try:
        subprocess.run(["unshare", "-n", "true"], check=True, capture_output=True)
        subprocess.run(["ip", "-V"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"cannot make network namespaces (root and iproute2 are needed): {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Lab:
    """Namespaces joined by veth pairs; addresses are 10.N.0.1 and 10.N.0.2, without IPv6 chatter."""

    def __init__(self) -> None:
        self.spaces: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in self.spaces:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def ip(self, *words: str, space: str = "") -> None:
        where = ["-n", space] if space else []
        subprocess.run(["ip", *where, *words], check=True, capture_output=True)

    def space(self) -> str:
        """A new namespace with its loopback up."""
        name = f"ks{os.getpid()}x{next(_serial)}"
        self.ip("netns", "add", name)
        self.spaces.append(name)
        with inside(name):
            for scope in ("all", "default"):
                path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
                if path.exists():
                    path.write_text("1")
        self.ip("link", "set", "lo", "up", space=name)
        return name

    def veth(self, left: str, name: str, right: str, peer: str, net: int) -> None:
        """A cable between two namespaces."""
        self.ip("link", "add", name, "netns", left, "type", "veth", "peer", peer, "netns", right)
        for space, link, host in ((left, name, 1), (right, peer, 2)):
            self.ip("addr", "add", f"10.{net}.0.{host}/24", "dev", link, space=space)
            self.ip("link", "set", link, "up", space=space)
        for space, link in ((left, name), (right, peer)):
            self.carries(space, link)

    def carries(self, space: str, link: str) -> None:
        """Wait until the kernel lets packets out: it notices a carrier a while after its link is up."""
        command = ["ip", "-n", space, "-br", "link", "show", link]
        end = time.monotonic() + PATIENCE
        while b" UP " not in subprocess.run(command, check=True, capture_output=True).stdout:
            assert time.monotonic() < end, f"{link} gets no carrier"

    def process(self, space: str) -> int:
        """The id of a process that lives in `space`."""
        self._processes.append(subprocess.Popen(["ip", "netns", "exec", space, "sleep", "60"]))
        pid = self._processes[-1].pid
        there = os.stat(f"/run/netns/{space}").st_ino
        while os.stat(f"/proc/{pid}/ns/net").st_ino != there:
            os.sched_yield()
        return pid


def bound(space: str, address: str, port: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    """A socket in `space`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(space):
        sock = socket.socket(family, kind)
    sock.settimeout(PATIENCE)
    sock.bind((address, port))
    return sock


class Seen(NamedTuple):
    """A packet as the backend gave it, copied."""

    ns: int
    data: bytes
    wire: int
    iface: str
    number: int
    linktype: int

    @property
    def ip(self) -> bytes:
        """From the IP header on, empty if it is none."""
        if self.linktype == 101:
            return self.data
        return self.data[14:] if self.data[12:14] in (b"\x08\x00", b"\x86\xdd") else b""

    @property
    def payload(self) -> bytes:
        """What follows a UDP header or an option-less TCP header of IPv4."""
        ip = self.ip
        at = (ip[0] & 15) * 4
        at += 8 if ip[9] == 17 else (ip[at + 12] >> 4) * 4
        return ip[at : int.from_bytes(ip[2:4], "big")]

    @property
    def ends(self) -> frozenset[tuple[bytes, bytes]]:
        """Both addresses with their ports, the same for both directions."""
        ip = self.ip
        at = 40 if ip[0] >> 4 == 6 else (ip[0] & 15) * 4
        size = 16 if ip[0] >> 4 == 6 else 4
        first = 8 if size == 16 else 12
        source, target = ip[first : first + size], ip[first + size : first + 2 * size]
        return frozenset({(source, ip[at : at + 2]), (target, ip[at + 2 : at + 4])})


class Watch:
    """A backend at work, and what it has given so far."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.seen: list[Seen] = []
        self.blocks = 0
        self._news = asyncio.Event()
        self.open = asyncio.Event()
        """Cleared: the consumer stops taking blocks."""
        self.open.set()

    async def run(self) -> None:
        async for block in self.backend.blocks():
            self.blocks += 1
            for at in range(block.count):
                ns, offset, kept, wire, number, _ = RECORD.unpack_from(
                    block.index, at * RECORD.size
                )
                data = bytes(block.data[offset : offset + kept])
                self.seen.append(Seen(ns, data, wire, block.ifaces[number], number, block.linktype))
            self._news.set()
            await self.open.wait()
        self._news.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait for the packets, links or notes that `enough` asks for."""
        async with asyncio.timeout(PATIENCE):
            while not enough():
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()

    async def count(self, number: int) -> list[Seen]:
        """Wait for `number` packets of IP, and a while for one too many."""
        await self.until(lambda: len(self.ip) >= number)
        await asyncio.sleep(0.1)
        return self.ip

    @property
    def ip(self) -> list[Seen]:
        return [s for s in self.seen if s.ip]

    @property
    def stats(self) -> CaptureStats:
        return self.backend.stats()


@contextlib.asynccontextmanager
async def watching(**options: object) -> AsyncIterator[Watch]:
    """The backend ``af_packet``, which captures from now on."""
    backend = AfPacket(AfPacketOptions(**options))  # type: ignore[arg-type]
    backend.open()
    async with watched(backend) as watch:
        yield watch


@contextlib.asynccontextmanager
async def watched(backend: Backend) -> AsyncIterator[Watch]:
    """An open backend at work."""
    watch = Watch(backend)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        await backend.close()
        watch.open.set()
        async with asyncio.timeout(PATIENCE):
            await task


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_root()
    with Lab() as made:
        yield made
