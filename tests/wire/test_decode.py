"""Frames to datagrams: link layers, IP, tunnels, fragments, and a reason for everything else."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from craft import (
    A4,
    A6,
    ACK,
    B4,
    B6,
    SECOND,
    START,
    SYN,
    Record,
    Talk,
    block,
    ether,
    frames,
    icmp,
    ip4,
    ip6,
    pieces,
    tcp,
    udp,
)
from record import CLASSES, Tape, run

from kshark import limits
from kshark.wire import WireLimits

pytestmark = pytest.mark.parametrize("kind", CLASSES)
PLAIN = ip4(udp(1000, 53, b"hello"), 17)
SIX = ip6(udp(1000, 53, b"hello"), 17)


def heard(kind: Any, frame: bytes, linktype: int = 1) -> bytes:
    """What the client of the only flow said."""
    tape = run(kind, block([Record(frame)], linktype))
    assert len(tape.flows) == 1, tape.counts()
    return tape.flows[0].stream(0)


def reason(kind: Any, frame: bytes, linktype: int = 1, wire: int = -1) -> str:
    """Why the only packet reached no flow."""
    counts = run(kind, block([Record(frame, wire=wire)], linktype)).counts()
    assert counts.pop("received") == 1
    assert len(counts) == 1, counts
    return next(iter(counts))


# ---------------------------------------------------------------- link layers


def test_link_layers(kind: Any) -> None:
    sll = struct.pack(">HHH8sH", 0, 1, 6, bytes(8), 0x0800)
    sll2 = struct.pack(">HHIHBB8s", 0x86DD, 0, 3, 1, 0, 6, bytes(8))
    nflog = (
        b"\x02\x00\x00\x00"
        + struct.pack("<HH", 5, 10)
        + b"x\0\0\0"
        + struct.pack("<HH", 4 + len(PLAIN), 9)
    )
    for linktype, frame in [
        (1, ether(PLAIN)), (1, ether(SIX, 0x86DD)), (113, sll + PLAIN), (276, sll2 + SIX),
        (12, PLAIN), (14, SIX), (101, SIX), (228, PLAIN), (229, SIX),
        (0, struct.pack("<I", 2) + PLAIN), (0, struct.pack(">I", 30) + SIX), (0, struct.pack("<I", 24) + SIX),
        (108, struct.pack(">I", 28) + SIX), (108, struct.pack(">I", 2) + PLAIN), (239, nflog + PLAIN),
    ]:  # fmt: skip
        assert heard(kind, frame, linktype) == b"hello", linktype


def test_link_layers_without_ip(kind: Any) -> None:
    assert reason(kind, bytes(60), 127) == "linktype"
    assert reason(kind, ether(PLAIN, 0x0806)) == "non_ip"
    assert reason(kind, ether(b"\xaa\xaa\x03\0\0\0\x08\0" + PLAIN, len(PLAIN) + 8)) == "non_ip"
    assert reason(kind, struct.pack(">I", 7) + PLAIN, 108) == "non_ip"
    assert reason(kind, b"\x20" + PLAIN[1:], 101) == "non_ip"
    assert reason(kind, b"", 1) == "truncated"
    assert reason(kind, b"", 101) == "truncated"
    assert reason(kind, ether(b"")[:13]) == "truncated"
    assert reason(kind, bytes(15), 113) == "truncated"
    assert reason(kind, bytes(19), 276) == "truncated"
    assert reason(kind, bytes(3), 0) == "truncated"


def test_nflog_fields_are_bounded(kind: Any) -> None:
    assert reason(kind, b"\x02\0\0\0" + b"\x04\x00\x01\x00" * 70, 239) == "non_ip"
    assert reason(kind, b"\x02\0\0\0" + b"\x03\x00\x01\x00", 239) == "non_ip"
    assert reason(kind, b"\x02\0\0\0" + b"\x04\x00\x01\x00", 239) == "truncated"


def test_tags_and_labels(kind: Any) -> None:
    for tags in ([0x8100], [0x88A8, 0x8100], [0x9100, 0x8100], [0x8100] * limits.VLAN_TAGS):
        assert heard(kind, ether(PLAIN, tags=tags)) == b"hello"
    assert reason(kind, ether(PLAIN, tags=[0x8100] * (limits.VLAN_TAGS + 1))) == "non_ip"
    assert reason(kind, ether(b"", 0x8100)) == "truncated"
    label, last = bytes((0, 1, 0, 9)), bytes((0, 1, 1, 9))
    assert heard(kind, ether(label * 3 + last + PLAIN, 0x8847)) == b"hello"
    assert heard(kind, ether(last + SIX, 0x8848)) == b"hello"
    assert reason(kind, ether(label * limits.MPLS_LABELS + last + PLAIN, 0x8847)) == "non_ip"
    assert reason(kind, ether(last + b"\0\0\0\0" + ether(PLAIN), 0x8847)) == "non_ip"
    assert reason(kind, ether(last, 0x8847)) == "truncated"


# ---------------------------------------------------------------- IP


def test_padding_is_no_payload(kind: Any) -> None:
    talk = Talk().open()
    rows = [Record(ether(p) + bytes(6)) for p in talk.packets]
    tape = run(kind, block([*rows, Record(ether(PLAIN) + b"padding")]))
    assert tape.streams() == [(b"", b""), (b"hello", b"")]


def test_no_length_means_what_was_captured(kind: Any) -> None:
    """Segmentation offload: the sender's own packets may have a total length of 0."""
    assert heard(kind, ether(ip4(udp(1, 2, b"hello", size=0), 17, total=0))) == b"hello"
    talk = Talk().open()
    big = ip4(tcp(40_000, 80, talk.seqs[0], talk.seqs[1], ACK, b"x" * 70_000), total=0)
    rows = [Record(ether(p)) for p in talk.packets]
    tape = run(kind, block([*rows, Record(ether(big))]))
    assert len(tape.flows[0].stream(0)) == 70_000
    cut = run(kind, block([*rows, Record(ether(big)[:1000], wire=len(ether(big)))]))
    assert len(cut.flows[0].stream(0)) == 70_000
    assert cut.flows[0].flow.bytes(0) == 70_000
    assert heard(kind, ether(ip6(udp(1, 2, b"hello", size=0), 17, size=0), 0x86DD)) == b"hello"


