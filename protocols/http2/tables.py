"""The constant tables of HPACK (RFC 7541): the static table, and the Huffman code as a machine of nibbles."""

from __future__ import annotations

from typing import Final

STATIC: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
"""Appendix A; the first has index 1."""

# fmt: off
LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)
"""Bits of the code of each byte, and of EOS (256). The code is canonical: the lengths say all (Appendix B)."""
# fmt: on

REFUSED: Final = -1
"""A code that is none: EOS within a string (section 5.2)."""


def codes() -> dict[int, tuple[int, int]]:
    """Symbol to (code, bits).

    >>> codes()[ord("a")]
    (3, 5)
    """
    found: dict[int, tuple[int, int]] = {}
    code = bits = 0
    for symbol in sorted(range(257), key=lambda one: (LENGTHS[one], one)):
        code <<= LENGTHS[symbol] - bits
        bits = LENGTHS[symbol]
        found[symbol] = (code, bits)
        code += 1
    return found


def tree() -> list[list[int]]:
    """The code as a tree: of each node what a 0 and a 1 lead to, a node or ``~symbol``; node 0 is the root."""
    nodes = [[0, 0]]
    for symbol, (code, bits) in codes().items():
        at = 0
        for bit in range(bits - 1, 0, -1):
            way = code >> bit & 1
            if not nodes[at][way]:
                nodes.append([0, 0])
                nodes[at][way] = len(nodes) - 1
            at = nodes[at][way]
        nodes[at][code & 1] = ~symbol
    return nodes


def accepting(nodes: list[list[int]]) -> set[int]:
    """Where a string may end: at the root, or up to seven ones below it (padding, section 5.2)."""
    found = {0}
    at = 0
    for _ in range(7):
        at = nodes[at][1]
        found.add(at)
    return found


def step(nodes: list[list[int]], at: int, nibble: int) -> tuple[int, int]:
    """From a node, four bits on: the next node (or REFUSED), and the byte found on the way (or -1)."""
    symbol = -1
    for bit in (3, 2, 1, 0):
        at = nodes[at][nibble >> bit & 1]
        if at < 0:
            symbol, at = ~at, 0
            if symbol == 256:
                return REFUSED, -1
    return at, symbol


def machine() -> tuple[list[int], list[int], list[bool]]:
    """For node * 16 + nibble the next node and the byte found; for each node whether a string may end there."""
    nodes = tree()
    steps = [step(nodes, at, nibble) for at in range(len(nodes)) for nibble in range(16)]
    ends = accepting(nodes)
    return [s[0] for s in steps], [s[1] for s in steps], [at in ends for at in range(len(nodes))]


NEXT, FOUND, ENDS = machine()
