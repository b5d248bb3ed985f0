"""Packets in, in-order stream chunks out: decode, flow table, TCP reassembly.

Two implementations of one contract: ``fast`` (Cython) and ``pure`` (plain Python), which is the oracle
of the differential tests and the fallback where there is no compiler. Both are deterministic functions
of the blocks they are fed: no clock, no I/O.

The contract, for either class ``Wire``:

``Wire(on_flow, limits=WireLimits(), dedupe=True, keep_packets=False)``
    ``on_flow(flow)`` is called at a flow's first packet and returns its `Consumer`.
``feed(block)``
    Decode a `kshark.api.Block`; push chunks, gaps and ends to the consumers, in order.
``tick(now_ns)``
    Packet time (or wall time, live) has reached `now_ns`: expire idle and half-open flows, declare
    acknowledged holes older than ``gap_wait`` as gaps, drop stale fragments. ``feed`` does the same by
    the time of its packets, once a block.
``finish()``
    The capture ended: flush what is held (as gaps and chunks), end every flow with ``END_CAPTURE``.
``counters() -> dict[str, int]``
    ``received`` and the reasons of packets that reached no flow (``non_ip``, ``truncated``,
    ``bad_ip``, ``bad_l4``, ``linktype``, ``duplicate``, ``fragment_held``, ``fragment_timeout``,
    ``fragment_limit``, ``other_l4`` ...), and events (``retransmitted``, ``overlap``, ``gaps``, ``gap_bytes``,
    ``out_of_order``, ``evicted``, ``idle``, ``half_open`` ...). ``in_flows`` counts packets given to a flow:
    ``received == in_flows + sum(drop reasons)`` at every moment.
``flows`` (int), ``memory`` (int, bytes accounted), ``now`` (int, newest packet time)
``evict(n)``
    End the `n` oldest idle flows with ``END_EVICTED`` (the engine asks when its own memory is short).

Rules of reassembly (both classes):

- A stream starts at SYN+1. Without a SYN (join in mid-stream) it starts at the first payload byte seen, and
  the other side's start is taken from that packet's ACK number; ``flow.midstream`` is then true.
- A segment is deliverable when it starts at (or overlaps) the next expected byte *and* it acknowledges no byte of
  the other side that has not been delivered yet (causality: an answer never overtakes its question, whatever the
  capture reordered). What is not deliverable is held, within OOO_SEGMENTS and OOO_BYTES. The rule does not apply
  while the other side has never been seen, or has been silent since a gap was last declared on it (one-way capture).
- When a bound is reached, or the hole is acknowledged by the peer and older than GAP_WAIT, or the flow ends, the hole
  becomes ``consumer.gap(side, missing, ns)``, and what is held is delivered as far as possible.
- Overlap: the first copy seen wins. Old data is ``retransmitted``. Sequence numbers wrap at 2**32.
- Keep-alive probes (old byte at next-1) are retransmissions. A RST ends the flow (in-window check: its sequence number
  is within 1 MiB of the expected one, else ignored). FIN ends one side; both FINs delivered end the flow.
- A SYN with a different initial sequence number on a flow that has ended, or that had data: port reuse, the old flow ends
  (``END_REUSED``), a new one begins. After an end the flow lingers CLOSE_LINGER so that late ACKs do not
  make a new one.
- A packet is a duplicate (``duplicate``) when the same (addresses, ports, IP id, and for TCP seq, ack, flags,
  length; for UDP checksum and length) was seen on *another interface* within DUPLICATE_WAIT: 4 remembered a side. For
  Linux cooked v1 the packet type (outgoing or not) stands for the interface.
- Orientation: the sender of a SYN (receiver of SYN-ACK) is the client (side 0). Without either: the end
  with the higher port; with equal ports the first sender. UDP and ICMP: the first sender.
- Flow key: both addresses and ports, protocol. Not VLAN, VNI or interface: one node sees a packet in many wrappings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from kshark import limits
from kshark.api import Packet

# How a flow ended.
END_FIN = 1
END_RST = 2
END_IDLE = 3
END_HALF_OPEN = 4
END_EVICTED = 5
END_REUSED = 6
END_CAPTURE = 7


class WireLimits(msgspec.Struct, frozen=True):
    """The bounds of one `Wire`; see `kshark.limits`."""

    flows: int = limits.FLOWS
    memory: int = limits.MEMORY
    ooo_segments: int = limits.OOO_SEGMENTS
    ooo_bytes: int = limits.OOO_BYTES
    gap_wait: int = limits.GAP_WAIT
    half_open: int = limits.HALF_OPEN
    idle: int = limits.IDLE
    close_linger: int = limits.CLOSE_LINGER
    fragments: int = limits.FRAGMENTS
    fragment_bytes: int = limits.FRAGMENT_BYTES
    fragment_wait: int = limits.FRAGMENT_WAIT
    tunnels: int = limits.TUNNELS
    duplicate_wait: int = limits.DUPLICATE_WAIT
    kept_packets: int = limits.KEPT_PACKETS
    kept_bytes: int = limits.KEPT_BYTES


class WireFlow(Protocol):
    """A flow as the wire sees it; its numbers move while it lives."""

    proto: int  # 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6
    client: bytes  # 4 or 16 bytes
    server: bytes
    client_port: int  # ICMP: the identifier (or type << 8 | code where it has none) on both
    server_port: int
    first_ns: int
    last_ns: int
    midstream: bool  # TCP without its SYN
    established: bool  # TCP: SYN and SYN-ACK seen, or data both ways
    refused: bool  # TCP: a RST answered the SYN
    iface: str  # where its first packet was seen

    def packets(self, side: int) -> int:
        """Packets of one side, duplicates not counted."""
        ...

    def bytes(self, side: int) -> int:
        """Payload bytes of one side that were delivered, or would have been; gaps not counted."""
        ...

    def first_at(self, side: int) -> int:
        """ns of the first packet of one side, 0 if none."""
        ...

    def take_packets(self) -> Sequence[Packet]:
        """The packets kept since the last call (`keep_packets`), and forget them."""
        ...


class Consumer(Protocol):
    """Who takes a flow's bytes: the engine's guard. The return value true means: no more bytes, please."""

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        """The next bytes of one side: a TCP segment's payload, or one datagram. Never empty."""
        ...

    def gap(self, side: int, missing: int, ns: int) -> bool:
        """`missing` bytes of one side are lost; what follows comes after them."""
        ...

    def end(self, reason: int, ns: int) -> None:
        """The flow is over (END_*). Called exactly once."""
        ...
