"""HPACK: the compiled decoder and its pure twin, both against the package hpack; what a listener cannot know."""

from __future__ import annotations

from typing import Any

import hpack as other
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.protocols.http2 import hpack as pure
from kshark.protocols.http2.hpack import BAD, LONG, PARTLY, fields

try:
    from kshark.protocols.http2 import _hpack as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

DECODERS: list[Any] = [pure.Decoder]
DECODERS += [compiled.Decoder] if compiled else []
Pair = tuple[bytes, bytes]


@pytest.fixture(params=DECODERS, ids=lambda one: one.__module__.rsplit(".", 1)[1])
def decoder(request: pytest.FixtureRequest) -> pure.Decoder:
    """A fresh decoder of either kind."""
    made: pure.Decoder = request.param()
    return made


def decode(decoder: pure.Decoder, block: bytes) -> list[tuple[bytes | None, bytes | None]]:
    decoder.decode(block, 0, len(block))
    return list(fields(decoder.head))


def state(decoder: Any) -> tuple[object, ...]:
    """Everything that the twins must agree about."""
    return tuple(getattr(decoder, name) for name in pure.Decoder.__slots__)


# ---------------------------------------------------------------- differential

names = st.sampled_from([b":method", b":path", b":status", b"cookie", b"x-a", b"x-b", b"accept"])
values = st.one_of(
    st.sampled_from([b"GET", b"/", b"200", b"404", b"trailers", b"x" * 300]), st.binary(max_size=40)
)
header_lists = st.lists(st.lists(st.tuples(names, values), max_size=8), min_size=1, max_size=6)


def packed(lists: list[list[Pair]], sizes: list[int], huffman: bool) -> list[bytes]:
    """Blocks of the package hpack, the table's size changed on the way."""
    encoder = other.Encoder()
    blocks = []
    for number, headers in enumerate(lists):
        if sizes and number % 2:
            encoder.header_table_size = sizes[number % len(sizes)]
        blocks.append(encoder.encode(headers, huffman=huffman))
    return blocks


@given(header_lists, st.lists(st.sampled_from([0, 60, 200, 4096]), max_size=3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_another_encodes(lists: list[list[Pair]], sizes: list[int], huffman: bool) -> None:
    blocks = packed(lists, sizes, huffman)
    for make in DECODERS:
        found = make()
        assert [decode(found, block) for block in blocks] == lists
        assert not found.partial or 0 not in sizes


@given(header_lists, st.integers(0, 4), st.data())
@settings(max_examples=200, deadline=None)
@pytest.mark.skipif(compiled is None, reason="no compiled decoder")
def test_twins_agree_on_damage(lists: list[list[Pair]], lost: int, data: st.DataObject) -> None:
    one, two = pure.Decoder(), compiled.Decoder()
    for number, block in enumerate(packed(lists, [], True)):
        if number == lost:
            one.forget()
            two.forget()
            continue
        if block and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(block) - 1))
            block = block[:at] + data.draw(st.binary(max_size=3)) + block[at + 1 :]
        assert one.decode(block, 0, len(block)) == two.decode(block, 0, len(block))
        assert state(one) == state(two)


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=300, deadline=None)
@pytest.mark.skipif(compiled is None, reason="no compiled decoder")
def test_twins_agree_on_anything(blocks: list[bytes]) -> None:
    one, two = pure.Decoder(), compiled.Decoder()
    for block in blocks:
        assert one.decode(block, 0, len(block)) == two.decode(block, 0, len(block))
        assert state(one) == state(two)


AGAIN = [
    b"\x88", b"\xbe", b"\xbf", b"\x88\xbe", b"\x88\xbf\xbe",  # the status, the newest entries of the table
    b"\x40\x01a\x01b", b"\x40\x01c\x01d", b"\x48\x03404", b"\x82",  # what changes it, and a method
    b"\x20", b"\x3f\xe1\x1f", b"\x3f\x20", b"\xff\xff", b"",  # sizes of the table; no HPACK
]  # fmt: skip


