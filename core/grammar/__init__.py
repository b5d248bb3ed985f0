"""A protocol given as a grammar: a framer, a `construct` struct for a whole message, and a mapping.

    >>> from construct import Enum, GreedyBytes, Int8ub, Int16ub, Struct
    >>> from kshark.api import Side
    >>> from kshark.grammar import Grammar, LengthPrefix
    >>> Packet = Struct(
    ...     "size" / Int16ub, "id" / Int16ub, "op" / Enum(Int8ub, GET=71, OK=43),
    ...     "text" / GreedyBytes,
    ... )
    >>> KV = Grammar("kv", Packet, LengthPrefix(2, adjust=5), verb="op", target="text", key="id")
    >>> [(m.verb, m.target, m.key) for m in KV.dissector().feed(Side.CLIENT, b"\\0\\1\\0\\7Ga")]
    [('GET', 'a', 7)]

The framer cuts the stream; construct sees whole messages only, for it cannot wait for bytes. What is
longer than `LIMIT` is parsed from its beginning. A message costs about 20 us of construct's time, 4 us where
the struct can be compiled; a hot protocol is better written as a `kshark.api.Framed`.

construct itself is imported by whoever writes the struct: ``pip install 'kshark[construct]'``.
"""

from kshark.grammar.frames import (
    LIMIT,
    Datagram,
    Delimited,
    Fixed,
    Frame,
    LengthPrefix,
    VarintPrefix,
)
from kshark.grammar.grammar import Grammar

__all__ = [
    "LIMIT",
    "Datagram",
    "Delimited",
    "Fixed",
    "Frame",
    "Grammar",
    "LengthPrefix",
    "VarintPrefix",
]
