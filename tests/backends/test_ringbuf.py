"""The reader of BPF ring buffers, both twins, on memory that is laid out as the kernel's."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netlab import RECORD

from kshark.backends import _ringbuf

SIZE = 4 * mmap.PAGESIZE
SHIFT = 1_000


def plain() -> ModuleType:
    """The twin in plain Python, whatever is compiled."""
    path = Path(_ringbuf.__file__).resolve().parent / "_ringbuf.py"
    spec = importlib.util.spec_from_file_location("plain_ringbuf", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["plain", "compiled"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return plain() if request.param == "plain" else _ringbuf


class Memory:
    """What the kernel does with a ring. Data are there twice in a row: here, by writing them twice."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * SIZE)
        self._map = mmap.mmap(self.fd, 0)
        self._taken = ctypes.c_uint64.from_buffer(self._map)
        self._written = ctypes.c_uint64.from_buffer(self._map, mmap.PAGESIZE)

    @property
    def free(self) -> int:
        return SIZE - (self._written.value - self._taken.value)

    def put(self, content: bytes, kind: int = 0, *, flags: int = 0) -> bool:
        return self.put_raw(_head(len(content), kind) + content, flags)

    def put_raw(self, record: bytes, flags: int = 0) -> bool:
        whole = (len(record) | flags).to_bytes(4, "little") + bytes(4) + record
        whole += bytes(-len(whole) % 8)
        if len(whole) > self.free:
            return False
        for number, byte in enumerate(whole):
            at = 2 * mmap.PAGESIZE + (self._written.value + number) % SIZE
            self._map[at] = self._map[at + SIZE] = byte
        self._written.value += len(whole)
        return True

    def close(self) -> None:
        del self._taken, self._written
        self._map.close()
        os.close(self.fd)


def _head(wire: int, kind: int) -> bytes:
    return plain().HEAD.pack(7, wire, kind, 3)  # type: ignore[no-any-return]


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.close()


def drain(ring: Any, most: int = 1 << 20, rows: int = 100) -> list[list[bytes]]:
    """What one `read` gives, by kind."""
    indexes = [bytearray(rows * RECORD.size) for _ in range(2)]
    data, counts = ring.read(most, SHIFT, indexes)
    found = []
    for index, count in zip(indexes, counts, strict=True):
        mine = []
        for at in range(count):
            ns, offset, kept, wire, number, _ = RECORD.unpack_from(index, at * RECORD.size)
            assert (ns, number) == (7 + SHIFT, 3)
            assert wire >= kept
            mine.append(bytes(data[offset : offset + kept]))
        found.append(mine)
    data.release()
    ring.give_back()
    return found


def test_kinds_are_told_apart(twin: ModuleType, memory: Memory) -> None:
    ring = twin.Ring(memory.fd, SIZE)
    memory.put(b"one")
    memory.put(b"who", 1)
    memory.put(b"two")
    assert ring.waiting > 0
    assert drain(ring) == [[b"one", b"two"], [b"who"]]
    assert drain(ring) == [[], []]
    assert (ring.waiting, ring.seen, ring.unsound) == (0, 3, 0)
    ring.close()


def test_a_record_that_is_being_written_ends_the_walk(twin: ModuleType, memory: Memory) -> None:
    ring = twin.Ring(memory.fd, SIZE)
    memory.put(b"one")
    memory.put(b"gone", flags=1 << 30)
    memory.put(b"busy", flags=1 << 31)
    memory.put(b"later")
    assert drain(ring) == [[b"one"], []]
    assert drain(ring) == [[], []]
    assert ring.unsound == 0
    ring.close()


def test_no_more_than_the_index_holds(twin: ModuleType, memory: Memory) -> None:
    ring = twin.Ring(memory.fd, SIZE)
    for number in range(5):
        memory.put(b"%d" % number)
    assert drain(ring, rows=2) == [[b"0", b"1"], []]
    assert drain(ring, rows=9) == [[b"2", b"3", b"4"], []]
    ring.close()


@pytest.mark.parametrize("record", [b"short", _head(3, 9) + b"abc"])
def test_what_cannot_be_is_counted_and_ends_it(
    twin: ModuleType, memory: Memory, record: bytes
) -> None:
    ring = twin.Ring(memory.fd, SIZE)
    memory.put_raw(record)
    memory.put(b"after")
    assert drain(ring) == [[], []]
    assert drain(ring) == [[], []]
    assert ring.unsound == 1
    ring.close()


@given(st.lists(st.tuples(st.binary(max_size=700), st.integers(0, 1), st.booleans()), max_size=60))
def test_both_twins_give_what_was_put(steps: list[tuple[bytes, int, bool]]) -> None:
    """Around the end of the ring, too, and however it is cut into reads."""
    for twin in (plain(), _ringbuf):
        memory = Memory()
        ring = twin.Ring(memory.fd, SIZE)
        put: list[list[bytes]] = [[], []]
        got: list[list[bytes]] = [[], []]
        for content, kind, read in steps:
            if memory.put(content, kind):
                put[kind].append(content)
            if read:
                for mine, new in zip(got, drain(ring, 900), strict=True):
                    mine.extend(new)
        while ring.waiting:
            for mine, new in zip(got, drain(ring), strict=True):
                mine.extend(new)
        assert got == put
        ring.close()
        memory.close()