def test_ip4_options(kind: Any) -> None:
    assert heard(kind, ether(ip4(udp(1, 2, b"hello"), 17, options=bytes(40)))) == b"hello"


def test_bad_ip(kind: Any) -> None:
    assert reason(kind, ether(b"\x65" + PLAIN[1:])) == "bad_ip"
    assert reason(kind, ether(b"\x44" + PLAIN[1:])) == "bad_ip"
    assert reason(kind, ether(b"\x4f" + PLAIN[1:])) == "bad_ip"
    assert reason(kind, ether(ip4(b"", 17, total=19))) == "bad_ip"
    assert reason(kind, ether(PLAIN[:19])) == "truncated"
    assert reason(kind, ether(ip4(b"", 17, options=bytes(20))[:30])) == "truncated"
    assert reason(kind, ether(b"\x45" + SIX[1:], 0x86DD)) == "bad_ip"
    assert reason(kind, ether(SIX[:39], 0x86DD)) == "truncated"


def test_extension_headers(kind: Any) -> None:
    inner = udp(1, 2, b"hello")

    def chain(*kinds: int) -> bytes:
        packet, after = inner, 17
        for number in reversed(kinds):
            if number == 44:
                packet = bytes((after, 0, 0, 0, 0, 0, 0, 1)) + packet
            elif number == 51:
                packet = bytes((after, 4)) + bytes(22) + packet
            else:
                packet = bytes((after, 1)) + bytes(14) + packet
            after = number
        return ether(ip6(packet, after), 0x86DD)

    for kinds in (
        (0,),
        (0, 43, 60),
        (44,),
        (51,),
        (0, 60, 43, 44, 51, 60),
        (0,) * limits.EXTENSION_HEADERS,
    ):
        assert heard(kind, chain(*kinds)) == b"hello"
    assert reason(kind, chain(*(0,) * (limits.EXTENSION_HEADERS + 1))) == "bad_ip"
    assert reason(kind, ether(ip6(b"", 59), 0x86DD)) == "other_l4"
    assert reason(kind, ether(ip6(b"\x11\xff" + bytes(14), 0), 0x86DD)) == "bad_ip"
    assert reason(kind, ether(ip6(b"\x11\x00", 0), 0x86DD)) == "bad_ip"
    assert reason(kind, chain(0)[:60]) == "truncated"
    assert heard(kind, ether(ip4(bytes((17, 4)) + bytes(22) + inner, 51))) == b"hello"


