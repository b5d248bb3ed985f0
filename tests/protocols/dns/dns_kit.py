"""What the tests of DNS share: messages by dnspython, and by hand where they are wrong."""

from __future__ import annotations

from struct import pack

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from kshark.api import Side

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]


def query(name: str, kind: str = "A", ident: int = 7, **options: object) -> bytes:
    """A query as resolvers send it."""
    made = dns.message.make_query(name, kind, id=ident, **options)  # type: ignore[arg-type]
    return made.to_wire()


def reply(asked: bytes, *records: str, rcode: int = 0, more: str = "") -> bytes:
    """The answer to a query; records as zone files have them: "name ttl class type data"."""
    question = dns.message.from_wire(asked)
    made = dns.message.make_response(question, recursion_available=True)
    made.set_rcode(rcode)  # type: ignore[arg-type]
    for text in records:
        made.answer.append(rrset(text))
    if more:
        made.authority.append(rrset(more))
    return made.to_wire(max_size=65_535)


def rrset(text: str) -> dns.rrset.RRset:
    name, ttl, cls, kind, data = text.split(" ", 4)
    return dns.rrset.from_text(name, int(ttl), cls, kind, data)


def framed(talk: Talk) -> Talk:
    """The same conversation over TCP."""
    return [(side, pack(">H", len(data)) + data) for side, data in talk]


def head(ident: int = 7, flags: int = 0x0100, *counts: int) -> bytes:
    """A header; counts of questions, answers, authority, additional."""
    return pack(">6H", ident, flags, *(*counts, 0, 0, 0, 0)[:4])


WWW, MAIL, NONE = (
    query("www.example.com.", "A", 7),
    query("example.com.", "MX", 8),
    query("no.example.", "AAAA", 9),
)
SOA = "example. 60 IN SOA ns.example. me.example. 1 2 3 4 5"
TALK: Talk = [
    (C, WWW),
    (
        S,
        reply(
            WWW,
            "www.example.com. 60 IN CNAME web.example.com.",
            "web.example.com. 60 IN A 192.0.2.1",
        ),
    ),
    (C, MAIL),
    (S, reply(MAIL, "example.com. 3600 IN MX 10 mail.example.com.")),
    (C, NONE),
    (S, reply(NONE, rcode=3, more=SOA)),
]
ROWS = [
    "A www.example.com -> A [ok]",
    "MX example.com -> MX [ok]",
    "AAAA no.example -> AAAA 3 NXDOMAIN [error]",
]
