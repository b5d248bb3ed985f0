"""Sharing packets among workers: the program that chooses one (PACKET_FANOUT_CBPF).

Both directions of a flow must come to one worker, and every copy of a packet too: bare on a container's
link and inside a tunnel on the node's. The kernel's own choice (PACKET_FANOUT_HASH) knows the first, but
hashes the outer addresses of VXLAN and Geneve, whose source ports differ between the directions. So
this program looks into the tunnels that the wire unpacks too, and sums up addresses and ports of the
innermost flow: a sum does not know directions. What it cannot read falls to a fixed worker.
"""

from __future__ import annotations

from typing import Final

from kshark.backends._bpf import FROM_NETWORK, JUMP, JUMP_EQUAL, Insn, Program

LEVELS: Final = 3
"""IP headers looked at, one within the other."""
VXLAN, VXLAN_OLD, GENEVE, GPE = 4789, 8472, 6081, 4790
BRIDGED: Final = 0x6558
"""Ethertype of an Ethernet frame in Geneve and GRE."""

LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x50, 0x48, 0x40  # at X + k
SET, LOAD, LOAD_X, STORE, X_TO_A = 0x00, 0x60, 0x61, 0x02, 0x87
ADD, ADD_X, AND, LEFT, RIGHT, MULTIPLY = 0x04, 0x0C, 0x54, 0x64, 0x74, 0x24
JUMP_BITS, RETURN_A = 0x45, 0x16

# Scratch memory: where this IP header is and what follows it (from the outermost network header),
# the two sums, the protocol, flags of GRE.
BASE, NEXT, ADDRESSES, PORTS, PROTOCOL, FLAGS = range(6)
GOLDEN, MIX = 0x9E37_79B1, 0x85EB_CA6B  # odd constants that spread low bits upwards