def test_transports(kind: Any) -> None:
    assert reason(kind, ether(ip4(bytes(30), 132))) == "other_l4"
    assert reason(kind, ether(ip4(bytes(30), 50))) == "other_l4"
    assert reason(kind, ether(ip4(bytes(19), 6))) == "bad_l4"
    assert reason(kind, ether(ip4(tcp(1, 2, 3, 4, ACK), 6))[:50]) == "truncated"
    short = bytearray(tcp(1, 2, 3, 4, ACK))
    short[12] = 0x40
    assert reason(kind, ether(ip4(bytes(short), 6))) == "bad_l4"
    short[12] = 0x60
    assert reason(kind, ether(ip4(bytes(short), 6))) == "bad_l4"
    assert reason(kind, ether(ip4(bytes(7), 17))) == "bad_l4"
    assert reason(kind, ether(PLAIN)[:40]) == "truncated"
    assert reason(kind, ether(ip4(udp(1, 2, b"x", size=7), 17))) == "bad_l4"
    assert reason(kind, ether(ip4(icmp(8, 0)[:7], 1))) == "bad_l4"
    assert heard(kind, ether(ip4(udp(1, 2, b"hello padding", size=13), 17))) == b"hello"
    assert heard(kind, ether(ip4(tcp(5, 2, 3, 4, ACK, b"hello", options=bytes(40))))) == b"hello"


def test_a_snapped_datagram_has_a_gap(kind: Any) -> None:
    frame = ether(PLAIN)
    tape = run(kind, block([Record(frame[:-2], wire=len(frame))]))
    assert [e[:3] for e in tape.flows[0].events[1:3]] == [("chunk", 0, b"hello"[:3]), ("gap", 0, 2)]
    options = ether(ip4(tcp(9, 2, 3, 4, ACK, b"hello", options=bytes(12))))
    tape = run(kind, block([Record(options[:60], wire=len(options))]))
    assert tape.flows[0].gaps(0) == [5]


# ---------------------------------------------------------------- tunnels


def vxlan(frame: bytes, port: int = 4789) -> bytes:
    return ip4(
        udp(5555, port, b"\x08\0\0\0\0\0\x07\0" + frame),
        17,
        b"\x01\x01\x01\x01",
        b"\x02\x02\x02\x02",
    )


def gpe(packet: bytes, protocol: int, flags: int = 0x0C) -> bytes:
    """VXLAN-GPE: what its header says it carries."""
    return ip4(udp(5555, 4790, bytes((flags, 0, 0, protocol)) + b"\0\0\7\0" + packet), 17)


def geneve(packet: bytes, protocol: int = 0x6558, options: int = 0) -> bytes:
    head = struct.pack(">BBHI", options, 0, protocol, 7 << 8) + bytes(4 * options)
    return ip4(udp(5555, 6081, head + packet), 17)


def gre(packet: bytes, protocol: int, flags: int = 0, options: int = 0) -> bytes:
    return ip4(struct.pack(">HH", flags, protocol) + bytes(options) + packet, 47)


