"""DNS: one message a datagram, or a stream of messages with two bytes of length before each (RFC 1035, 7766).

Invariant: an answer's key is made of its id and of its question (name whatever its case, type), so that one that is
stale, forged or for a reused id finds no request. An answer that repeats no question belongs to the last query of that
id. Of a zone transfer the first message is the answer, the further ones are one-way. So is what multicast DNS says:
nobody knows who is to answer.

Only the header and the first question are read here; `kshark.protocols.dns.details` has the rest.
Limits: DNS_WAITING ids, DNS_TRANSFERS transfers.
"""

from __future__ import annotations

from collections.abc import Generator

from kshark import limits
from kshark.api import DissectError, Framed, Kind, Message, Side, Step
from kshark.feeder import Feeder, Found

from . import question
from .codes import AXFR, IXFR, OPCODES, QUERY, RCODES, rcode_name, type_name
from .identify import place
from .names import Names
from .records import CUT
from .walk import survey

REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
ONEWAY = int(Kind.ONEWAY)
TRANSFERS = limits.DNS_TRANSFERS
RCODE_NAMES = RCODES
AXFR_TYPE, IXFR_TYPE, QUERY_CODE = AXFR, IXFR, QUERY

ANSWER = 0x8000
AUTHORITATIVE = 0x0400
TRUNCATED = 0x0200
RECURSION = 0x0100
NOTHING: tuple[str, ...] = ()
INCOMPLETE = ("incomplete-answer",)
CONTINUED = ("continued",)
NOTES = {
    "incomplete-answer": "the answer did not fit (TC): the client asks again over TCP",
    "continued": "a further message of a zone transfer, or of another answer in several messages",
}
SIX_WORDS = 12


class DnsDatagrams(Feeder):
    """A `kshark.api.Dissector` of datagrams; `read` is what a stream of messages has in common with it."""

    def __init__(self) -> None:
        self.question = question.Question()
        self.asked = question.Asked()
        self.moving: dict[int, bool] | None = None  # zone transfers by key: whether one has begun

    def take(self, side: int, data: bytes, found: Found) -> None:
        """One datagram."""
        found.append(self.read(data))

    def gap(self, side: int, missing: int) -> list[Message]:
        """Datagrams are lost whole, and nothing is known of them."""
        return []

    def close(self) -> list[Message]:
        """Nothing is under way."""
        return []

    def read(self, data: bytes) -> Message:
        """The message that these bytes are."""
        size = len(data)
        if size < SIX_WORDS:
            raise DissectError("message shorter than its header")
        ident = data[0] << 8 | data[1]
        flags = data[2] << 8 | data[3]
        asks = data[4] != 0 or data[5] != 0
        if asks:
            self.question.read(data)
            key = (self.question.digest << 16 | ident) + 1
        else:
            key = ident + 1
        more = survey(data)
        if flags & ANSWER:
            message = self.answer(data, ident, flags, key, asks, more)
        else:
            message = self.ask(data, ident, flags, key, asks)
        if more == CUT:
            message.truncated = True
        return message

    def ask(self, data: bytes, ident: int, flags: int, key: int, asks: bool) -> Message:
        """A question, a notification or an update."""
        opcode = flags >> 11 & 15
        verb = self.question.verb if asks and opcode == QUERY_CODE else opcode_name(opcode)
        target = self.question.target if asks else ""
        if (
            ident == 0
            and asks
            and self.question.local
            and not flags & RECURSION
            and opcode == QUERY_CODE
        ):
            return Message(ONEWAY, verb, target, 0, True, 0, len(data), data)
        self.asked.put(ident, key)
        if (
            asks
            and (self.question.type == AXFR_TYPE or self.question.type == IXFR_TYPE)
            and opcode == QUERY_CODE
        ):
            self.transfer(key)
        return question.message(REQUEST, verb, target, 0, True, key, data)

    def answer(
        self, data: bytes, ident: int, flags: int, key: int, asks: bool, more: int
    ) -> Message:
        """An answer, or what is said to everybody unasked. `more`: the upper bits of its code."""
        opcode = flags >> 11 & 15
        verb = self.question.verb if asks and opcode == QUERY_CODE else opcode_name(opcode)
        if not asks:
            if ident == 0 and flags & AUTHORITATIVE and (data[6] or data[7]):
                return announced(data)
            key = self.asked.find(ident, key)
        if self.moving is not None and key in self.moving:
            if self.moving[key]:
                return Message(ONEWAY, verb, "", 0, True, 0, len(data), data, notes=CONTINUED)
            self.moving[key] = True
        else:
            self.asked.answered(ident, key)
        rcode = flags & 15
        if more > 0:
            rcode |= more << 4
        message = question.message(RESPONSE, verb, "", rcode, rcode == 0, key, data)
        if rcode:
            message.target = RCODE_NAMES.get(rcode) or rcode_name(rcode)
        if flags & TRUNCATED:
            message.notes = INCOMPLETE
        return message

    def transfer(self, key: int) -> None:
        """From now on, answers of this key are parts of one."""
        if self.moving is None:
            self.moving = {}
        self.moving.pop(key, None)
        if len(self.moving) >= TRANSFERS:
            del self.moving[next(iter(self.moving))]
        self.moving[key] = False


def opcode_name(opcode: int) -> str:
    """What is asked, where that is not a type."""
    name = OPCODES.get(opcode)
    if name is None:
        raise DissectError(f"no such operation: {opcode}")
    return name


def announced(data: bytes) -> Message:
    """Records that nobody asked for, to everybody (multicast DNS); the first one gives the row."""
    names = Names(data)
    target, at = names.read(SIX_WORDS)
    if at + 2 > len(data):
        raise DissectError("record beyond the end of the message")
    kind = data[at] << 8 | data[at + 1]
    return Message(ONEWAY, type_name(kind), target, 0, True, 0, len(data), data)


class DnsStream(Framed):
    """The same over TCP."""

    limit = 65_536

    def __init__(self) -> None:
        self.talk = DnsDatagrams()

    def parse(self, side: Side) -> Generator[Step, bytes, None]:
        """Two bytes of length, and a message."""
        read = self.talk.read
        while True:
            size = int.from_bytes((yield 2), "big")
            if size < SIX_WORDS:
                raise DissectError(f"message of {size} bytes")
            message = read((yield size))
            message.size = 0  # what was consumed, with the length
            yield message

    def resync(self, side: Side, data: bytes) -> int:
        """Where the next message begins."""
        return place(data, side)
