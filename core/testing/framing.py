"""Hypothesis strategies for the ways in which protocols frame: lengths, delimiters, TLV, variable lengths."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from kshark.testing.strategies import hypothesis

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Endian = Literal["big", "little"]


def length_prefixed(
    payload: SearchStrategy[bytes], width: int = 2, endian: Endian = "big", adjust: int = 0
) -> SearchStrategy[bytes]:
    """Each payload behind its length of `width` bytes, which says `adjust` more than it has.

    ``adjust=width``: the length counts itself, too.
    """
    return payload.map(lambda data: (len(data) + adjust).to_bytes(width, endian) + data)


def delimited(payload: SearchStrategy[bytes], delimiter: bytes = b"\r\n") -> SearchStrategy[bytes]:
    """Each payload and a delimiter, which it does not hold itself, nor begins at its end."""

    def ended(data: bytes) -> bytes:
        while delimiter in data:
            data = data.replace(delimiter, b"")
        whole = data + delimiter
        return whole if whole.find(delimiter) == len(data) else delimiter

    return payload.map(ended)


def tlv(
    values: dict[int, SearchStrategy[bytes]],
    *,
    type_width: int = 1,
    length_width: int = 1,
    endian: Endian = "big",
    max_size: int = 5,
) -> SearchStrategy[bytes]:
    """A few type-length-value fields; `values` gives a strategy for the value of each type."""
    st = hypothesis().strategies

    def encode(kind: int, value: bytes) -> bytes:
        size = len(value).to_bytes(length_width, endian)
        return kind.to_bytes(type_width, endian) + size + value

    one = st.one_of(*(value.map(partial(encode, kind)) for kind, value in values.items()))
    return st.lists(one, max_size=max_size).map(b"".join)  # type: ignore[no-any-return]


def encode_varint(value: int) -> bytes:
    """Seven bits a byte, the low ones first, the highest bit where more follow (LEB128; MQTT, protobuf).

    >>> encode_varint(321).hex()
    'c102'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(values: SearchStrategy[int] | None = None) -> SearchStrategy[bytes]:
    """Variable-length integers; by default those around the edges, up to 28 bits."""
    st = hypothesis().strategies
    if values is None:
        edges = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, (1 << 28) - 1]
        values = st.sampled_from(edges) | st.integers(0, (1 << 28) - 1)
    return values.map(encode_varint)


def varint_prefixed(payload: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Each payload behind its variable length."""
    return payload.map(lambda data: encode_varint(len(data)) + data)
