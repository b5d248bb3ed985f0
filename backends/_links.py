"""The network interfaces of one namespace, kept up to date by rtnetlink (RFC 3549, rtnetlink(7)).

The socket is opened once and needs no privileges, then or later. Messages come from the kernel; their
lengths are checked all the same.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from kshark.api import PluginError
from kshark.limits import LINKS

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP"""
RTMGRP_LINK: Final = 1
IFLA_IFNAME: Final = 3
IFF_UP: Final = 1
READ: Final = 256 * 1024
"""Bytes read at once; the kernel sends dumps in pieces of at most 32 KiB, notifications singly."""
READS: Final = 64
"""Messages read before others have their turn."""
DUMP_SECONDS: Final = 2.0

_nlmsg = Struct("=IHHII")
_ifinfo = Struct("=BxHiII")
_attribute = Struct("=HH")


class Link(NamedTuple):
    """One interface. `number` is its ifindex, `hardware` its ``ARPHRD_*``."""

    number: int
    name: str
    hardware: int
    up: bool


class Change(NamedTuple):
    """What happened to a link: `before` is None for a new one, `after` for one that is gone."""

    before: Link | None
    after: Link | None


class Links:
    """The links of the namespace that the calling thread is in when this is made."""

    def __init__(self) -> None:
        self.known: dict[int, Link] = {}
        self.overflow = 0
        """Links beyond `LINKS`, not known here."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, RTMGRP_LINK))
            self._dump()
        except OSError as error:
            self._socket.close()
            raise PluginError(f"cannot list the interfaces: {error.strerror or error}") from None

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def update(self) -> list[Change]:
        """Read what the kernel has to tell, without waiting."""
        changes: list[Change] = []
        for _ in range(READS):
            try:
                data = self._socket.recv(READ)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes += self._dump()  # notifications were lost: look at everything again
                continue
            for kind, link in _messages(data):
                changes += self._take(kind, link)
        return changes

    def _take(self, kind: int, link: Link | None) -> list[Change]:
        if link is None:
            return []
        before = self.known.get(link.number)
        if kind == RTM_DELLINK:
            self.known.pop(link.number, None)
            return [Change(before, None)] if before else []
        if before is None and len(self.known) >= LINKS:
            self.overflow += 1
            return []
        self.known[link.number] = link
        return [Change(before, link)] if before != link else []

    def _dump(self) -> list[Change]:
        """Ask for all links; what is not among them is gone."""
        request = _nlmsg.pack(32, RTM_GETLINK, REQUEST_DUMP, 1, 0) + _ifinfo.pack(0, 0, 0, 0, 0)
        changes: list[Change] = []
        seen: set[int] = set()
        done = False
        self._socket.settimeout(DUMP_SECONDS)
        self._socket.send(request)
        while not done:
            for kind, link in _messages(self._socket.recv(READ)):
                done = done or kind in (NLMSG_DONE, NLMSG_ERROR)
                changes += self._take(kind, link)
                if link:
                    seen.add(link.number)
        self._socket.setblocking(False)
        gone = [self.known.pop(index) for index in set(self.known) - seen]
        return changes + [Change(link, None) for link in gone]


def _messages(data: bytes) -> Iterator[tuple[int, Link | None]]:
    """The messages of one datagram: their type and, for those about links, the link."""
    at = 0
    while at + _nlmsg.size <= len(data):
        size, kind, *_ = _nlmsg.unpack_from(data, at)
        if size < _nlmsg.size or at + size > len(data):
            return
        body = data[at + _nlmsg.size : at + size]
        yield kind, _link(body) if kind in (RTM_NEWLINK, RTM_DELLINK) else None
        at += (size + 3) & ~3


def _link(body: bytes) -> Link | None:
    """The link of a message; None for one about a bridge's port (family AF_BRIDGE)."""
    if len(body) < _ifinfo.size:
        return None
    family, hardware, index, flags, _ = _ifinfo.unpack_from(body)
    if family != socket.AF_UNSPEC or index <= 0:
        return None
    at = _ifinfo.size
    while at + _attribute.size <= len(body):
        size, kind = _attribute.unpack_from(body, at)
        if size < _attribute.size or at + size > len(body):
            return None
        if kind == IFLA_IFNAME:
            name = body[at + 4 : at + size].split(b"\0")[0].decode(errors="replace")
            return Link(index, name, hardware, bool(flags & IFF_UP))
        at += (size + 3) & ~3
    return None