def test_tunnels(kind: Any) -> None:
    inner = ether(PLAIN)
    for packet in (
        vxlan(inner), vxlan(inner, 8472), vxlan(ether(SIX, 0x86DD, [0x8100])), geneve(inner),
        geneve(inner, options=3), geneve(PLAIN, 0x0800), geneve(SIX, 0x86DD), ip4(PLAIN, 4), ip4(SIX, 41),
        gre(PLAIN, 0x0800), gre(SIX, 0x86DD, 0xB000, 12), gre(inner, 0x6558, 0x2000, 4),
        gre(bytes(8) + inner, 0x88BE, 0x1000, 4), gre(inner, 0x88BE), gre(bytes(12) + inner, 0x22EB),
        gpe(PLAIN, 1), gpe(SIX, 2), gpe(inner, 3), gpe(inner, 0, 8), gpe(PLAIN, 1, 4), gpe(PLAIN, 1, 14),
        gpe(b"\0\1\1\1" + PLAIN, 5), gpe(ether(vxlan(inner)), 3),
        gre(bytes(11) + b"\x01" + bytes(8) + inner, 0x22EB), gre(b"\0\1\1\1" + PLAIN, 0x8847),
    ):  # fmt: skip
        assert heard(kind, ether(packet)) == b"hello"
    assert heard(kind, ether(ip6(PLAIN, 4), 0x86DD)) == b"hello"
    assert heard(kind, ether(ip6(SIX, 41), 0x86DD)) == b"hello"


def test_the_innermost_flow_counts(kind: Any) -> None:
    flow = run(kind, block([Record(ether(vxlan(ether(SIX, 0x86DD))))])).flows[0].flow
    assert (flow.client, flow.server, flow.server_port) == (A6, B6, 53)
    flow = run(kind, block([Record(ether(PLAIN))])).flows[0].flow
    assert (flow.client, flow.server) == (A4, B4)


def test_what_looks_like_a_tunnel_and_is_none(kind: Any) -> None:
    assert heard(kind, ether(ip4(udp(5, 4789, bytes(20)), 17))) == bytes(20)
    assert heard(kind, ether(ip4(udp(5, 4789, b"\x08" + bytes(6)), 17))) == b"\x08" + bytes(6)
    assert heard(kind, ether(ip4(udp(4789, 5, b"\x08" + bytes(30)), 17))) == b"\x08" + bytes(30)
    assert heard(kind, ether(geneve(b"x", 0x1234)))[8:] == b"x"
    assert heard(kind, ether(ip4(udp(5, 6081, b"\x80" + bytes(9)), 17))) == b"\x80" + bytes(9)
    for protocol, flags in ((0, 12), (4, 12), (6, 12), (1, 0), (1, 13), (1, 0x1C), (3, 0x4C)):
        assert heard(kind, ether(gpe(PLAIN, protocol, flags)))[8:] == PLAIN
    for flags in (0x4000, 1):
        assert reason(kind, ether(gre(PLAIN, 0x0800, flags))) == "other_l4"
    assert reason(kind, ether(gre(PLAIN, 0x880B))) == "other_l4"


def test_broken_tunnels(kind: Any) -> None:
    assert reason(kind, ether(vxlan(ether(PLAIN, 0x0806)))) == "non_ip"
    assert reason(kind, ether(vxlan(bytes(13)))) == "truncated"
    assert reason(kind, ether(gpe(bytes(13), 3))) == "truncated"
    assert reason(kind, ether(gpe(SIX, 1))) == "bad_ip"
    assert reason(kind, ether(geneve(b"", options=9)[:44])) == "truncated"
    assert reason(kind, ether(ip4(b"\0\0", 47))) == "bad_l4"
    assert reason(kind, ether(gre(b"", 0x0800, 0x8000))) == "truncated"
    assert reason(kind, ether(ip4(b"", 4))) == "truncated"


