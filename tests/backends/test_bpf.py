"""Filter programs: the checks of the link, tcpdump expressions on either kind of link, errors."""

from __future__ import annotations

import struct

import cbpf
import pytest

from kshark.api import PluginError
from kshark.backends import _bpf
from kshark.limits import BPF_LINKS

PACKET_TYPE, LINK, HARDWARE = 4, 8, 28
HOST, OUTGOING = 0, 4
ETHER, LOOPBACK, NONE = 1, 772, 0xFFFE
SNAP = 1000

IP = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 38, 1, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
DATAGRAM = IP + struct.pack("!HHHH", 5000, 53, 18, 0) + b"0123456789"
FRAME = bytes(12) + b"\x08\0" + DATAGRAM


def verdict(
    program: _bpf.Program,
    *,
    link: int = 2,
    hardware: int = ETHER,
    kind: int = HOST,
    ip: bool = False,
) -> int:
    known = {PACKET_TYPE: kind, LINK: link, HARDWARE: hardware}
    packet, network = (DATAGRAM, 0) if ip else (FRAME, 14)
    return cbpf.run(program, packet, network, known)


def compiled(text: str) -> _bpf.Expression:
    return _bpf.compile_expression(text, SNAP)


@pytest.mark.parametrize("hardware", [ETHER, LOOPBACK, NONE, 778])
def test_everything_passes_but_the_second_copy_of_loopback(hardware: int) -> None:
    program = _bpf.whole(_bpf.everything(SNAP))
    assert verdict(program, hardware=hardware) == SNAP
    assert verdict(program, hardware=hardware, kind=OUTGOING) == (
        0 if hardware == LOOPBACK else SNAP
    )


@pytest.mark.parametrize("wanted", [[], [3], [3, 4, 9], list(range(3, BPF_LINKS + 3))])
def test_only_wanted_links_and_newer_ones_pass(wanted: list[int]) -> None:
    newest = max(wanted, default=5) + 5
    program = _bpf.whole(_bpf.everything(SNAP), wanted, newest)
    for link in range(1, newest + 3):
        expected = SNAP if link in wanted or link > newest else 0
        assert verdict(program, link=link) == expected, link
        assert verdict(program, link=link, hardware=NONE, ip=True) == expected


def test_too_many_links_are_left_to_the_walk() -> None:
    program = _bpf.whole(_bpf.everything(SNAP), list(range(BPF_LINKS + 1)), 10_000)
    assert verdict(program, link=9999) == SNAP


@pytest.mark.parametrize(
    ("text", "ether", "plain"),
    [
        ("", True, True),
        ("udp port 53", True, True),
        ("udp[8:4] = 0x30313233", True, True),
        ("ip host 10.0.0.2 and udp", True, True),
        ("tcp or port 54", False, False),
        ("ether host 00:00:00:00:00:00", True, False),
        ("len > 30", True, True),
    ],
)
def test_an_expression_on_links_with_and_without_ethernet(
    text: str, ether: bool, plain: bool
) -> None:
    program = _bpf.whole(compiled(text))
    assert bool(verdict(program)) == ether
    assert bool(verdict(program, hardware=LOOPBACK)) == ether
    assert bool(verdict(program, hardware=NONE, ip=True)) == plain


def test_a_link_header_that_is_not_ethernet_is_skipped() -> None:
    known = {PACKET_TYPE: HOST, LINK: 2, HARDWARE: 778}
    program = _bpf.whole(compiled("udp dst port 53"))
    assert cbpf.run(program, b"G" * 28 + DATAGRAM, 28, known) == SNAP


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tcpx port", "syntax error"),
        ("port 70000", "70000"),
        ("tcp and udp and ip6 and arp", "rejects all packets"),
        ("vlan 5", "the kernel takes the tag off"),
    ],
)
def test_a_wrong_expression_is_one_line(text: str, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        compiled(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_libpcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bpf, "LIBPCAP", ("libpcap.so.none",))
    assert compiled("") == _bpf.everything(SNAP)
    with pytest.raises(PluginError, match=r"apt-get install libpcap0\.8"):
        compiled("tcp")


def test_a_program_that_is_too_long() -> None:
    long = _bpf.Expression(_bpf.accept(SNAP) * 2100, _bpf.accept(SNAP) * 2100)
    with pytest.raises(PluginError, match="4208 instructions, the kernel takes 4096"):
        _bpf.whole(long)
