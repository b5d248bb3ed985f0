"""The two walkers of capture records: golden values, bounds, and that they are twins."""

from __future__ import annotations

import importlib.util
import struct
from array import array
from pathlib import Path
from types import ModuleType

import captures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark.api import INDEX_FORMAT
from kshark.backends import _records
from kshark.limits import PACKET_BYTES


def _plain() -> ModuleType:
    path = Path(__file__).parents[2] / "backends" / "_records.py"
    spec = importlib.util.spec_from_file_location("records_plain", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLAIN = _plain()
WALKERS = [PLAIN] + ([_records] if _records.COMPILED else [])
IDS = ["plain", "compiled"][: len(WALKERS)]
TABLE = array("q", [1, 0, 1_000, 1, 0, 1, 99, 1, 1_000, -5, 113, 0, 10**9, 2**10, 2**62])

walkers = pytest.mark.parametrize("walker", WALKERS, ids=IDS)
needs_twin = pytest.mark.skipif(not _records.COMPILED, reason="kshark was built without a compiler")


def rows(index: bytearray, count: int) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack(INDEX_FORMAT, index[: count * 24]))


@walkers
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("head", "extra"), [(16, b""), (24, b"\1\0\0\0\0\0\0\0")])
def test_classic(walker: ModuleType, order: str, head: int, extra: bytes) -> None:
    data = captures.record(2**32 - 1, 999_999, b"abc", order, wire=1_500, extra=extra)
    data += captures.record(1, 2, b"", order, extra=extra)
    index = bytearray(24 * 10)
    count, at = walker.walk_pcap(data + b"tail", 0, len(data) + 4, index, head, order == ">", 1_000)
    assert (count, at) == (2, len(data))
    assert rows(index, 2) == [
        (4_294_967_295_999_999_000, head, 3, 1_500, 0, 0),
        (1_000_002_000, 2 * head + 3, 0, 0, 0, 0),
    ]


@walkers
def test_classic_stops_at_absurd_record_and_full_index(walker: ModuleType) -> None:
    good = captures.record(1, 1, b"x")
    most = good + struct.pack("<IIII", 1, 1, PACKET_BYTES, 1) + bytes(PACKET_BYTES)
    over = good + struct.pack("<IIII", 1, 1, PACKET_BYTES + 1, 1) + bytes(PACKET_BYTES + 1)
    index = bytearray(24 * 2)
    assert walker.walk_pcap(most, 0, len(most), index, 16, False, 1) == (2, len(most))
    assert walker.walk_pcap(over, 0, len(over), index, 16, False, 1) == (1, len(good))
    assert walker.walk_pcap(good * 3, 0, len(good) * 3, index, 16, False, 1) == (2, len(good) * 2)
    assert walker.walk_pcap(good, 0, len(good), bytearray(), 16, False, 1) == (0, 0)


@walkers
@pytest.mark.parametrize(
    ("row", "stamp", "ns"),
    [
        ((1_000, 1, 0), 1_700_000_000_000_001, 1_700_000_000_000_001_000),
        ((1, 1, 0), 2**63 - 1, 2**63 - 1),
        ((1, 1, 0), 2**64 - 1, 2**63 - 1),
        ((10**9, 1, 0), 2**64 - 1, 2**63 - 1),
        ((1, 1_000, 7), 1_999, 8),
        ((10**9, 2**10, 0), 1_025, 1_000_976_562),
        ((10**9, 2**62, 0), 2**64 - 1, 3_999_999_999),
        ((1_000, 1, -(2**63)), 1, -(2**63) + 1_000),
        ((1_000, 1, 2**63 - 1), 1, 2**63 - 1),
        ((0, 1, 5), 2**64 - 1, 5),
    ],
)
def test_times(walker: ModuleType, row: tuple[int, int, int], stamp: int, ns: int) -> None:
    data = captures.enhanced(stamp, b"x")
    index = bytearray(24)
    found = walker.walk_pcapng(data, 0, len(data), index, array("q", (1, 0, *row)), False, 0, 0)
    assert found == (1, len(data))
    assert rows(index, 1)[0][0] == ns


