"""The guard without a compiler: one chunk, one message, one pair, without a call in between.

Most chunks belong to a flow whose dissector has proven itself; they complete one message or none, and that
message is the next request, or the answer to the oldest that waits. `QuickGuard.chunk` does for these in one
go what `Guard`, `Pairing` and `Emitter` do in ten; everything else goes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kshark.api import DissectError, Entry, Item, Message, Outcome, Side
from kshark.flow import (
    DISSECT,
    EARLY_MESSAGES,
    HELD,
    REQUEST,
    RESPONSE,
    SIDES,
    SILENT_BYTES,
    Guard,
)
from kshark.given import gather
from kshark.pairing import COST

if TYPE_CHECKING:
    from kshark.breaker import ProtocolState
    from kshark.engine import Engine
    from kshark.pairing import Emitter, Pairing
    from kshark.wire import WireFlow

Found = Iterable[Item]
OK = Outcome.OK
ERROR = Outcome.ERROR


class QuickGuard(Guard):
    """See the module."""

    __slots__ = ("maker", "pairs", "speaks", "swift", "within")
    maker: Emitter
    pairs: Pairing
    speaks: ProtocolState

    def __init__(self, engine: Engine, wire: WireFlow) -> None:
        super().__init__(engine, wire)
        # The dissector's feed(), while nothing is special about this flow; the others are then set, too.
        self.swift: Callable[[Side, bytes], Found] | None = None
        self.within = True  # a message of either side may be under way

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
        if type(found) is not list or len(found) != 1:
            return self.other(found, side, size, ns)
        tally.current = None
        message, pairs = found[0], self.pairs
        asked = pairs.first
        if (
            type(message) is not Message or message.side >= 0 or message.key
            or message.notes or message.first_ns or message.last_ns or message.protocol or pairs.unsure
        ):  # fmt: skip
            return self.take(found, side, size, ns)
        if side:
            if message.kind != RESPONSE or asked is None or pairs.late or pairs.stacked:
                return self.take(found, side, size, ns)
        elif message.kind != REQUEST or asked is not None or pairs.ahead is not None or pairs.early:
            return self.take(found, side, size, ns)
        if self.within:
            first = self.begun(side, message.size - size, ns)
            if not first:
                return self.take(found, side, size, ns)
            message.first_ns = first
        elif message.size != size:
            return self.take(found, side, size, ns)
        else:
            message.first_ns = ns
        message.last_ns = pairs.last_ns = ns
        tally.messages += 1
        if asked is not None:
            maker = self.maker
            if pairs.queue is None:
                pairs.first = None
            else:
                pairs.turn()
            tally.responses += 1
            tally.reserved -= len(asked.head) + len(asked.body) + COST
            if (
                message.first_ns < asked.first_ns or asked.truncated or message.truncated
                or asked.cut or message.cut or asked.gap_bytes or message.gap_bytes
            ):  # fmt: skip
                pairs.pair(asked, message)
                return False
            if asked.ok and message.ok:
                outcome = OK
                tally.ok += 1
            else:
                outcome = ERROR
                tally.error += 1
            seq = maker.seq
            maker.seq = seq + 1
            maker.out.append(
                Entry(
                    maker.flow, seq, maker.protocol, asked, message, outcome, 0, maker.midstream
                )
            )  # fmt: skip
        else:
            tally.requests += 1
            pairs.first = message
            tally.reserved += len(message.head) + len(message.body) + COST
            if not self.timed:
                self.timed = True
                self.engine.watch(self, ns)
        return False

    def other(self, found: Found, side: int, size: int, ns: int) -> bool:
        """A feed gave nothing, or it gave several messages, or what only looking at them shows."""
        if type(found) is list and not found:
            self.tally.current = None
            return self.wait(side, size, ns)
        return self.take(found, side, size, ns)

    def begun(self, side: int, before: int, ns: int) -> int:
        """When a message began that now ends, and of which `before` bytes were held; 0 where that is not plain."""
        held, other = self.held, self.held[1 - side]
        first = self.since[side] if before else ns
        if held[side] != before or first > ns:
            return 0
        held[side] = self.since[side] = self.silent[side] = self.spared = 0
        if self.reserved:
            self.reserve(other if other < HELD else HELD)
        self.within = other > 0 or self.silent[1 - side] > 0
        return first

    def wait(self, side: int, size: int, ns: int) -> bool:
        """A feed gave nothing: these bytes are held, and may become too many."""
        held, tally = self.held, self.tally
        mine = held[side] = held[side] + size
        if not self.since[side]:
            self.since[side] = ns
        silent = self.silent[side] = self.silent[side] + size
        self.within = True
        other = held[1 - side]
        amount = (mine if mine < HELD else HELD) + (other if other < HELD else HELD) - self.spared
        amount = (
            amount + (amount >> 3) if amount > 0 else 0
        )  # `reserve`, of a choice that is proven
        tally.reserved += amount - self.reserved
        self.reserved = amount
        return silent > SILENT_BYTES and self.quiet(side)

    def take(self, found: Found | BaseException, side: int, size: int, ns: int) -> bool:
        """What a feed gave, where it is not one message without anything odd."""
        tally = self.tally
        self.held[side] += size
        self.within = True
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
        self.within = True
        proto, maker, pairs = self.proto, self.emitter, self.asked
        if (
            self.state == DISSECT and self.proven and not self.strict and proto is not None
            and maker is not None and maker.wire is None and maker.shown is None and pairs is not None
            and self.feeder is None and self.messages >= EARLY_MESSAGES
        ):  # fmt: skip
            self.swift, self.speaks, self.maker, self.pairs = self.feed, proto, maker, pairs
        return enough

    def spare(self, left: int) -> None:
        """The dissector holds no more than this."""
        self.within = True
        super().spare(left)

    def leave(self) -> None:
        """Forget the dissector."""
        self.swift = None
        super().leave()
