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
"""struct ks_ends of bpf/ends.h: local and remote address, both ports, IP version, protocol, network namespace."""
TOLD: Final = Struct("<QQII44s16s")
"""struct ks_process of bpf/process.h behind its head: socket, cgroup, process, thread, ends, name."""
HELD: Final = Struct("<IIQ44s4x16s")
"""struct ks_held of bpf/sockets.bpf.c: process, state, cgroup, ends, name."""
TRANSPORTS: Final = {6: "tcp", 17: "udp"}

NOWHERE: Final = "100::"
"""The ends of sessions of TLS whose connection is unknown (bpf/clear.h): addresses that no packet has, RFC 6666."""

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
        self._sessions: dict[str, Owner] = {}

    def __len__(self) -> int:
        return len(self._known)

    def tell(self, record: Any) -> None:
        """Take in a record of the ring."""
        _, group, pid, tid, ends, name = TOLD.unpack_from(record)
        self._put(ends, pid, name, tid, group)

    def processes(self) -> set[int]:
        """Those that are known, by number."""
        return {owner.pid for owner in self._known.values()}

    def begin(self, records: bytes, listening: bool = False) -> None:
        """Take in the sockets that are open already; those that listen, where they are asked for, too."""
        for pid, _, group, ends, name in HELD.iter_unpack(
            records[: len(records) // HELD.size * HELD.size]
        ):
            self._put(ends, pid, name, None, group, listening)

    def unbound(self, pid: int, ends: bytes, name: bytes) -> None:
        """A process has a TLS session, and nobody knows of which connection."""
        local, *_ = ENDS.unpack(ends)
        self._sessions[_text(local, 6)] = Owner(pid, _name(name), 0)
        if len(self._sessions) > SOCKET_OWNERS:
            del self._sessions[next(iter(self._sessions))]

    def name(self, flow: Flow) -> None:
        """Say whose the ends of a flow are, where that is known."""
        if flow.client.ip.startswith(NOWHERE):
            flow.client, flow.server = self._nowhere(flow.client), self._nowhere(flow.server)
            return
        client, server = flow.client, flow.server
        if client.pid is None and (owner := self._find(flow.transport, client, server)):
            flow.client = self._owned(client, owner)
        if server.pid is None and (owner := self._find(flow.transport, server, client)):
            flow.server = self._owned(server, owner)

    def _nowhere(self, end: Endpoint) -> Endpoint:
        """An end that nobody knows, but for its process."""
        owner = self._sessions.get(end.ip)
        return self._owned(Endpoint("", 0), owner) if owner else Endpoint("", 0)

    def _find(self, transport: str, local: Endpoint, remote: Endpoint) -> Owner | None:
        return self._known.get((transport, local.ip, local.port, remote.ip, remote.port))

    def _owned(self, end: Endpoint, owner: Owner) -> Endpoint:
        path = self._paths.find(owner.group, owner.pid) if owner.group else None
        return structs.replace(
            end,
            pid=owner.pid,
            comm=owner.comm,
            tid=owner.tid,
            cgroup=path,
            netns=owner.netns or None,
        )

    def _put(
        self,
        ends: bytes,
        pid: int,
        name: bytes,
        tid: int | None = None,
        group: int = 0,
        listening: bool = False,
    ) -> None:
        local, remote, local_port, remote_port, version, proto, netns = ENDS.unpack(ends)
        transport = TRANSPORTS.get(proto)
        if transport is None or not (remote_port or listening):
            return
        key = transport, _text(local, version), local_port, _text(remote, version), remote_port
        known = self._known
        known.pop(key, None)
        known[key] = Owner(pid, _name(name), netns, tid, group)
        if len(known) > SOCKET_OWNERS:
            del known[next(iter(known))]


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _text(address: bytes, version: int) -> str:
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, address[:4])
    return socket.inet_ntop(socket.AF_INET6, address)
