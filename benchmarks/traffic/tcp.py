"""TCP connections as Ethernet frames, and classic pcap files of many of them interleaved.

Checksums are right, every segment has the timestamp option, sequence numbers start anywhere.
Nothing here reads a clock: the same seed writes the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from random import Random
from typing import BinaryIO

MSS = 1_448
EPOCH = 1_767_323_045  # 2026-01-02T03:04:05Z
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)  # microseconds, Ethernet
FLUSH = 4 << 20

FIN, SYN, PSH, ACK = 1, 2, 8, 16
SYN_OPTIONS = bytes.fromhex("020405b4 01 030307")  # MSS 1460, no-op, window scale 7

_HEADERS = struct.Struct(">14sHHHHHH4s4sHHIIHHHHHHII")
_RECORD = struct.Struct("<IIII")


class Connection:
    """One TCP connection; makes the frames of both ends, in the order in which they are sent."""

    def __init__(self, rng: Random, number: int, ports: tuple[int, ...]) -> None:
        self.left = rng.randrange(50, 400)  # transactions until it is closed
        client = bytes((10, 1, number >> 8 & 255, number & 255 or 1))
        server = bytes((10, 2, 0, rng.randrange(1, 9)))
        self.address = (client, server)
        self.port = (32_768 + number * 7 % 28_000, rng.choice(ports))
        macs = b"\x02\x00" + client, b"\x02\x00" + server
        self.ethernet = (macs[1] + macs[0] + b"\x08\x00", macs[0] + macs[1] + b"\x08\x00")
        self.seq = [rng.randrange(1 << 32), rng.randrange(1 << 32)]
        self.ident = [rng.randrange(1 << 16), rng.randrange(1 << 16)]
        self.stamp = rng.randrange(1 << 31)
        # All sums are of 16-bit words modulo 65535, to which 2**16 is congruent 1.
        both = int.from_bytes(client) + int.from_bytes(server)
        self.ip_sum = 0x4500 + 0x4000 + 0x4006 + both
        self.tcp_sum = 6 + both + sum(self.port) + 0x1F5 + 0x0101 + 0x080A

    def frame(self, side: int, flags: int, payload: bytes = b"") -> bytes:
        """One segment of `side`; its sequence number moves on."""
        other, used = 1 - side, len(payload)
        bits = 0x8000 | flags
        if flags & SYN:
            payload, used, bits = SYN_OPTIONS, 1, 0xA000 | flags
        elif flags & FIN:
            used = 1
        length = 52 + len(payload)
        seq, ack = self.seq[side], self.seq[other] if flags & ACK else 0
        ident = self.ident[side] = (self.ident[side] + 1) & 0xFFFF
        self.stamp += 1
        words = int.from_bytes(payload) << (8 if len(payload) & 1 else 0)
        total = self.tcp_sum + length - 20 + seq + ack + bits + self.stamp * 2 - 1 + words
        head = _HEADERS.pack(
            self.ethernet[side],
            0x4500,
            length,
            ident,
            0x4000,
            0x4006,
            -(self.ip_sum + length + ident) % 65_535,
            self.address[side],
            self.address[other],
            self.port[side],
            self.port[other],
            seq,
            ack,
            bits,
            0x1F5,
            -total % 65_535,
            0,
            0x0101,
            0x080A,
            self.stamp,
            self.stamp - 1,
        )
        self.seq[side] = (seq + used) & 0xFFFFFFFF
        return head + payload

    def open(self) -> list[bytes]:
        return [self.frame(0, SYN), self.frame(1, SYN | ACK), self.frame(0, ACK)]

    def close(self) -> list[bytes]:
        return [self.frame(0, FIN | ACK), self.frame(1, FIN | ACK), self.frame(0, ACK)]

    def send(self, side: int, data: bytes) -> list[bytes]:
        """`data` in as many segments as it takes."""
        if len(data) <= MSS:
            return [self.frame(side, PSH | ACK, data)]
        cuts = range(0, len(data), MSS)
        last = len(data) - MSS
        return [
            self.frame(side, ACK if at < last else PSH | ACK, data[at : at + MSS]) for at in cuts
        ]

    def again(self, frame: bytes) -> bytes:
        """`frame` as it is sent once more: another IP identification."""
        side = int(frame[26:30] != self.address[0])
        ident = self.ident[side] = (self.ident[side] + 1) & 0xFFFF
        length = int.from_bytes(frame[16:18])
        checksum = -(self.ip_sum + length + ident) % 65_535
        middle = struct.pack(">HHHH", ident, 0x4000, 0x4006, checksum)
        return frame[:18] + middle + frame[26:]


class Capture:
    """A pcap file in the making: frames get their time as they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.now = EPOCH * 1_000_000
        self.packets = 0
        self.size = len(PCAP_HEADER)
        self.held: list[bytes] = [PCAP_HEADER]
        self.held_size = 0

    def write(self, columns: Iterable[Iterable[bytes | None]]) -> None:
        """Frames of concurrent connections, interleaved: the n-th of each, then the next."""
        now, held = self.now, self.held
        for column in columns:
            for frame in column:
                if frame is None:
                    continue
                length = len(frame)
                now += 3 + (length & 15)
                held.append(_RECORD.pack(now // 1_000_000, now % 1_000_000, length, length))
                held.append(frame)
                self.packets += 1
                self.held_size += length + 16
        self.now = now
        if self.held_size > FLUSH:
            self.flush()

    def flush(self) -> None:
        self.file.write(b"".join(self.held))
        self.size += self.held_size
        self.held.clear()
        self.held_size = 0


class Faults:
    """What a network does to some segments: swaps neighbours of a burst, sends one again.

    `reorder` and `repeat` are shares of all packets, kept by feedback as far as there are bursts.
    """

    def __init__(self, rng: Random, capture: Capture, reorder: float, repeat: float) -> None:
        self.rng = rng
        self.capture = capture
        self.reorder = reorder
        self.repeat = repeat
        self.swapped = self.repeated = 0

    def burst(self, connection: Connection, frames: list[bytes]) -> list[bytes]:
        """`frames` of one side as they are seen: mostly the same."""
        packets = self.capture.packets
        if self.repeated < self.repeat * packets and self.rng.random() < 0.1:
            self.repeated += 1
            frames = [*frames, connection.again(self.rng.choice(frames))]
        elif self.swapped < self.reorder * packets and len(frames) > 1 and self.rng.random() < 0.3:
            at = self.rng.randrange(len(frames) - 1)
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
            self.swapped += 1
        return frames


def interleave(bursts: list[list[bytes]]) -> Iterator[tuple[bytes | None, ...]]:
    """The columns of ragged rows."""
    return zip_longest(*bursts)
