"""The request that asked HTTP/1 for h2c (RFC 7540 section 3.2): it is stream 1's, and the client has sent all of it."""

from __future__ import annotations

import binascii

from kshark.api import Kind, Message
from kshark.protocols._fields import field, lines
from kshark.protocols.http2.states import Rest

STREAM = 1


def request(asked: Message) -> Message:
    """The same request as HTTP/2 shows it; its dates and its bytes are those of HTTP/1."""
    made = Message(Kind.REQUEST, asked.verb, asked.target, key=STREAM)
    made.head = header_list(asked)
    made.size, made.body, made.notes = asked.size, asked.body, asked.notes
    made.first_ns, made.last_ns = asked.first_ns, asked.last_ns
    made.truncated, made.gap_bytes, made.cut = asked.truncated, asked.gap_bytes, asked.cut
    if asked.truncated:
        made.extra = Rest(max(len(asked.body), asked.size - len(asked.head)))
    return made


def header_list(asked: Message) -> bytes:
    """Its head: RFC 9113 section 8.3.1 says what becomes of the start line and of Host."""
    found = [(name, value) for name, value in lines(asked.head) if name and value is not None]
    host = [value for name, value in found if name == b"host"][:1]
    pseudo = [
        (b":method", asked.verb.encode("latin-1", "replace")),
        (b":scheme", b"http"),
        *((b":authority", value) for value in host),
        (b":path", asked.target.encode("latin-1", "replace")),
    ]
    rest = [(name, value) for name, value in found if name != b"host"]
    return b"".join(field(name, value) for name, value in [*pseudo, *rest])


def settings(asked: Message) -> bytes:
    """The client's SETTINGS, which its HTTP2-Settings says; empty where that is nonsense."""
    said = [value for name, value in lines(asked.head) if name == b"http2-settings" and value]
    if len(said) != 1:
        return b""
    try:
        plain = said[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4))
    except binascii.Error:
        return b""
