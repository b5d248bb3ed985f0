"""The choice of a worker: both directions agree, inside tunnels too, and the work is spread."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

import cbpf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.backends._fanout import chooser

PROGRAM = chooser()
A4, B4 = b"\x0a\0\0\1", b"\x0a\0\0\2"
A6, B6 = bytes(15) + b"\1", b"\xfd" + bytes(14) + b"\2"


def ip(source: bytes, target: bytes, proto: int, body: bytes, options: bytes = b"") -> bytes:
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + source + target + body
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(body), 1, 0, 64, proto, 0)
    return head + source + target + options + body


def udp(source: int, target: int, body: bytes = b"") -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(body), 0) + body


def vxlan(inner: bytes, port: int = 4789) -> bytes:
    return udp(51_000 + len(inner), port, b"\x08\0\0\0\0\0\7\0" + bytes(12) + b"\x08\0" + inner)


def gpe(inner: bytes, protocol: int) -> bytes:
    frame = bytes(12) + b"\x08\0" if protocol in (0, 3) else b""
    head = bytes((0x0C if protocol else 0x08, 0, 0, protocol)) + b"\0\0\7\0"
    return udp(53_000 + len(inner), 4790, head + frame + inner)


def geneve(inner: bytes) -> bytes:
    return udp(52_000, 6081, b"\x02\0\x65\x58\0\0\7\0" + bytes(8) + bytes(12) + b"\x08\0" + inner)


def gre(inner: bytes, flags: int = 0xB000, kind: int = 0x0800) -> bytes:
    words = bin(flags & 0xB000).count("1")
    frame = bytes(12) + b"\x08\0" if kind == 0x6558 else b""
    return struct.pack("!HH", flags, kind) + bytes(4 * words) + frame + inner


def worker(packet: bytes, network: int = 14) -> int:
    return cbpf.run(PROGRAM, bytes(network) + packet, network)


Wrap = Callable[[bytes, bytes, bytes], bytes]
WRAPPINGS: dict[str, Wrap] = {
    "bare": lambda s, t, inner: inner,
    "vxlan": lambda s, t, inner: ip(s, t, 17, vxlan(inner)),
    "flannel": lambda s, t, inner: ip(s, t, 17, vxlan(inner, 8472)),
    "geneve": lambda s, t, inner: ip(s, t, 17, geneve(inner)),
    "gpe": lambda s, t, inner: ip(s, t, 17, gpe(inner, 2 if inner[0] >> 4 == 6 else 1)),
    "gpe bridged": lambda s, t, inner: ip(s, t, 17, gpe(inner, 3)),
    "gpe as vxlan": lambda s, t, inner: ip(s, t, 17, gpe(inner, 0)),
    "ipip": lambda s, t, inner: ip(s, t, 41 if inner[0] >> 4 == 6 else 4, inner),
    "gre": lambda s, t, inner: ip(s, t, 47, gre(inner)),
    "gretap": lambda s, t, inner: ip(s, t, 47, gre(inner, 0x2000, 0x6558)),
    "two": lambda s, t, inner: ip(s, t, 17, vxlan(ip(t, s, 4, inner))),
}


@pytest.mark.parametrize("wrapping", list(WRAPPINGS))
@pytest.mark.parametrize("proto", [6, 17, 132])
@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)], ids=["v4", "v6"])
def test_directions_and_wrappings_agree(
    wrapping: str, proto: int, ends: tuple[bytes, bytes]
) -> None:
    there = ip(*ends, proto, udp(40_000, 80) + b"." * 20)
    back = ip(ends[1], ends[0], proto, udp(80, 40_000) + b"." * 60)
    nodes = b"\xc0\xa8\0\1", b"\xc0\xa8\0\2"
    wrap = WRAPPINGS[wrapping]
    bare = worker(there)
    assert bare
    assert worker(wrap(*nodes, there)) == bare
    assert worker(wrap(nodes[1], nodes[0], back), network=0) == bare


def test_options_of_ipv4_move_the_ports() -> None:
    plain, long = ip(A4, B4, 6, udp(1, 2)), ip(A4, B4, 6, udp(1, 2), b"\1" * 8)
    assert worker(plain) == worker(long) != worker(ip(A4, B4, 6, udp(1, 3)))


def test_a_tunnels_port_without_a_tunnel_goes_by_the_outer_flow() -> None:
    for body in (b"", b"\x08" + bytes(40), b"nothing of the kind, but long enough for it"):
        found = worker(ip(A4, B4, 17, udp(9, 4789, body)))
        if len(body) > 30:
            assert found == worker(ip(A4, B4, 17, udp(9, 4789, b"\0" * 40)))


def test_flows_are_spread() -> None:
    for workers in (2, 3, 8):
        found = Counter(
            worker(ip(A4, B4, 6, udp(port, 80))) % workers for port in range(32_768, 36_864)
        )
        assert max(found.values()) < 1.3 * 4096 / workers
        pods = Counter(
            worker(ip(bytes([10, 1, n, m]), B4, 6, udp(40_000, 80))) % workers
            for n in range(16)
            for m in range(256)
        )
        assert max(pods.values()) < 1.3 * 4096 / workers


@settings(derandomize=True)
@given(st.binary(max_size=120))
def test_noise_is_somebodys(noise: bytes) -> None:
    assert 0 <= worker(noise) < 1 << 16
