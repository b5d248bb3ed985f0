"""Classic BPF programs for packet sockets: what a user asks in tcpdump's language, and what we add.

An expression is compiled by libpcap, loaded when one is asked for. It is compiled twice: for Ethernet
and, with every load moved to the network header, for links without one (tun, tunnels). The program that
the kernel gets looks first where a packet comes from:

1. links that are not wanted are refused, so that they cost nothing (newer ones than we know pass);
2. the outgoing copy on loopback is refused: each of its packets would come twice;
3. then the expression of the packet's kind of link, or everything up to ``snaplen``.
"""

from __future__ import annotations

import ctypes
import re
import socket
from collections.abc import Sequence
from struct import Struct, pack
from typing import Any, Final, NamedTuple

from kshark.api import PluginError
from kshark.limits import BPF_LINKS

SO_ATTACH_FILTER: Final = 26
MAX_PROGRAM: Final = 4096
"""Instructions the kernel takes (BPF_MAXINSNS)."""

LOAD, JUMP, JUMP_EQUAL, JUMP_ABOVE, RETURN = 0x20, 0x05, 0x15, 0x25, 0x06
PACKET_TYPE, LINK_INDEX, HARDWARE = (0xFFFF_F000 + n for n in (4, 8, 28))
"""SKF_AD_PKTTYPE, SKF_AD_IFINDEX, SKF_AD_HATYPE: loads of what the kernel knows of a packet."""
FROM_NETWORK: Final = 0xFFF0_0000
"""SKF_NET_OFF: added to an offset, it counts from the network header."""
OUTGOING: Final = 4
ETHER, LOOPBACK = 1, 772
DLT_ETHER, DLT_RAW = 1, 12
NETMASK_UNKNOWN: Final = 0xFFFF_FFFF
LIBPCAP: Final = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")

_insn = Struct("=HBBI")


class Insn(NamedTuple):
    """``struct sock_filter``; `yes` and `no` are instructions to jump over."""

    code: int
    yes: int
    no: int
    k: int


Program = tuple[Insn, ...]
REJECT: Final[Program] = (Insn(RETURN, 0, 0, 0),)


def accept(snaplen: int) -> Program:
    """Take every packet, up to `snaplen` bytes of it."""
    return (Insn(RETURN, 0, 0, snaplen),)


class Expression(NamedTuple):
    """A user's filter for either kind of link."""

    ether: Program
    plain: Program


def everything(snaplen: int) -> Expression:
    """No filter."""
    return Expression(accept(snaplen), accept(snaplen))


def compile_expression(text: str, snaplen: int) -> Expression:
    """Compile a tcpdump expression; `PluginError` with libpcap's own words if it is wrong."""
    if not text.strip():
        return everything(snaplen)
    if re.search(r"\bvlan\b", text):
        raise PluginError(
            "bpf: the word vlan finds nothing live: the kernel takes the tag off before the filter runs"
        )
    pcap = _libpcap()
    program, error = _compile(pcap, text, DLT_ETHER, snaplen)
    if error:
        raise PluginError(f"bpf {text!r}: {error}")
    # What cannot be said of a bare IP packet (ether host, arp) matches none.
    plain, error = _compile(pcap, text, DLT_RAW, snaplen)
    return Expression(program, REJECT if error else tuple(_from_network(i) for i in plain))


def _from_network(insn: Insn) -> Insn:
    """The same load, counted from the network header; other instructions as they are."""
    loads = insn.code & 7 == 0 and insn.code & 0xE0 in (0x20, 0x40)  # BPF_LD, BPF_ABS or BPF_IND
    length = insn.code == 0xB1  # BPF_LDX | BPF_B | BPF_MSH: the length of an IP header
    return insn._replace(k=insn.k + FROM_NETWORK) if loads or length else insn


def whole(expression: Expression, wanted: Sequence[int] | None = None, newest: int = 0) -> Program:
    """The program of a ring: `expression` behind the checks of the link.

    `wanted` are the links to take, None is all; links above `newest`, the highest index known, pass.
    """
    links = _links(wanted, newest) if wanted is not None and len(wanted) <= BPF_LINKS else ()
    kinds = (
        Insn(LOAD, 0, 0, HARDWARE),
        Insn(JUMP_EQUAL, 3, 0, ETHER),
        Insn(JUMP_EQUAL, 0, 4, LOOPBACK),
        Insn(LOAD, 0, 0, PACKET_TYPE),
        Insn(JUMP_EQUAL, 1, 0, OUTGOING),  # to the refusal
        Insn(JUMP, 0, 0, 2),  # to the Ethernet program
        Insn(RETURN, 0, 0, 0),
        Insn(JUMP, 0, 0, len(expression.ether)),  # to the plain program
    )
    program = (*links, *kinds, *expression.ether, *expression.plain)
    if len(program) > MAX_PROGRAM:
        raise PluginError(f"bpf: the filter has {len(program)} instructions, the kernel takes 4096")
    return program


def _links(wanted: Sequence[int], newest: int) -> Program:
    """Fall through for wanted links and for those above `newest`, refuse the others."""
    tail = 2 * len(wanted) + 1
    found: list[Insn] = [
        Insn(LOAD, 0, 0, LINK_INDEX),
        Insn(JUMP_ABOVE, 0, 1, newest),
        Insn(JUMP, 0, 0, tail),
    ]
    for link in wanted:
        tail -= 2
        found += [Insn(JUMP_EQUAL, 0, 1, link), Insn(JUMP, 0, 0, tail)]
    return (*found, *REJECT)


def attach(
    sock: socket.socket,
    program: Program,
    level: int = socket.SOL_SOCKET,
    name: int = SO_ATTACH_FILTER,
) -> None:
    """Make `program` the filter of `sock`, in place of the one before, between two packets.

    Or what another socket option has a program for.
    """
    code = ctypes.create_string_buffer(b"".join(_insn.pack(*i) for i in program))
    sock.setsockopt(level, name, pack("@HP", len(program), ctypes.addressof(code)))


# ---------------------------------------------------------------- libpcap


class _Code(ctypes.Structure):
    """``struct bpf_program``"""

    _fields_ = [("count", ctypes.c_uint), ("insns", ctypes.c_void_p)]


def _libpcap() -> Any:
    for name in LIBPCAP:
        try:
            pcap = ctypes.CDLL(name)
        except OSError:
            continue
        pcap.pcap_open_dead.restype = ctypes.c_void_p
        pcap.pcap_geterr.restype = ctypes.c_char_p
        return pcap
    raise PluginError("bpf: libpcap is not installed: apt-get install libpcap0.8")


def _compile(pcap: Any, text: str, linktype: int, snaplen: int) -> tuple[Program, str]:
    """The program, or why there is none."""
    handle = ctypes.c_void_p(pcap.pcap_open_dead(linktype, snaplen))
    code = _Code()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(code), text.encode(), 1, NETMASK_UNKNOWN):
            return (), pcap.pcap_geterr(handle).decode(errors="replace").strip()
        raw = ctypes.string_at(code.insns, code.count * _insn.size)
        pcap.pcap_freecode(ctypes.byref(code))
    finally:
        pcap.pcap_close(handle)
    return tuple(Insn(*fields) for fields in _insn.iter_unpack(raw)), ""