def test_tunnels_are_bounded(kind: Any) -> None:
    packet = PLAIN
    for _ in range(limits.TUNNELS):
        packet = ip4(packet, 4)
    assert heard(kind, ether(packet)) == b"hello"
    assert reason(kind, ether(ip4(packet, 4))) == "tunnel_depth"
    assert reason(kind, ether(vxlan(ether(packet)))) == "tunnel_depth"
    assert reason(kind, ether(gpe(packet, 1))) == "tunnel_depth"
    assert reason(kind, ether(gre(packet, 0x0800))) == "tunnel_depth"


def test_a_connection_in_and_out_of_a_tunnel_counts_once(kind: Any) -> None:
    talk = Talk().open()
    talk.send(0, b"hello")
    rows = [
        r
        for p in talk.packets
        for r in (Record(ether(p), iface=0), Record(ether(vxlan(ether(p))), iface=1))
    ]
    tape = run(kind, block(rows))
    assert tape.streams() == [(b"hello", b"")]
    assert tape.counts()["duplicate"] == 4


# ---------------------------------------------------------------- fragments

LONG = bytes(range(200))
WHOLE = udp(1000, 53, LONG)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_fragments_in_any_order(kind: Any, order: tuple[int, ...]) -> None:
    parts = pieces(WHOLE, 56)
    tape = Tape(kind)
    for n, which in enumerate(order[:-1]):
        tape.feed(frames(parts[which]))
        assert tape.counts()["fragment_held"] == n + 1
        assert tape.counts()["received"] == n + 1
    tape.feed(frames(parts[order[-1]]))
    assert tape.counts() == {"received": 4, "in_flows": 4, "flows": 1, "defragmented": 1}
    assert tape.finish().streams() == [(LONG, b"")]
    assert tape.flows[0].flow.packets(0) == 4


def test_ip6_fragments(kind: Any) -> None:
    packet = bytes((17, 0)) + bytes(6) + WHOLE  # with an extension header in the fragmented part
    first = bytes((60, 0)) + struct.pack(">HI", 1, 99) + packet[:96]
    second = bytes((60, 0)) + struct.pack(">HI", 96, 99) + packet[96:]
    rows = [Record(ether(ip6(f, 44), 0x86DD)) for f in (second, first)]
    assert run(kind, block(rows)).streams() == [(LONG, b"")]


def test_fragments_of_a_tunnel(kind: Any) -> None:
    parts = pieces(vxlan(ether(ip4(WHOLE, 17)))[20:], 80)
    assert run(kind, frames(*parts)).streams() == [(LONG, b"")]
    inner = [vxlan(ether(p)) for p in pieces(WHOLE, 80)]
    assert run(kind, frames(*inner)).streams() == [(LONG, b"")]
    nested = [f for p in inner for f in pieces(p[20:], 64, ident=p[30])]
    counts = run(kind, frames(*nested)).counts()
    assert counts["received"] == len(nested)


def test_fragments_of_two_datagrams_and_two_interfaces(kind: Any) -> None:
    one, two = pieces(WHOLE, 104, 1), pieces(udp(1000, 53, LONG[::-1]), 104, 2)
    mixed = run(kind, frames(one[0], two[0], two[1], one[1]))
    assert [e[2] for e in mixed.flows[0].events if e[0] == "chunk"] == [LONG[::-1], LONG]
    rows = [Record(ether(p), iface=i) for p in one for i in (0, 1)]
    twice = run(kind, block(rows))
    assert twice.streams() == [(LONG, b"")]
    assert twice.counts()["duplicate"] == 2


def test_the_same_fragment_twice(kind: Any) -> None:
    parts = pieces(WHOLE, 104)
    tape = run(kind, frames(parts[0], parts[0], parts[1]))
    assert tape.streams() == [(LONG, b"")]
    assert tape.counts()["duplicate"] == 1


