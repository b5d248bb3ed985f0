"""rtnetlink messages, the numbers of interfaces, and which interfaces a target means."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.backends import _links, _tap
from kshark.backends._links import RTM_DELLINK, RTM_NEWLINK, Change, Link, Links
from kshark.backends._tap import Numbers, globs


def attribute(kind: int, value: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(value), kind) + value).ljust(
        (4 + len(value) + 3) & ~3, b"\0"
    )


def message(
    kind: int, index: int, name: str, family: int = 0, flags: int = 1, hardware: int = 1
) -> bytes:
    body = struct.pack("=BxHiII", family, hardware, index, flags, 0)
    body += attribute(13, b"\0\0\0\0") + attribute(3, name.encode() + b"\0")
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def links(*pieces: bytes) -> list[tuple[int, Link | None]]:
    return list(_links._messages(b"".join(pieces)))


def test_links_of_a_dump() -> None:
    found = links(
        message(RTM_NEWLINK, 1, "lo", hardware=772), message(RTM_DELLINK, 7, "eth0", flags=0)
    )
    assert found == [
        (RTM_NEWLINK, Link(1, "lo", 772, True)),
        (RTM_DELLINK, Link(7, "eth0", 1, False)),
    ]


def test_a_port_that_leaves_its_bridge_is_no_link_that_goes() -> None:
    assert links(message(RTM_DELLINK, 7, "eth0", family=socket.AF_BRIDGE)) == [(RTM_DELLINK, None)]


@pytest.mark.parametrize("cut", [4, 17, 33, 40, 45])
def test_cut_messages_give_no_link(cut: int) -> None:
    whole = message(RTM_NEWLINK, 1, "lo")
    assert not [link for _, link in links(whole[:cut]) if link]
    short = struct.pack("=I", cut) + whole[4:cut]
    assert not [link for _, link in links(short) if link]


@settings(derandomize=True)
@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 255))
def test_noise_ends(noise: bytes, at: int, value: int) -> None:
    links(noise)
    changed = bytearray(message(RTM_NEWLINK, 1, "lo") * 2)
    changed[at] = value
    assert len(links(bytes(changed))) <= 4


def test_what_changes_is_told() -> None:
    table = Links()
    table.known.clear()
    one, two = Link(900, "a", 1, False), Link(900, "b", 1, True)
    assert table._take(RTM_NEWLINK, one) == [Change(None, one)]
    assert table._take(RTM_NEWLINK, one) == []
    assert table._take(RTM_NEWLINK, two) == [Change(one, two)]
    assert table._take(RTM_DELLINK, one) == [Change(two, None)]
    assert table._take(RTM_DELLINK, one) == []
    table.close()


def test_links_over_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_links, "LINKS", 1)
    table = Links()
    before = table.overflow
    table._take(RTM_NEWLINK, Link(900, "a", 1, True))
    assert (len(table.known), table.overflow) == (1, before + 1)
    table.close()


def test_the_links_of_this_machine() -> None:
    table = Links()
    assert {link.name for link in table.known.values()} == {n for _, n in socket.if_nameindex()}
    assert table.update() == []
    table.known[99_999] = Link(99_999, "ghost", 1, True)
    assert table._dump() == [Change(Link(99_999, "ghost", 1, True), None)]
    table.close()


# ---------------------------------------------------------------- numbers


def test_a_link_keeps_its_number() -> None:
    numbers = Numbers()
    for index in (5, 9):
        numbers.give((0, index), f"e{index}")
    numbers.give((1, 5), "pod/e5")
    assert [numbers.find(key) for key in ((0, 5), (0, 9), (1, 5), (0, 1))] == [0, 1, 2, -1]
    numbers.give((0, 9), "renamed")
    assert numbers.names == ("e5", "renamed", "pod/e5")


def test_numbers_of_dead_links_are_used_again_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tap, "DEAD_LINKS", 2)
    numbers = Numbers()
    for index in range(10):
        numbers.give((0, index), f"e{index}")
        numbers.retire((0, index))
    assert numbers.names == ("e9", "e7", "e8")
    assert [numbers.find((0, index)) for index in range(10)] == [-1] * 7 + [1, 2, 0]
    numbers.retire((0, 77))
    numbers.give((0, 7), "e7")  # came back: it is nobody's to take
    numbers.give((0, 11), "e11")
    assert numbers.find((0, 7)) == 1


def test_numbers_end_at_sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tap, "NUMBERS", 3)
    numbers = Numbers()
    for index in range(4):
        numbers.give((0, index), "e")
    assert numbers.find((0, 3)) == -1
    numbers.retire((0, 1))
    numbers.give((0, 4), "new")
    assert (numbers.find((0, 4)), numbers.find((0, 1))) == (1, -1)


def test_limits_leave_room() -> None:
    assert limits.LINKS + limits.DEAD_LINKS < _tap.NUMBERS


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("", ()),
        ("any", ()),
        ("eth0+*", ()),
        ("eth*", ("eth*",)),
        (" eth* + lo+", ("eth*", "lo")),
        (["eth*", "wl+an"], ("eth*", "wl+an")),
        ([], ()),
    ],
)
def test_globs_of_a_target(target: str | list[str], expected: tuple[str, ...]) -> None:
    assert globs(target) == expected