class Assembly:
    """Instructions with names for places; jumps go forward only, as the kernel demands."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, str, str]] = []
        self._places: dict[str, int] = {}

    def place(self, name: str) -> None:
        self._places[name] = len(self._lines)

    def do(self, code: int, k: int = 0, yes: str = "", no: str = "") -> None:
        self._lines.append((code, k, yes, no))

    def load(self, code: int, offset: int) -> None:
        """A load of packet bytes at X + offset."""
        self.do(code, FROM_NETWORK + offset)

    def go(self, name: str) -> None:
        self.do(JUMP, 0, name)

    def choose(self, **places: tuple[int, ...]) -> None:
        """Jump to the place whose numbers include A; go on if none does."""
        for name, numbers in places.items():
            for number in numbers:
                self.do(JUMP_EQUAL, number, name)

    def program(self) -> Program:
        found = []
        for at, (code, k, yes, no) in enumerate(self._lines):
            if_yes, if_no = (self._places[n] - at - 1 if n else 0 for n in (yes, no))
            jump = code == JUMP
            found.append(Insn(code, 0, 0, if_yes) if jump else Insn(code, if_yes, if_no, k))
        return tuple(found)


def chooser() -> Program:
    """The program of a group: a number that is the same for all packets of a flow."""
    a = Assembly()
    a.do(SET, 0)
    for cell in range(6):
        a.do(STORE, cell)
    for level in range(LEVELS):
        _level(a, str(level), f"ip{level + 1}")
    a.place(f"ip{LEVELS}")
    a.place("end")
    a.do(LOAD, PORTS)
    a.do(MULTIPLY, GOLDEN)
    a.do(LOAD_X, ADDRESSES)
    a.do(ADD_X)
    a.do(MULTIPLY, MIX)
    a.do(RIGHT, 16)
    a.do(RETURN_A)
    return a.program()


def _level(a: Assembly, n: str, inner: str) -> None:
    """One IP header at BASE, if there is one; then to the next level if it carries another."""
    a.place("ip" + n)
    a.do(LOAD_X, BASE)
    a.load(LOAD_BYTE, 0)
    a.do(RIGHT, 4)
    a.choose(**{"four" + n: (4,), "six" + n: (6,)})
    a.go("end")
    _four(a, n)
    _six(a, n)
    a.place("carried" + n)
    a.do(SET, 0)
    a.do(STORE, PORTS)
    a.do(LOAD, PROTOCOL)
    a.choose(**{"ports" + n: (6, 17, 132), "bare" + n: (4, 41), "gre" + n: (47,)})
    a.go("end")
    _ports(a, n, inner)
    _gre(a, n, inner)
    a.place("bare" + n)
    a.do(LOAD, NEXT)
    a.do(STORE, BASE)
    a.go(inner)


def _four(a: Assembly, n: str) -> None:
    """IPv4 (RFC 791)."""
    a.place("four" + n)
    a.load(LOAD_WORD, 12)
    a.do(STORE, ADDRESSES)
    _add_word(a, 16)
    a.load(LOAD_BYTE, 9)
    a.do(STORE, PROTOCOL)
    a.load(LOAD_BYTE, 0)
    a.do(AND, 15)
    a.do(LEFT, 2)
    a.do(ADD_X)
    a.do(STORE, NEXT)
    a.go("carried" + n)


def _six(a: Assembly, n: str) -> None:
    """IPv6 (RFC 8200) without extension headers: behind them a flow goes by its addresses alone."""
    a.place("six" + n)
    a.do(SET, 0)
    a.do(STORE, ADDRESSES)
    for word in range(8):
        _add_word(a, 8 + 4 * word)
    a.load(LOAD_BYTE, 6)
    a.do(STORE, PROTOCOL)
    a.do(X_TO_A)
    a.do(ADD, 40)
    a.do(STORE, NEXT)


def _add_word(a: Assembly, offset: int) -> None:
    a.load(LOAD_WORD, offset)
    a.do(LOAD_X, ADDRESSES)
    a.do(ADD_X)
    a.do(STORE, ADDRESSES)
    a.do(LOAD_X, BASE)


def _ports(a: Assembly, n: str, inner: str) -> None:
    """TCP, UDP, SCTP; VXLAN (RFC 7348), its generic extension and Geneve (RFC 8926) in UDP."""
    a.place("ports" + n)
    a.do(LOAD_X, NEXT)
    a.load(LOAD_HALF, 0)
    a.do(STORE, PORTS)
    a.load(LOAD_HALF, 2)
    a.do(LOAD_X, PORTS)
    a.do(ADD_X)
    a.do(STORE, PORTS)
    a.do(LOAD, PROTOCOL)
    a.choose(**{"udp" + n: (17,)})
    a.go("end")
    a.place("udp" + n)
    a.do(LOAD_X, NEXT)
    a.load(LOAD_HALF, 2)
    a.choose(**{"vxlan" + n: (VXLAN, VXLAN_OLD), "geneve" + n: (GENEVE,), "gpe" + n: (GPE,)})
    a.go("end")
    _generic(a, n, inner)
    a.place("vxlan" + n)
    a.load(LOAD_BYTE, 8)
    a.do(AND, 8)  # the flag that there is a VNI; also nothing to add to the header's length
    a.choose(**{"frame" + n: (8,)})
    a.go("end")
    a.place("geneve" + n)
    a.load(LOAD_HALF, 10)
    a.choose(**{"options" + n: (BRIDGED,)})
    a.go("end")
    a.place("options" + n)
    a.load(LOAD_BYTE, 8)
    a.do(AND, 0x3F)
    a.do(LEFT, 2)
    a.do(ADD, 8)
    a.place("frame" + n)  # A: bytes of the tunnel's header; then an Ethernet header, UDP's before
    a.do(ADD_X)
    a.do(ADD, 8 + 14)
    a.do(STORE, BASE)
    a.go(inner)


def _generic(a: Assembly, n: str, inner: str) -> None:
    """VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe-13): with flag 4 the header's last byte but four says what it carries."""
    a.place("gpe" + n)
    a.load(LOAD_BYTE, 8)
    a.do(AND, 4)
    a.choose(**{"vxlan" + n: (0,)})
    a.load(LOAD_BYTE, 11)
    a.choose(**{"packet" + n: (1, 2), "bridge" + n: (3,)})
    a.go("end")
    a.place("bridge" + n)
    a.do(SET, 8)
    a.go("frame" + n)
    a.place("packet" + n)
    a.do(X_TO_A)
    a.do(ADD, 8 + 8)
    a.do(STORE, BASE)
    a.go(inner)


def _gre(a: Assembly, n: str, inner: str) -> None:
    """GRE (RFC 2784, RFC 2890): four bytes, four more for each of checksum, key and sequence."""
    a.place("gre" + n)
    a.do(LOAD_X, NEXT)
    a.load(LOAD_HALF, 0)
    a.do(STORE, FLAGS)
    a.do(X_TO_A)
    a.do(ADD, 4)
    a.do(STORE, BASE)
    for bit in (0x8000, 0x2000, 0x1000):
        a.do(LOAD, FLAGS)
        a.do(JUMP_BITS, bit, f"have{bit}_{n}", f"lack{bit}_{n}")
        a.place(f"have{bit}_{n}")
        _further(a, 4)
        a.place(f"lack{bit}_{n}")
    a.load(LOAD_HALF, 2)
    a.choose(**{"bridged" + n: (BRIDGED,)})
    a.go(inner)
    a.place("bridged" + n)
    _further(a, 14)
    a.go(inner)


def _further(a: Assembly, count: int) -> None:
    a.do(LOAD, BASE)
    a.do(ADD, count)
    a.do(STORE, BASE)
