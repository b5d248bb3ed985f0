"""Classic BPF, interpreted: what the kernel would do with a program and a packet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kshark.backends._bpf import Program

MEMORY: Final = 16
WORD: Final = 0xFFFF_FFFF
ANCILLARY: Final = 0xFFFF_F000
NETWORK: Final = 0xFFF0_0000


def run(
    program: Program, packet: bytes, network: int = 14, known: Mapping[int, int] | None = None
) -> int:
    """The value returned; `known` is what the kernel knows of the packet, by SKF_AD_* offset.

    Reading outside of the packet returns 0, as the kernel does; anything that its checker would refuse
    (unknown code, jump outside of the program, memory read before it is written) is an error here.
    """
    a = x = at = 0
    memory: dict[int, int] = {}

    def load(offset: int, size: int) -> int | None:
        offset &= WORD
        if offset >= ANCILLARY:
            return (known or {})[offset - ANCILLARY]
        if offset >= NETWORK:
            offset += network - NETWORK
        piece = packet[offset : offset + size]
        return int.from_bytes(piece, "big") if len(piece) == size else None

    while True:
        code, yes, no, k = program[at]
        at += 1
        size = {0x00: 4, 0x08: 2, 0x10: 1}.get(code & 0x18, 4)
        match code:
            case 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50:
                value = load(k + (x if code & 0x40 else 0), size)
                if value is None:
                    return 0
                a = value
            case 0xB1:
                value = load(k, 1)
                if value is None:
                    return 0
                x = (value & 15) * 4
            case 0x80:
                a = len(packet)
            case 0x00:
                a = k
            case 0x01:
                x = k
            case 0x60:
                a = memory[k]
            case 0x61:
                x = memory[k]
            case 0x02 | 0x03:
                assert k < MEMORY
                memory[k] = a if code == 0x02 else x
            case 0x07:
                x = a
            case 0x87:
                a = x
            case 0x04 | 0x0C:
                a = a + (x if code & 8 else k) & WORD
            case 0x14 | 0x1C:
                a = a - (x if code & 8 else k) & WORD
            case 0x24:
                a = a * k & WORD
            case 0x54 | 0x5C:
                a &= x if code & 8 else k
            case 0x44:
                a |= k
            case 0x64:
                a = a << k & WORD
            case 0x74:
                a >>= k
            case 0x05:
                at += k
            case 0x15 | 0x1D:
                at += yes if a == (x if code & 8 else k) else no
            case 0x25 | 0x2D:
                at += yes if a > (x if code & 8 else k) else no
            case 0x35:
                at += yes if a >= k else no
            case 0x45:
                at += yes if a & k else no
            case 0x06:
                return k
            case 0x16:
                return a
            case _:
                raise AssertionError(f"code {code:#x}")
