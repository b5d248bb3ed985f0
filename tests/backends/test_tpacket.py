"""Walking ring blocks: what records come out, that nothing reads outside, that the twins agree."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tpacket_blocks import ARP, IPGRE, IPV6, LOOPBACK, NONE, Frame, block

from kshark.api import INDEX_FORMAT
from kshark.backends import _tpacket

RECORD = struct.calcsize(INDEX_FORMAT)


def _plain() -> ModuleType:
    """The plain twin, also where the compiled one has taken its place."""
    path = Path(__file__).parents[2] / "backends" / "_tpacket.py"
    spec = importlib.util.spec_from_file_location("plain_tpacket", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLAIN = _plain()
TWINS = [PLAIN, _tpacket] if _tpacket.COMPILED else [PLAIN]
both = pytest.mark.parametrize("twin", TWINS, ids=lambda t: "compiled" if t.COMPILED else "plain")


def walk(
    twin: ModuleType,
    data: bytes | bytearray,
    resolve: Callable[[int], int] = lambda link: link,
    room: int = 50,
) -> dict[str, Any]:
    """Everything that a walk gives, as one value to compare."""
    walker = twin.Walker(resolve)
    ether, plain = bytearray(room * RECORD), bytearray(room * RECORD)
    ethers, plains = walker.walk(data, ether, plain)
    return {
        "ether": list(struct.iter_unpack(INDEX_FORMAT, ether[: ethers * RECORD])),
        "plain": list(struct.iter_unpack(INDEX_FORMAT, plain[: plains * RECORD])),
        "seen": walker.seen,
        "unwanted": walker.unwanted,
        "foreign": walker.foreign,
        "unsound": walker.unsound,
    }


def balanced(found: dict[str, Any]) -> bool:
    ends = found["unwanted"] + found["foreign"] + found["unsound"]
    return bool(found["seen"] == len(found["ether"]) + len(found["plain"]) + ends)


@both
def test_ethernet_from_its_link_header(twin: ModuleType) -> None:
    frames = [Frame(b"a" * 60, 7, 9, wire=1500), Frame(b"b" * 61, 8, 1, link=3, protocol=ARP)]
    found = walk(twin, block(frames))
    assert found["ether"] == [
        (7_000_000_009, 48 + 82, 60, 1500, 2, 0),
        (8_000_000_001, 48 + 144 + 82, 61, 61, 3, 0),
    ]
    assert balanced(found)
    assert not found["plain"]


@both
def test_loopback_is_framed_as_ethernet(twin: ModuleType) -> None:
    assert len(walk(twin, block([Frame(hardware=LOOPBACK)]))["ether"]) == 1


@both
def test_links_without_ethernet_give_ip_from_the_network_header(twin: ModuleType) -> None:
    frames = [
        Frame(b"E" * 40, mac=80, net=80, hardware=NONE),
        Frame(b"g" * 24 + b"E" * 40, mac=80, net=104, hardware=IPGRE, wire=1064, protocol=IPV6),
        Frame(b"x" * 40, mac=80, net=80, hardware=NONE, protocol=ARP),
    ]
    found = walk(twin, block(frames))
    assert [row[1:4] for row in found["plain"]] == [(128, 40, 40), (48 + 120 + 104, 40, 1040)]
    assert (found["foreign"], found["ether"]) == (1, [])
    assert balanced(found)


@both
def test_unwanted_links_are_counted_and_asked_for_once(twin: ModuleType) -> None:
    asked = []

    def resolve(link: int) -> int:
        asked.append(link)
        return -1 if link == 9 else 41

    frames = [Frame(link=9), Frame(link=4), Frame(link=9), Frame(link=4)]
    found = walk(twin, block(frames), resolve)
    assert [row[4] for row in found["ether"]] == [41, 41]
    assert found["unwanted"] == 2
    assert asked == [9, 4]


@both
def test_forget_asks_again(twin: ModuleType) -> None:
    names = iter([1, 2])
    walker = twin.Walker(lambda link: next(names))
    index = bytearray(RECORD)
    for expected in (1, 1, 2):
        if expected == 2:
            walker.forget()
        walker.walk(block([Frame()]), index, bytearray(0))
        assert struct.unpack(INDEX_FORMAT, index)[4] == expected


@both
@pytest.mark.parametrize(
    "frame",
    [
        Frame(kept=4096),  # ends outside of the block
        Frame(kept=2**32 - 1),
        Frame(mac=67, net=70),  # begins in its own header
        Frame(b"E" * 10, mac=90, net=80, hardware=NONE),  # network before link header
        Frame(b"E" * 10, mac=80, net=91, hardware=NONE),  # network header behind the data
        Frame(mac=0xFFFF),
    ],
)
def test_unsound_frames_are_counted(twin: ModuleType, frame: Frame) -> None:
    data = block([Frame(), frame], 70_000)
    del data[4096:]
    found = walk(twin, data)
    assert (len(found["ether"]), len(found["plain"]), found["unsound"]) == (1, 0, 1)


@both
@pytest.mark.parametrize("step", [0, 1, 67, 5000, 2**32 - 1])
def test_a_step_that_leads_nowhere_ends_the_walk(twin: ModuleType, step: int) -> None:
    found = walk(twin, block([Frame(step=step), Frame(), Frame()]))
    assert (len(found["ether"]), found["unsound"], found["seen"]) == (1, 2, 3)


@both
@pytest.mark.parametrize(("count", "first"), [(2**32 - 1, 48), (5, 4090), (1, 2**32 - 1)])
def test_a_head_that_lies_is_bounded(twin: ModuleType, count: int, first: int) -> None:
    found = walk(twin, block([Frame()], count=count, first=first))
    assert found["unsound"] == count - len(found["ether"])
    assert balanced(found)


@both
def test_a_full_index_is_counted(twin: ModuleType) -> None:
    found = walk(twin, block([Frame()] * 5 + [Frame()]), room=4)
    assert (len(found["ether"]), found["unsound"]) == (4, 2)


@both
def test_an_empty_block(twin: ModuleType) -> None:
    assert walk(twin, block([], count=0))["seen"] == 0


@both
def test_ready_and_release(twin: ModuleType) -> None:
    data = block([Frame()])
    before = bytes(data)
    assert twin.ready(data)
    twin.release(data)
    assert not twin.ready(data)
    assert data[:8] + data[12:] == before[:8] + before[12:]


differ = pytest.mark.skipif(len(TWINS) == 1, reason="_tpacket is not compiled: nothing to compare")
frames = st.builds(
    Frame,
    data=st.binary(max_size=90),
    sec=st.integers(0, 2**32 - 1),
    nsec=st.integers(0, 2**32 - 1),
    wire=st.integers(0, 2**32 - 1),
    mac=st.integers(60, 130),
    net=st.integers(60, 130),
    link=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 200),
    hardware=st.sampled_from([1, LOOPBACK, NONE, IPGRE, 803]),
    protocol=st.sampled_from([0x0800, IPV6, ARP, 0]),
    step=st.none() | st.integers(0, 300) | st.integers(0, 2**32 - 1),
    kept=st.none() | st.integers(0, 4200) | st.integers(0, 2**32 - 1),
)
holes = st.dictionaries(st.integers(12, 4095), st.integers(0, 255), max_size=8)


@differ
@settings(derandomize=True)
@given(st.lists(frames, max_size=12), holes, st.integers(0, 12))
def test_twins_agree(made: list[Frame], holes: dict[int, int], room: int) -> None:
    data = block(made)
    for at, value in holes.items():
        data[at] = value

    def resolve(link: int) -> int:
        return -1 if link % 5 == 0 else link & 0xFFFF

    first, second = (walk(twin, data, resolve, room) for twin in TWINS)
    assert first == second
    assert balanced(first)
    for _, offset, kept, wire, _, _ in first["ether"] + first["plain"]:
        assert offset + kept <= len(data)
        assert wire >= kept


@differ
@settings(derandomize=True)
@given(st.binary(min_size=20, max_size=300))
def test_twins_agree_on_noise(noise: bytes) -> None:
    first, second = (walk(twin, noise) for twin in TWINS)
    assert first == second
    assert balanced(first)