@given(st.lists(st.sampled_from(AGAIN), max_size=40), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
@pytest.mark.skipif(compiled is None, reason="no compiled decoder")
def test_twins_agree_on_what_comes_again(blocks: list[bytes], lost: int) -> None:
    """The compiled one knows short blocks again, while the table is as it was."""
    one, two = pure.Decoder(), compiled.Decoder()
    for number, block in enumerate(blocks):
        if number == lost:
            one.forget()
            two.forget()
        whole = b"before" + block + b"after"
        end = 6 + len(block)
        assert one.decode(whole, 6, end) == two.decode(whole, 6, end)
        assert state(one) == state(two)


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_huffman(text: bytes) -> None:
    coded = other.huffman.HuffmanEncoder(
        other.huffman_constants.REQUEST_CODES, other.huffman_constants.REQUEST_CODES_LENGTH
    ).encode(text)
    for module in [pure, compiled] if compiled else [pure]:
        assert module.unhuff(coded) == text


@pytest.mark.parametrize("bad", ["ff", "1f", "fffffffc", "fe", "0000ff00"])
def test_huffman_refused(decoder: pure.Decoder, bad: str) -> None:
    """Padding that is too long or no EOS, and EOS itself (section 5.2)."""
    raw = bytes.fromhex(bad)
    block = b"\x00\x01a" + bytes([0x80 | len(raw)]) + raw
    assert decoder.decode(block, 0, len(block)) == (0 if bad == "1f" else BAD)


# ---------------------------------------------------------------- what cannot be known


def test_after_a_join_only_what_was_added_is_known(decoder: pure.Decoder) -> None:
    encoder = other.Encoder()
    encoder.encode([(b"authorization", b"Bearer x"), (b"x-old", b"1")])
    decoder.forget()
    block = encoder.encode([(b":method", b"GET"), (b"x-new", b"2"), (b"x-old", b"1")])
    assert decode(decoder, block) == [(b":method", b"GET"), (b"x-new", b"2"), (None, None)]
    assert decoder.flags == PARTLY
    block = encoder.encode([(b"x-new", b"2"), (b"x-old", b"1")])
    assert decode(decoder, block) == [(b"x-new", b"2"), (None, None)]


def test_a_value_whose_name_is_unknown(decoder: pure.Decoder) -> None:
    """Its name is an entry that nobody saw; the new entry is half known, and stays where it is."""
    decoder.forget()
    block = b"\x7f\x00\x05value" + b"\xbe"  # name by index 63, then the newest entry
    assert decode(decoder, block) == [(None, b"value"), (None, b"value")]
    assert decoder.flags == PARTLY


def test_an_empty_table_is_known(decoder: pure.Decoder) -> None:
    decoder.forget()
    assert decoder.decode(b"\x20\xbe", 0, 2) == BAD
    assert decoder.partial  # by the error


def test_index_beyond_the_table(decoder: pure.Decoder) -> None:
    assert decoder.decode(b"\xbe", 0, 1) == BAD
    assert decoder.decode(b"\x80", 0, 1) == BAD


def test_size_update_within_a_block(decoder: pure.Decoder) -> None:
    assert decoder.decode(b"\x82\x20", 0, 2) == BAD


# ---------------------------------------------------------------- limits


def test_a_bomb_is_cut(decoder: pure.Decoder) -> None:
    """A byte an entry of 4,000: the list ends at HEADER_LIST, the table goes on."""
    bomb = b"\x40\x01b\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 60_000 + b"\x40\x01c\x011"
    assert decoder.decode(bomb, 0, len(bomb)) == LONG
    assert limits.HEADER_LIST - 4100 < len(decoder.head) <= limits.HEADER_LIST
    assert decode(decoder, b"\xbe") == [(b"c", b"1")]


def test_a_table_larger_than_is_kept(decoder: pure.Decoder) -> None:
    """SETTINGS may allow a gigabyte: 64 KiB are kept, older entries are unknown, not wrong."""
    encoder = other.Encoder()
    encoder.header_table_size = 1 << 20
    lists = [[(b"n", b"%d" % n + b"v" * 1000)] for n in range(100)]
    for headers in lists:
        assert decode(decoder, encoder.encode(headers)) == headers
    assert decoder.size <= limits.HPACK_TABLE
    assert decode(decoder, encoder.encode(lists[99])) == lists[99]
    assert decode(decoder, encoder.encode(lists[0])) == [(None, None)]
    assert decoder.flags == PARTLY


def test_an_entry_larger_than_is_kept(decoder: pure.Decoder) -> None:
    """It takes its place in the table, unknown."""
    decoder.resize(1 << 20)
    value = other.huffman.HuffmanEncoder(
        other.huffman_constants.REQUEST_CODES, other.huffman_constants.REQUEST_CODES_LENGTH
    ).encode(b"0" * 70_000)
    size = len(value) - 127
    coded = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
    block = b"\x40\x01n\xff" + coded + value
    assert len(decode(decoder, block)[0][1] or b"") == 70_000
    assert decode(decoder, b"\xbe") == [(None, None)]


def test_settings_widen_only(decoder: pure.Decoder) -> None:
    decoder.widen(100)
    assert decoder.room == 4096
    decoder.widen(1 << 30)
    assert decoder.room == limits.HPACK_TABLE
