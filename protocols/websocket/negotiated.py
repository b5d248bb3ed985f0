"""What client and server agreed on by the upgrade: target, subprotocol, permessage-deflate (RFC 7692 section 7.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kshark.api import Message
from kshark.protocols._fields import fields

_HEADER = re.compile(rb"\n(sec-websocket-(?:extensions|protocol))[ \t]*:([^\r\n]*)", re.IGNORECASE)
_NAMES: Final = (b"sec-websocket-extensions", b"sec-websocket-protocol")
_BEARER = re.compile(r"bearer|auth|token", re.IGNORECASE)
PROTOCOL: Final = "websocket"
"""Its name, here and in HTTP/2 (RFC 8441 section 5)."""
DEFLATE: Final = "permessage-deflate"
BITS: Final = 15
"""Logarithm of the largest window."""
LEAST: Final = 9
"""... and of the least that zlib writes; it takes 9 for 8."""


class Deflate(msgspec.Struct, frozen=True):
    """How one side compresses."""

    takeover: bool = True  # a message may refer to those before it
    bits: int = BITS


class Negotiated(msgspec.Struct, frozen=True):
    """Of one connection. ``known``: the upgrade was seen."""

    known: bool = False
    target: str = ""
    subprotocol: str = ""
    sides: tuple[Deflate | None, Deflate | None] = (Deflate(), Deflate())
    foreign: bool = False  # an extension that is not known here: its bits and payloads are its own


def negotiated(context: Any) -> Negotiated:
    """From the context of a hand-over: the request of the upgrade (if known), and its response."""
    try:
        request, response = context
    except (TypeError, ValueError):
        return Negotiated()
    if not isinstance(response, Message):
        return Negotiated()
    target = request.target if isinstance(request, Message) else ""
    extensions, chosen = [], ""
    for name, value in said(response.head):
        text = value.decode("latin-1").strip(" \t")
        if name.lower().endswith(b"extensions"):
            extensions += [part.strip(" \t") for part in text.split(",")]
        elif not _BEARER.search(text):  # some put what proves who they are into the list
            chosen = text[:128]
    sides: tuple[Deflate | None, Deflate | None] = (None, None)
    foreign = False
    for extension in filter(None, extensions):
        kind, *parameters = (part.strip(" \t").lower() for part in extension.split(";"))
        if kind == DEFLATE and sides[0] is None:
            sides = (of_side("client", parameters), of_side("server", parameters))
        else:
            foreign = True
    return Negotiated(True, target, chosen, sides, foreign)


def said(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The headers that count, of HTTP/1 or HTTP/2."""
    if head[:1] not in (b"\0", b"\xff"):
        yield from _HEADER.findall(head)
        return
    for name, value in fields(head):
        if name in _NAMES and name is not None and value is not None:
            yield name, value


def of_side(side: str, parameters: list[str]) -> Deflate:
    """The parameters that the server's answer gives one side.

    >>> of_side("server", ["server_no_context_takeover", "server_max_window_bits=10"])
    Deflate(takeover=False, bits=10)
    """
    bits = BITS
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        value = value.strip(' \t"')
        if name.strip(" \t") == f"{side}_max_window_bits" and value.isdecimal() and len(value) < 3:
            bits = min(max(int(value), LEAST), BITS)
    return Deflate(f"{side}_no_context_takeover" not in parameters, bits)
