"""Where frames begin in bytes of unknown content: after a loss, or where a connection is joined in mid-stream.

Evidence is a chain: the header of a frame that is right in every respect, and at the distance that it says, the next.
A chance header has about 25 bits to get right, so a chain of three is no chance; zeros, counters and other
protocols with lengths fail by flags, streams and lengths. A whole header block that can be unpacked counts twice, and
is as good as a chain where it is a request or a response, whichever that side sends. What is rare in real traffic
(flags without meaning, types that RFC 9113 does not know, empty frames that say nothing) does not count as a frame
here, though a connection that is known may have it.

Invariant: of all chains the one counts that is complete first, by the offset of the last byte that it needs. So the
answer is the same however the bytes are cut.
"""

from __future__ import annotations

import re
from bisect import insort
from typing import Final, NamedTuple, Protocol

from kshark import limits
from kshark.protocols.http2.faults import fault
from kshark.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLAGS,
    HEAD,
    HEADERS,
    PUSH_PROMISE,
    SETTINGS,
    SMALLEST_LIMIT,
    Frame,
    block_bounds,
    frame,
)
from kshark.protocols.http2.hpack import BAD, VERBS

CHAIN: Final = 3
"""Frames in a row that are no chance."""
MOST: Final = 2**20
"""Bytes of a frame that is believed while nothing else is known: servers allow 16 KiB, some 1 MiB."""
CHAINS: Final = 64
"""Chains that are followed at once: content that is full of zeros begins many."""
HELD: Final = limits.UNDISSECTED
KNOWN: Final = frozenset(VERBS.values())

CANDIDATE: Final = re.compile(
    rb"(?=[\0-\x0f]..[\0-\x09][\0\x01\x04\x05\x08\x09\x0c\x0d\x20\x21\x24\x25\x28\x29\x2c\x2d][\0-\x7f])",
    re.DOTALL,
)


def plausible(head: Frame, reserved: bool) -> bool:
    """Whether nothing is odd about a frame."""
    length, kind, flags, stream = head
    if reserved or kind > CONTINUATION or flags & ~FLAGS[kind] or length > MOST:
        return False
    if length > SMALLEST_LIMIT and kind != DATA:
        return False
    if (
        kind in (DATA, HEADERS, CONTINUATION)
        and length == 0
        and not (kind == DATA and flags & END_STREAM)
    ):
        return False
    if kind == SETTINGS and (length > 60 or (length == 0) != bool(flags & ACK)):
        return False
    return not fault(length, kind, flags, stream)


class Chain(NamedTuple):
    """Frames in a row, as far as they are known. Offsets count from where the search began."""

    need: int  # the offset up to which bytes must have come for the next step
    start: int  # of the first frame
    pos: int  # of the frame that is looked at next
    worth: int  # of the frames before it
    whole: bool  # its header was right: now its content is asked


class Unpacks(Protocol):
    """What is needed of a decoder, compiled or not."""

    verb: str
    status: int

    def forget(self) -> None: ...
    def decode(self, block: bytes, start: int, end: int) -> int: ...


class Search:
    """The search on one side; `take` says where frames begin."""

    __slots__ = ("base", "chains", "decoder", "held", "looked", "server")

    def __init__(self, server: bool, decoder: Unpacks) -> None:
        self.server = server
        self.decoder = decoder  # of a table of which nothing is known
        decoder.forget()
        self.held = bytearray()  # bytes that may be frames
        self.base = 0  # the offset of the first of them
        self.looked = 0  # no chain that is not known begins before
        self.chains: list[Chain] = []  # by what they need

    def take(self, data: bytes) -> bytes:
        """More bytes. Gives those that are frames, from the first one on, or none while there is doubt."""
        self.held += data
        size = self.base + len(self.held)
        at = self.sweep(size)
        if at >= 0:
            return bytes(self.held[at - self.base :])
        self.looked = max(self.looked, size - HEAD + 1)
        keep = min((chain.start for chain in self.chains), default=self.looked)
        keep = max(keep, size - HELD)
        del self.held[: keep - self.base]
        self.base = keep
        return b""

    def sweep(self, size: int) -> int:
        """Go on with every chain in the order of the bytes: where frames begin, or -1."""
        for candidate in CANDIDATE.finditer(self.held, max(0, self.looked - self.base)):
            start = self.base + candidate.start()
            need = start + HEAD
            if need > size:
                break
            at = self.advance(need)
            if at < 0:
                at = self.step(Chain(need, start, start, 0, False))
            if at >= 0:
                return at
        return self.advance(size)

    def advance(self, size: int) -> int:
        """Go on with the chains that need no more than `size`."""
        while self.chains and self.chains[0].need <= size:
            at = self.step(self.chains.pop(0))
            if at >= 0:
                return at
        return -1

    def step(self, chain: Chain) -> int:
        """Look at the next frame of a chain; where frames begin, if that completes it."""
        _, start, pos, count, whole = chain
        at = pos - self.base
        head = frame(self.held, at)
        end = pos + HEAD + head.length
        if whole:
            worth = self.weigh(at, head)
            if worth == 0:
                return -1
            count += worth
        elif not plausible(head, self.held[at + 5] & 0x80 != 0) or self.foreign(head):
            return -1
        elif head.kind == HEADERS and head.flags & END_HEADERS:
            self.wait(Chain(end, start, pos, count, True))
            return -1
        else:
            count += 1
        if count < CHAIN:
            self.wait(Chain(end + HEAD, start, end, count, False))
            return -1
        return start if chain.need - start <= HELD else pos  # what is older was forgotten

    def wait(self, chain: Chain) -> None:
        """A chain goes on when more bytes come. Of too many the one that needs most is given up."""
        insort(self.chains, chain)
        if len(self.chains) > CHAINS:
            self.chains.pop()

    def foreign(self, head: Frame) -> bool:
        """Whether only the other side may send that: clients have odd streams, and promise nothing."""
        if self.server:
            return False
        if head.kind in (DATA, HEADERS, CONTINUATION):
            return not head.stream & 1
        return head.kind == PUSH_PROMISE

    def weigh(self, at: int, head: Frame) -> int:
        """What a frame with a whole header block is worth: nothing where it is none, or the other side's."""
        start, stop = block_bounds(self.held, at, head)
        if start > stop:
            return 0
        decoder = self.decoder
        if decoder.decode(bytes(self.held[start:stop]), 0, stop - start) & BAD:
            return 0
        if decoder.verb if self.server else decoder.status:
            return 0
        clear = decoder.status >= 100 if self.server else decoder.verb in KNOWN
        return CHAIN if clear else 2
