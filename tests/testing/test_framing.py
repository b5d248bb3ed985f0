"""The strategies for framing give what they say, and reach the edges."""

from __future__ import annotations

from functools import partial

from hypothesis import find, given
from hypothesis import strategies as st

from kshark.grammar import VarintPrefix
from kshark.testing import delimited, length_prefixed, tlv, varint, varint_prefixed


def is_wide(width: int, raw: bytes) -> bool:
    return len(raw) == width


some = st.binary(max_size=300)


@given(length_prefixed(some, 4, "little", adjust=4))
def test_lengths(raw: bytes) -> None:
    assert int.from_bytes(raw[:4], "little") == len(raw)


@given(length_prefixed(some))
def test_lengths_by_default(raw: bytes) -> None:
    assert int.from_bytes(raw[:2], "big") == len(raw) - 2


@given(delimited(st.text("ab\r\n").map(str.encode)))
def test_delimiters(raw: bytes) -> None:
    assert raw.find(b"\r\n") == len(raw) - 2


@given(delimited(st.text("-ab").map(str.encode), b"---"))
def test_a_delimiter_never_begins_in_what_it_ends(raw: bytes) -> None:
    assert raw.find(b"---") == len(raw) - 3


@given(tlv({1: some.filter(lambda v: len(v) < 256), 7: st.just(b"x")}))
def test_type_length_value(raw: bytes) -> None:
    at = 0
    while at < len(raw):
        assert raw[at] in (1, 7)
        at += 2 + raw[at + 1]
    assert at == len(raw)


@given(varint_prefixed(some))
def test_variable_lengths(raw: bytes) -> None:
    assert VarintPrefix(0).size(raw, 0) == len(raw)


def test_variable_lengths_of_all_widths_are_made() -> None:
    for width in (1, 2, 3, 4):
        edge = find(varint().filter(bool), partial(is_wide, width))
        assert len(edge) == width
