"""ns a packet of the wire alone: ``python benchmarks/wire.py [packets]``.

A block in memory, generated: keep-alive connections in turn, a request, an answer, an ACK; in order, as nearly
all packets are. The handshakes are not measured. Consumers do nothing but return. Best of three runs: with
payload, without (ACKs), and to flows that want no more.
"""

from __future__ import annotations

import struct
import sys
import time
from typing import Any

from kshark.api import INDEX_FORMAT, Block
from kshark.wire.pure import Wire as Pure

SYN, ACK = 0x02, 0x10
START = 1_700_000_000_000_000_000


class Nobody:
    """A consumer that returns."""

    def __init__(self, enough: bool) -> None:
        self.enough = enough

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        return self.enough

    def gap(self, side: int, missing: int, ns: int) -> bool:
        raise AssertionError("nothing is lost here")

    def end(self, reason: int, ns: int) -> None:
        pass


def packet(number: int, side: int, seq: int, ack: int, flags: int, payload: bytes) -> bytes:
    """An Ethernet frame of connection `number`."""
    client, server = struct.pack(">BBH", 10, 0, number), b"\x0a\x63\x00\x01"
    ends, ports = (client, server), (40_000, 80)
    if side:
        ends, ports = ends[::-1], ports[::-1]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0x4000, 64, 6, 0)
    tcp = struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 65_535, 0, 0)
    return bytes(12) + b"\x08\x00" + ip + ends[0] + ends[1] + tcp + payload


def traffic(packets: int, flows: int, request: bytes, answer: bytes) -> tuple[Block, Block]:
    """Handshakes, then turns of all connections, one after another."""
    data, index = bytearray(), bytearray()
    seqs = [[1000, 5000] for _ in range(flows)]
    rows: list[tuple[int, int, int, bytes]] = []
    for number in range(flows):
        rows += [(number, 0, SYN, b""), (number, 1, SYN | ACK, b""), (number, 0, ACK, b"")]
    opening = len(rows)
    while len(rows) < opening + packets:
        for number in range(flows):
            rows += [(number, 0, ACK, request), (number, 1, ACK, answer), (number, 0, ACK, b"")]
    for i, (number, side, flags, payload) in enumerate(rows):
        mine = seqs[number]
        frame = packet(
            number, side, mine[side], mine[1 - side] if flags & ACK else 0, flags, payload
        )
        mine[side] += len(payload) + bool(flags & SYN)
        index += struct.pack(
            INDEX_FORMAT, START + i * 1000, len(data), len(frame), len(frame), 0, 0
        )
        data += frame
    raw, cut = bytes(data), 24 * opening
    return (
        Block(raw, bytes(index[:cut]), opening, 1, ("eth0",)),
        Block(raw, bytes(index[cut:]), len(rows) - opening, 1, ("eth0",)),
    )


def measure(kind: Any, opening: Block, block: Block, enough: bool) -> float:
    """ns of CPU a packet, the best of three."""
    best = 1e9
    for _ in range(3):
        wire = kind(lambda flow: Nobody(enough))
        wire.feed(opening)
        begin = time.process_time_ns()
        wire.feed(block)
        best = min(best, (time.process_time_ns() - begin) / block.count)
        assert wire.counters()["in_flows"] == opening.count + block.count
    return best


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    kinds: list[tuple[str, Any, int]] = [("pure", Pure, packets // 10)]
    try:
        from kshark.wire.fast import Wire as Fast
    except ImportError:
        print("no compiled wire here")
    else:
        kinds.insert(0, ("fast", Fast, packets))
    cases = [
        ("400 B + 1,400 B + ACK", b"q" * 400, b"a" * 1400, False),
        ("50 B + 50 B + ACK", b"q" * 50, b"a" * 50, False),
        ("ACKs alone", b"", b"", False),
        ("no more, please", b"q" * 400, b"a" * 1400, True),
    ]
    print(f"{'ns a packet':<24}{'flows':>8}" + "".join(f"{name:>10}" for name, _, _ in kinds))
    for flows in (100, 10_000):
        for title, request, answer, enough in cases:
            found = [measure(k, *traffic(n, flows, request, answer), enough) for _, k, n in kinds]
            print(f"{title:<24}{flows:>8}" + "".join(f"{ns:>10.0f}" for ns in found))


if __name__ == "__main__":
    main()
