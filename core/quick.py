"""The guard without a compiler: one chunk, one message, one pair, without a call in between.

Most chunks belong to a flow whose dissector has proven itself; they complete one message or none, and that
message is the next request, or the answer to the oldest that waits. `QuickGuard.chunk` does for these in one
go what `Guard`, `Pairing` and `Emitter` do in ten; everything else goes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kshark.api import DissectError, Entry, Message, Outcome, Side, Switch
from kshark.flow import DISSECT, HELD, REQUEST, RESPONSE, SIDES, SILENT_BYTES, Guard
from kshark.given import gather
from kshark.pairing import COST

if TYPE_CHECKING:
    from kshark.breaker import ProtocolState
    from kshark.engine import Engine
    from kshark.pairing import Emitter, Pairing
    from kshark.wire import WireFlow

Found = Iterable[Message | Switch]
OK = Outcome.OK


class QuickGuard(Guard):
    """See the module."""

    __slots__ = ("maker", "pairs", "speaks", "swift")
    maker: Emitter
    pairs: Pairing
    speaks: ProtocolState

    def __init__(self, engine: Engine, wire: WireFlow) -> None:
        super().__init__(engine, wire)
        # The dissector's feed(), while nothing is special about this flow; the others are then set, too.
        self.swift: Callable[[Side, bytes], Found] | None = None

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        """The next bytes of one side."""
        feed = self.swift
        if feed is None or self.speaks.tripped:
            return self.slowly(side, data, ns)
        if self.flip:
            side ^= 1
        tally, proto, size = self.tally, self.speaks, len(data)
        tally.chunks += 1
        tally.payload += size
        tally.feeds += 1
        proto.bytes += size
        tally.current = proto
        try:
            found = feed(SIDES[side], data)
        except BaseException as error:
            return self.take(error, side, size, ns)
        if type(found) is not list:
            return self.take(found, side, size, ns)
        tally.current = None
        if not found:
            return self.wait(side, size, ns)
        message, pairs, held = found[0], self.pairs, self.held[side]
        if (
            len(found) != 1 or type(message) is not Message or message.size != held + size
            or message.side >= 0 or message.key or message.notes or message.first_ns
            or message.last_ns or pairs.unsure
        ):  # fmt: skip
            return self.take(found, side, size, ns)
        if side:
            if message.kind != RESPONSE or pairs.first is None or pairs.late or pairs.stacked:
                return self.take(found, side, size, ns)
        elif (
            message.kind != REQUEST
            or pairs.first is not None
            or pairs.ahead is not None
            or pairs.early
        ):
            return self.take(found, side, size, ns)
        first = ns
        if held:
            first = self.since[side]
            if first > ns:
                return self.take(found, side, size, ns)
            self.held[side] = self.since[side] = 0
        self.silent[side] = self.spared = 0
        message.first_ns = first
        message.last_ns = pairs.last_ns = ns
        self.messages += 1
        tally.messages += 1
        if side:
            self.pair(pairs.turn(), message)
        else:
            tally.requests += 1
            pairs.first = message
            tally.reserved += len(message.head) + len(message.body) + COST
            if not self.timed:
                self.timed = True
                self.engine.watch(self, ns)
        if self.reserved:
            self.reserve(min(self.held[1 - side], HELD))
        return False

    def pair(self, request: Message, response: Message) -> None:
        """A request and its answer are an entry."""
        tally, maker = self.tally, self.maker
        tally.responses += 1
        tally.reserved -= len(request.head) + len(request.body) + COST
        if (
            request.ok and response.ok and response.first_ns >= request.first_ns
            and not (request.truncated or response.truncated or request.cut or response.cut)
            and not (request.gap_bytes or response.gap_bytes)
        ):  # fmt: skip
            flow, seq, protocol = maker.flow, maker.seq, maker.protocol
            maker.out.append(Entry(flow, seq, protocol, request, response, OK, 0, maker.midstream))
            maker.seq = seq + 1
            tally.ok += 1
        else:
            self.pairs.pair(request, response)

    def wait(self, side: int, size: int, ns: int) -> bool:
        """A feed gave nothing: these bytes are held, and may become too many."""
        held = self.held
        held[side] += size
        if not self.since[side]:
            self.since[side] = ns
        silent = self.silent[side] = self.silent[side] + size
        self.reserve(min(held[0], HELD) + min(held[1], HELD) - self.spared)
        return silent > SILENT_BYTES and self.quiet(side)

    def take(self, found: Found | BaseException, side: int, size: int, ns: int) -> bool:
        """What a feed gave, where it is not one message without anything odd."""
        tally = self.tally
        self.held[side] += size
        try:
            if isinstance(found, BaseException):
                raise found
            if type(found) is not list:
                found, fault = gather(found)
                if fault is not None:
                    tally.current = None
                    return self.accept(found, side, ns) or self.failed(fault, side, ns)
            tally.current = None
            if found:
                return self.accept(found, side, ns)
        except DissectError as error:
            tally.current = None
            return self.failed(error, side, ns)
        except BaseException as error:
            tally.current = None
            return self.broke(error)
        self.held[side] -= size
        return self.wait(side, size, ns)

    def slowly(self, side: int, data: bytes, ns: int) -> bool:
        """Whatever is special. Is it still?"""
        enough = super().chunk(side, data, ns)
        proto, maker, pairs = self.proto, self.emitter, self.asked
        if (
            self.state == DISSECT and self.proven and not self.strict and proto is not None
            and maker is not None and maker.wire is None and pairs is not None
        ):  # fmt: skip
            self.swift, self.speaks, self.maker, self.pairs = self.feed, proto, maker, pairs
        return enough

    def leave(self) -> None:
        """Forget the dissector."""
        self.swift = None
        super().leave()
