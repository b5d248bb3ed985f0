"""Walk one block of a TPACKET_V3 ring: one index record (`kshark.api.INDEX_FORMAT`) a packet.

The plain twin of ``_tpacket.pyx``, which takes this module's place where it is compiled. A block is what
the kernel lays out (Linux ``tpacket_block_desc``, ``tpacket3_hdr``, ``sockaddr_ll``); it is read as if it
were hostile all the same: nothing outside it is read, each step goes forward, what is unsound is counted.

Two link types come out of one ring, so there are two indexes: frames of Ethernet and loopback links
from their link header on, and IP packets of all other links (tun, tunnels, PPP: ``ARPHRD_*``) from their
network header on, whatever stands before it.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from kshark.api import INDEX_FORMAT

COMPILED: Final = False
INDEX: Final = Struct(INDEX_FORMAT)

STATUS: Final = 8
"""Offset of the block status; bit 0 says that the block is ours (TP_STATUS_USER)."""
FRAME: Final = Struct("=IIIIIIHH20xHHiH")
"""tpacket3_hdr (48 bytes, to tp_net) and sockaddr_ll from sll_family to sll_hatype."""
FRAME_BYTES: Final = 68
"""TPACKET3_HDRLEN: no frame is nearer to the next one than this."""
ETHER, LOOPBACK = 1, 772
"""ARPHRD_ETHER, ARPHRD_LOOPBACK: links whose frames begin with an Ethernet header."""
IP: Final = frozenset({Struct("=H").unpack(w)[0] for w in (b"\x08\x00", b"\x86\xdd")})
"""ETH_P_IP and ETH_P_IPV6 as sll_protocol has them (network byte order)."""

_status = Struct("=I")
_head = Struct("=II")
_UNWANTED: Final = -1


def ready(block: Any) -> bool:
    """Whether the kernel has handed this block to us."""
    return bool(_status.unpack_from(block, STATUS)[0] & 1)


def release(block: Any) -> None:
    """Give the block back to the kernel; its bytes may change from now on."""
    _status.pack_into(block, STATUS, 0)


class Walker:
    """Turns blocks into records, with the interface numbers that ``resolve(ifindex)`` gives.

    `resolve` answers -1 for a link that is not wanted; its answers are kept until `forget`. Counters:
    ``seen`` (frames in the blocks walked), ``unwanted`` (of such links), ``foreign`` (neither Ethernet
    nor IP), ``unsound`` (a frame that points outside of the block, or no room in the index).
    """

    __slots__ = ("_numbers", "_resolve", "foreign", "seen", "unsound", "unwanted")

    def __init__(self, resolve: Callable[[int], int]) -> None:
        self._resolve = resolve
        self._numbers: dict[int, int] = {}
        self.seen = self.unwanted = self.foreign = self.unsound = 0

    def forget(self) -> None:
        """The links have changed: ask `resolve` again."""
        self._numbers.clear()

    def walk(self, block: Any, ether: bytearray, plain: bytearray) -> tuple[int, int]:
        """Index a block: frames into `ether`, IP packets without link header into `plain`.

        Gives the count of records in each.
        """
        size = len(block)
        count, at = _head.unpack_from(block, STATUS + 4)
        self.seen += count
        ethers = plains = 0
        for left in range(count, 0, -1):
            if at + FRAME_BYTES > size:
                self.unsound += left
                break
            step, sec, nsec, kept, wire, _, mac, net, _, protocol, ifindex, hatype = (
                FRAME.unpack_from(block, at)
            )
            framed = hatype in (ETHER, LOOPBACK)
            skipped = 0 if framed else net - mac
            begin, length = at + mac + skipped, kept - skipped
            number = self._number(ifindex)
            room = len(ether) - ethers * 24 if framed else len(plain) - plains * 24
            if number == _UNWANTED:
                self.unwanted += 1
            elif not framed and protocol not in IP:
                self.foreign += 1
            elif (
                mac < FRAME_BYTES or skipped < 0 or length < 0 or begin + length > size or room < 24
            ):
                self.unsound += 1
            else:
                row = (
                    sec * 1_000_000_000 + nsec, begin, length, max(wire - skipped, length), number, 0
                )  # fmt: skip
                if framed:
                    INDEX.pack_into(ether, ethers * 24, *row)
                    ethers += 1
                else:
                    INDEX.pack_into(plain, plains * 24, *row)
                    plains += 1
            if left > 1 and step < FRAME_BYTES:
                self.unsound += left - 1
                break
            at += step
        return ethers, plains

    def _number(self, ifindex: int) -> int:
        number = self._numbers.get(ifindex)
        if number is None:
            number = self._numbers[ifindex] = self._resolve(ifindex)
        return number