@walkers
def test_simple_packet_is_cut_by_snaplen_and_dated_by_its_predecessor(walker: ModuleType) -> None:
    table = array("q", [1, 5, 1_000, 1, 0])
    data = (
        captures.simple(b"123456", 1_000) + captures.enhanced(9, b"") + captures.simple(b"abc", 3)
    )
    index = bytearray(24 * 4)
    assert walker.walk_pcapng(data, 0, len(data), index, table, False, 0, 77) == (3, len(data))
    assert [row[0] for row in rows(index, 3)] == [77, 9_000, 9_000]
    assert [row[2:4] for row in rows(index, 3)] == [(5, 1_000), (0, 0), (3, 3)]


@walkers
def test_walk_goes_on_where_an_index_is_half_full(walker: ModuleType) -> None:
    data = captures.enhanced(1, b"a") + captures.interface() + captures.simple(b"b", 1)
    index = bytearray(24 * 4)
    count, at = walker.walk_pcapng(data, 0, len(data), index, TABLE, False, 0, 0)
    assert count == 1
    at += len(captures.interface())
    assert walker.walk_pcapng(data, at, len(data), index, TABLE, False, count, 0) == (2, len(data))
    assert [row[0] for row in rows(index, 2)] == [1_000, 1_000]


@needs_twin
@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 17)])
def test_compiled_refuses_what_is_outside_the_buffer(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="within the buffer"):
        _records.walk_pcap(bytes(16), start, end, bytearray(24), 16, False, 1)
    with pytest.raises(ValueError, match="within the buffer"):
        _records.walk_pcapng(bytes(16), start, end, bytearray(24), TABLE, False, 0, 0)


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """A capture with some bytes changed, cut anywhere."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 12, 16, 32, 127, 128, 255]))
    return bytes(data[: draw(st.integers(0, len(data)))])


CLASSIC = {order: captures.classic(12, order)[24:] for order in "<>"}
PCAPNG = {
    order: b"".join(
        captures.enhanced(2**40 + i, b"x" * i, order, iface=i % 4)
        + captures.simple(b"y" * i, i + 1, order)
        + captures.obsolete(2**63 + i, b"z" * i, order, iface=i % 3)
        + captures.block(77, b"unknown", order)
        for i in (0, 1, 5, 8)
    )
    for order in "<>"
}


@needs_twin
@given(data=st.data(), big=st.booleans(), head=st.sampled_from([16, 24]), room=st.integers(0, 20))
def test_classic_twins(data: st.DataObject, big: bool, head: int, room: int) -> None:
    raw = data.draw(mutated(CLASSIC[">" if big else "<"]))
    start = data.draw(st.integers(0, len(raw)))
    results = []
    for walker in WALKERS:
        index = bytearray(24 * room)
        found = walker.walk_pcap(raw, start, len(raw), index, head, big, 1_000)
        assert start <= found[1] <= len(raw)
        results.append((found, bytes(index)))
    assert results[0] == results[1]


@needs_twin
@given(data=st.data(), big=st.booleans(), room=st.integers(1, 20))
def test_pcapng_twins(data: st.DataObject, big: bool, room: int) -> None:
    raw = data.draw(mutated(PCAPNG[">" if big else "<"]))
    results = []
    for walker in WALKERS:
        index, count, at, trail = bytearray(24 * room), 0, 0, []
        for _ in range(30):  # as the caller does: flush at a stop, then step over what stops again
            held = count
            count, at = walker.walk_pcapng(raw, at, len(raw), index, TABLE, big, held, 42)
            trail.append((count, at, bytes(index[: count * 24])))
            count, at = (0, at) if count else (0, min(at + 4, len(raw)))
        results.append(trail)
    assert results[0] == results[1]