@pytest.mark.parametrize(
    ("at", "size", "more"),
    [(8, 96, True), (96, 64, True), (0, 96, True), (200, 8, False), (8, 16, False)],
)
def test_overlapping_fragments_end_their_datagram(
    kind: Any, at: int, size: int, more: bool
) -> None:
    parts = pieces(WHOLE, 104)
    other = ip4(bytes(size), 17, ident=9, frag=at // 8 | more << 13)
    order = [parts[1], other] if at == 200 else [parts[0], other]
    counts = run(kind, frames(*order)).counts()
    assert counts == {"received": 2, "fragment_bad": 2}


def test_fragments_that_cannot_be(kind: Any) -> None:
    def lone(size: int, at: int, more: bool) -> str:
        return reason(kind, ether(ip4(bytes(size), 17, frag=at // 8 | more << 13)))

    assert lone(7, 0, True) == "bad_ip"
    assert lone(0, 8, True) == "bad_ip"
    assert lone(24, 0xFFF0, False) == "bad_ip"
    assert lone(8, 0xFFF0, True) == "fragment_timeout"
    frame = ether(pieces(WHOLE, 104)[0])
    assert reason(kind, frame[:-1], wire=len(frame)) == "truncated"


def test_fragments_wait_in_vain(kind: Any) -> None:
    tape = Tape(kind).feed(frames(*pieces(WHOLE, 56)[:3]))
    assert tape.counts()["fragment_held"] == 3
    assert tape.wire.memory > 3 * 56
    tape.wire.tick(START + 30 * SECOND - 1)
    assert tape.counts()["fragment_held"] == 3
    tape.wire.tick(START + 30 * SECOND)
    assert tape.counts() == {"received": 3, "fragment_timeout": 3}
    assert tape.wire.memory == 0


def test_fragments_are_bounded(kind: Any) -> None:
    firsts = [pieces(WHOLE, 104, n)[0] for n in range(5)]
    tape = run(kind, frames(*firsts), limits=WireLimits(fragments=2))
    assert tape.counts() == {"received": 5, "fragment_limit": 3, "fragment_timeout": 2}
    tape = run(kind, frames(*firsts), limits=WireLimits(fragment_bytes=208))
    assert tape.counts() == {"received": 5, "fragment_limit": 3, "fragment_timeout": 2}
    crumbs = pieces(bytes(8 * (limits.FRAGMENT_PIECES + 2)), 8)
    counts = run(kind, frames(*crumbs)).counts()
    assert counts == {
        "received": limits.FRAGMENT_PIECES + 2,
        "fragment_limit": limits.FRAGMENT_PIECES + 1,
        "fragment_timeout": 1,
    }


def test_nested_fragments_are_bounded(kind: Any) -> None:
    """Fragments of fragments of fragments: put together only as deep as tunnels go."""
    for levels in (limits.TUNNELS + 1, limits.TUNNELS + 2):
        after, sent, ident = 17, [udp(1, 2, b"x" * 4000)], 0
        for _ in range(levels):
            parts = []
            for whole in sent:
                ident += 1
                cut = len(whole) // 16 * 8
                for at, piece in ((0, whole[:cut]), (cut, whole[cut:])):
                    head = bytes((after, 0)) + struct.pack(">HI", at | (at == 0), ident)
                    parts.append(head + piece)
            after, sent = 44, parts
        rows = [Record(ether(ip6(f, 44), 0x86DD)) for f in sent]
        counts = run(kind, block(rows)).counts()
        fate = "in_flows" if levels == limits.TUNNELS + 1 else "tunnel_depth"
        assert counts[fate] == counts["received"] == 2**levels


def test_a_fragmented_syn(kind: Any) -> None:
    syn = Talk().send(0, flags=SYN)
    tape = run(kind, frames(*pieces(syn[20:] + b"payload", 8, proto=6)))
    assert tape.flows[0].flow.midstream is False
    assert tape.streams() == [(b"payload", b"")]
