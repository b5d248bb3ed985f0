"""The programs of bpf/packet.bpf.c, set up as the user wants them and loaded."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from kshark.api import Options, PluginError, option
from kshark.backends import _libbpf, _makers
from kshark.backends._libbpf import BpfError, Object
from kshark.bpf import MISSING, program
from kshark.limits import KIB, LINKS, MIB, PACKET_ROOM, PORTS

SHARED: Final = ("ring", "counts", "ports", "makers")
"""Maps that all copies of the programs have in common."""
LEAST_RING: Final = 512 * KIB
"""Bytes: the longest packet fits."""
LEAST_SNAPLEN: Final = 64
"""Bytes: the headers of most packets."""


class PacketOptions(Options):
    """Options of every backend that uses them."""

    ports: Annotated[
        list[int],
        option(
            "Only TCP and UDP from or to these ports; the kernel checks it (of tunnels the outer packet)"
        ),
    ] = []
    ring_bytes: Annotated[
        int, option("Memory for packets that wait, rounded up to a power of two", unit="bytes")
    ] = 64 * MIB
    snaplen: Annotated[int, option("Bytes taken of each packet", unit="bytes")] = PACKET_ROOM
    processes: Annotated[
        bool, option("Name the processes that send packets, by who made their sockets")
    ] = True
    user: Annotated[
        str, option("Become this user, without privileges, once the programs are attached")
    ] = ""


class Wanted(NamedTuple):
    """What backend `name` loads: which programs, and the options that they are told."""

    name: str
    programs: tuple[str, ...]
    options: PacketOptions

    def check(self) -> None:
        """`PluginError` for an option that cannot be."""
        options = self.options
        for name, least, most in (
            ("ring_bytes", LEAST_RING, 1 << 30),
            ("snaplen", LEAST_SNAPLEN, PACKET_ROOM),
        ):
            if not least <= getattr(options, name) <= most:
                raise PluginError(f"{self.name}: {name} must be between {least} and {most}")
        if len(options.ports) > PORTS:
            raise PluginError(f"{self.name}: at most {PORTS} ports")
        if not all(0 < port < 65_536 for port in options.ports):
            raise PluginError(f"{self.name}: ports must be between 1 and 65535")
        if why := missing(self.programs):
            raise PluginError(f"{self.name}: {why}")


def load(wanted: Wanted, first: Sequence[Object] = ()) -> Object:
    """The programs, loaded; with the maps of the `first` ones where there are such."""
    try:
        found = _object(wanted, first)
    except BpfError as error:
        raise PluginError(f"{wanted.name}: {explained(error)}") from None
    for port in wanted.options.ports:
        found.map("ports").put(port.to_bytes(2, sys.byteorder), b"\1")
    return found


def watch_makers(wanted: Wanted, first: Object) -> Object:
    """Learn who makes sockets, into the maps of the `first` programs; `BpfError` where the kernel refuses that."""
    found = _object(wanted._replace(programs=_makers.PROGRAMS), [first])
    try:
        _makers.begin(found)
    except BaseException:
        found.close()
        raise
    return found


def missing(programs: tuple[str, ...]) -> str:
    """Why these programs cannot be loaded here, and what to do; "" where they can: they are, for a moment."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}: read a capture file instead (--read FILE)"
    if why := _libbpf.missing():
        return why
    if not program("packet").exists():
        return MISSING
    try:
        _object(Wanted("", programs, PacketOptions(ring_bytes=LEAST_RING))).close()
    except BpfError as error:
        return explained(error)
    return ""


def _object(wanted: Wanted, first: Sequence[Object] = ()) -> Object:
    options = wanted.options
    ring = 1 << (options.ring_bytes - 1).bit_length()
    found = Object(
        program("packet"),
        only=wanted.programs,
        constants={
            "snaplen": options.snaplen,
            "by_port": int(bool(options.ports)),
            "by_maker": int(options.processes),
        },
        sizes={"ring": ring, "links": LINKS, "ports": PORTS},
        share=[one.map(name) for one in first for name in SHARED],
    )
    try:
        found.load()
    except BaseException:
        found.close()
        raise
    return found


def explained(error: OSError) -> str:
    """What to tell the user where the kernel refuses."""
    if error.errno == errno.EPERM:  # the verifier says EACCES
        python = os.path.realpath(sys.executable)
        return (
            "needs CAP_BPF and CAP_NET_ADMIN: run with sudo, or once: "
            f"sudo setcap cap_bpf,cap_net_admin+ep {python}"
        )
    return str(error.strerror)
