"""Whose the ends of connections are: told by the programs of bpf/, and at the start by all open sockets.

A connection is known by its two ends as the local one has them. The table is bounded: whoever was told longest ago
goes first.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Any, Final, NamedTuple

from msgspec import structs

from kshark.api import Endpoint, Flow
from kshark.backends._cgroups import Paths
from kshark.limits import SOCKET_OWNERS

ENDS: Final = Struct("<16s16sHHBBxxI")
"""struct ends of bpf/sock.h: local and remote address, both ports, IP version, protocol, network namespace."""
TOLD: Final = Struct("<QQII44s16s")
"""struct process of bpf/process.h behind its head: socket, cgroup, process, thread, ends, name."""
HELD: Final = Struct("<IIQ44s4x16s")
"""struct held of bpf/sockets.bpf.c: process, state, cgroup, ends, name."""
TRANSPORTS: Final = {6: "tcp", 17: "udp"}

Key = tuple[str, str, int, str, int]
"""Transport, and address and port of the local and of the remote end."""


class Owner(NamedTuple):
    """A process, and where it lives."""

    pid: int
    comm: str
    netns: int
    tid: int | None = None
    group: int = 0


class Owners:
    """The processes by the ends of their connections."""

    def __init__(self) -> None:
        self._known: dict[Key, Owner] = {}
        self._paths = Paths()

    def __len__(self) -> int:
        return len(self._known)

    def tell(self, record: Any) -> None:
        """Take in a record of the ring."""
        _, group, pid, tid, ends, name = TOLD.unpack_from(record)
        self._put(ends, pid, name, tid, group)

    def begin(self, records: bytes) -> None:
        """Take in the sockets that are open already."""
        for pid, _, group, ends, name in HELD.iter_unpack(
            records[: len(records) // HELD.size * HELD.size]
        ):
            self._put(ends, pid, name, None, group)

    def name(self, flow: Flow) -> None:
        """Say whose the ends of a flow are, where that is known."""
        client, server = flow.client, flow.server
        if client.pid is None and (owner := self._find(flow.transport, client, server)):
            flow.client = self._owned(client, owner)
        if server.pid is None and (owner := self._find(flow.transport, server, client)):
            flow.server = self._owned(server, owner)

    def _find(self, transport: str, local: Endpoint, remote: Endpoint) -> Owner | None:
        return self._known.get((transport, local.ip, local.port, remote.ip, remote.port))

    def _owned(self, end: Endpoint, owner: Owner) -> Endpoint:
        path = self._paths.find(owner.group, owner.pid) if owner.group else None
        return structs.replace(
            end, pid=owner.pid, comm=owner.comm, tid=owner.tid, cgroup=path, netns=owner.netns
        )

    def _put(
        self, ends: bytes, pid: int, name: bytes, tid: int | None = None, group: int = 0
    ) -> None:
        local, remote, local_port, remote_port, version, proto, netns = ENDS.unpack(ends)
        transport = TRANSPORTS.get(proto)
        if transport is None or not remote_port:  # it listens
            return
        key = transport, _text(local, version), local_port, _text(remote, version), remote_port
        known = self._known
        known.pop(key, None)
        comm = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        known[key] = Owner(pid, comm, netns, tid, group)
        if len(known) > SOCKET_OWNERS:
            del known[next(iter(known))]


def _text(address: bytes, version: int) -> str:
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, address[:4])
    return socket.inet_ntop(socket.AF_INET6, address)
