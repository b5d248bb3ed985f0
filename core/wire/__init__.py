"""Packets in, in-order stream chunks out: decode, flow table, TCP reassembly.

Two implementations of one contract: ``fast`` (Cython) and ``pure`` (plain Python), which is the oracle of
the differential tests and the fallback where there is no compiler. Both are deterministic functions of the
blocks they are fed: no clock, no I/O; and how packets are cut into blocks changes nothing.

The contract, for either class ``Wire``:

``Wire(on_flow, limits=WireLimits(), dedupe=True, keep_packets=False)``
    ``on_flow(flow)`` is called at a flow's first packet and returns its `Consumer`.
``feed(block)``
    Decode a `kshark.api.Block`; push chunks, gaps and ends to the consumers, in order. Timers run whenever
    packet time has advanced by TIMER_GRAIN, before the packet that brought the news.
``tick(now_ns)``
    Packet time (or wall time, live) has reached `now_ns`: expire idle and half-open flows, declare
    acknowledged holes older than ``gap_wait`` as gaps, drop stale fragments.
``finish(most=0) -> bool``
    The capture ended: flush what is held (as gaps and chunks), end every flow with ``END_CAPTURE``; or `most` of them,
    and true while there are more.
``counters() -> dict[str, int]``
    `COUNTERS`: ``received``, ``in_flows`` (packets given to a flow), the reasons of packets that reached no
    flow (`DROPS`), and events. ``received == in_flows + sum(drop reasons)`` whenever no call is running.
``flows`` (int, with those that linger), ``memory`` (int, bytes accounted), ``now`` (int, newest packet time believed)
``evict(n)``
    `n` flows go (``END_EVICTED``; the engine asks when its own memory is short): those that have ended, then
    half-open ones while they fill more than a quarter of the table, then whoever was idle longest.

Time never runs backwards: timers use the newest packet time so far, so that captures that were joined in
the wrong order expire nothing. Chunks carry the time of their own packet.

One wrong date moves nothing: a packet more than LEAP ahead of the time so far, and of the packet after it, is taken
at the time so far (``misdated``). Where the packet after it has not come yet, such a packet waits for it, uncounted;
``tick`` takes it once time has come within LEAP of it; ``finish`` gives it its own date, but ends nothing for it.
The first packet of all is believed.

Where a packet ends: in exactly one of ``in_flows`` and `DROPS`. A fragment is ``fragment_held`` until its
datagram is whole; all of its packets then go where the datagram goes, or to ``fragment_timeout``,
``fragment_limit`` or ``fragment_bad`` (pieces that overlap). Only the innermost packet of a tunnel counts.
``late`` are packets of a flow that has ended; flows do not count them either.

An exception of a consumer passes through ``feed``; the packet that it befell counts as ``failed`` if it had
not reached its flow yet. The rest of that block is not looked at, the wire is ready for the next. Consumers
may call everything of their flow, and ``evict``, while they are called.

Rules of reassembly (both classes):

- A stream starts at SYN+1. Without a SYN (join in mid-stream) it starts at the first payload byte seen, and
  the other side's start is taken from that packet's ACK number; ``flow.midstream`` is then true. A SYN that
  turns up late (its number is at most 1 MiB before the start) changes nothing. If only one side's SYN was
  captured, the first ACK gives the other's start. A lone first byte that is not pushed is a keep-alive's: the
  stream starts after it.
- A segment is deliverable when it starts at (or overlaps) the next expected byte *and* it acknowledges no
  byte of the other side that has not been delivered yet (causality: an answer never overtakes its question,
  whatever the capture reordered). What is not deliverable is held, within OOO_SEGMENTS and OOO_BYTES. The
  rule does not apply while the other side has never been seen, or has been silent since a gap was last
  declared on it (one-way capture). An ACK more than 1 GiB ahead is nonsense and ignored.
- When a bound is exceeded, or the hole is acknowledged by the peer and has not moved for GAP_WAIT, or the
  flow ends, the hole becomes ``consumer.gap(side, missing, ns)``, and what is held is delivered as far as
  possible. A hole of one acknowledged byte with nothing after it may be a FIN: it is declared only when
  more of that side follows.
- A packet cut by the snap length delivers what is there; its missing tail is a gap of known size
  (``snapped``).
- Overlap: the first copy seen wins. Old data is ``retransmitted``. Sequence numbers wrap at 2**32: up to 3
  GiB ahead of the expected byte is ahead, the rest is old.
- Keep-alive probes (old byte at next-1) are retransmissions. A RST ends the flow (in-window check: its
  sequence number is within 1 MiB of the expected one, else ignored). FIN ends one side; both FINs delivered
  end the flow. Causality does not bind a FIN. What a side sends beyond its first FIN is in no stream, nor is a
  RST's text. Urgent data stay in their place.
- A SYN with a different initial sequence number on a flow that has ended, or that had data, or of which only
  ACKs came (the last of a connection before): port reuse, the old flow ends (``END_REUSED``), a new one
  begins. On a flow that began with a SYN and has no data the number is simply taken over. Of
  several SYN-ACKs that answer one SYN the first counts, until the client's next ACK says otherwise.
  After an end the flow lingers CLOSE_LINGER so that late packets do not make a new one.
- A packet is a duplicate (``duplicate``) when the same (addresses, ports, IP id, and for TCP seq, ack,
  flags, length; for UDP and ICMP checksum and length) was seen on *another interface* within
  DUPLICATE_WAIT: the last DUPLICATES packets of a side are remembered. For Linux cooked v1 the packet type
  (outgoing or not) stands for the interface, in v2 with the interface's index.
- Orientation: the sender of a SYN (receiver of SYN-ACK) is the client (side 0). Without either: the end
  with the higher port; with equal ports the first sender. UDP and ICMP: the first sender.
- Flow key: both addresses and ports, protocol. Not VLAN, VNI or interface: one node sees a packet in many
  wrappings.
- Half-open is a TCP flow that is nothing but one side's SYNs.
- Once ``chunk`` or ``gap`` returned true, holes are not looked after any more: bytes that advance the
  stream are counted, a FIN closes its side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final, Protocol

import msgspec

from kshark import _pure, limits
from kshark.api import Block, Packet

# How a flow ended.
END_FIN = 1
END_RST = 2
END_IDLE = 3
END_HALF_OPEN = 4
END_EVICTED = 5
END_REUSED = 6
END_CAPTURE = 7

DROPS: Final = (
    "bad_record",  # the record points outside its block: a broken backend
    "linktype",  # a link layer that is not decoded
    "non_ip",  # neither IPv4 nor IPv6: ARP and the like
    "truncated",  # the snap length cut a header, or a fragment
    "bad_ip",  # an IP header that contradicts itself
    "bad_l4",  # a TCP, UDP or ICMP header that contradicts itself
    "other_l4",  # neither TCP, UDP, ICMP nor a tunnel
    "tunnel_depth",  # more tunnels in each other than TUNNELS
    "duplicate",  # the same packet on a second interface
    "fragment_held",  # a fragment whose datagram is not whole yet
    "fragment_timeout",  # a fragment whose datagram did not become whole in FRAGMENT_WAIT
    "fragment_limit",  # a fragment beyond FRAGMENTS, FRAGMENT_BYTES or FRAGMENT_PIECES
    "fragment_bad",  # a fragment that overlaps another, or lies outside its datagram
    "late",  # of a flow that has ended
    "failed",  # a consumer raised before the packet had reached its flow
)
"""Why packets reached no flow."""
COUNTERS: Final = (
    "received",
    "in_flows",
    *DROPS,
    "flows",  # opened
    "defragmented",  # datagrams made whole
    "snapped",  # packets whose payload the snap length cut
    "retransmitted",  # segments that brought nothing new
    "overlap",  # segments that repeated some bytes
    "out_of_order",  # segments held
    "gaps",  # holes that flows were told of
    "gap_bytes",  # bytes missing in them
    "rst_ignored",  # resets that were out of the window
    "reused",  # flows that a new connection on the same ports ended
    "idle",  # flows that ended after IDLE without a packet
    "half_open",  # flows that ended after HALF_OPEN without an answer
    "evicted",  # flows that had to go, since the table or the memory was full
    "misdated",  # packets dated more than LEAP ahead of those before and after, taken at the time before
    "not_kept",  # packets beyond kept_packets or kept_bytes of their flow
)
"""All counters of a wire."""

PLAIN: Final = _pure.pure("kshark.wire.fast") or find_spec("kshark.wire.fast") is None
"""Whether no compiled class is to be had."""
FLOW_COST: Final = 7_168 if PLAIN else 1_536
"""Bytes accounted for a flow, its table entries and its consumer's frame, as measured; in plain Python objects
with dictionaries and lists take their place, in the dissector too."""
HELD_COST: Final = 112
"""Bytes accounted for a held segment or fragment beside its payload."""
PACKET_COST: Final = 128
"""Bytes accounted for a kept packet beside its data."""
BELIEVED: Final = 1 << 30
"""How far ahead an ACK number is believed: the largest TCP window (RFC 7323, section 2.3)."""
RST_WINDOW: Final = 1 << 20
"""How far from the expected byte a RST is believed, and a late SYN from the start of a stream."""


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
    leap: int = limits.LEAP
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
    refused: bool  # TCP: a RST answered the SYN
    iface: str  # where its first packet was seen

    @property
    def established(self) -> bool:
        """SYN and SYN-ACK were seen, or data both ways."""
        ...

    def packets(self, side: int) -> int:
        """Packets of one side, duplicates not counted."""
        ...

    def bytes(self, side: int) -> int:
        """Payload bytes of one side in the packets that came, cut off or not, each counted once."""
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


class Wire(Protocol):
    """Either implementation."""

    def __init__(
        self,
        on_flow: Callable[[WireFlow], Consumer],
        limits: WireLimits = ...,
        dedupe: bool = True,
        keep_packets: bool = False,
    ) -> None: ...

    @property
    def flows(self) -> int: ...

    @property
    def memory(self) -> int: ...

    @property
    def now(self) -> int: ...

    def feed(self, block: Block) -> None: ...

    def tick(self, now_ns: int) -> None: ...

    def finish(self, most: int = 0) -> bool: ...

    def counters(self) -> dict[str, int]: ...

    def evict(self, n: int) -> None: ...


def load() -> type[Wire]:
    """The class to use: compiled where there is one, unless ``KSHARK_PURE`` says otherwise."""
    if not _pure.pure("kshark.wire.fast"):
        try:
            from kshark.wire.fast import Wire as Fast
        except (ImportError, KeyError):  # not compiled, or what it stands on (`listener`) is not
            pass
        else:
            return Fast
    from kshark.wire.pure import Wire as Pure

    return Pure


COMPILED: Final = load().__module__ == "kshark.wire.fast"
"""Whether `load` gives the compiled class."""
