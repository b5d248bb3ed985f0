"""The names of flows: the compiled id against its twin, and the text of addresses that is kept."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import digest, limits
from kshark.naming import Addresses, address

PORTS = st.integers(0, 65_535)
RAW = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def test_an_id_is_what_it_always_was() -> None:
    """Ids are stored: they must not change from one version to the next."""
    key = b"\x0a\0\0\1|\x0a\0\0\2|40000|53|17|1767323045000000006"
    wanted = hashlib.blake2b(key, digest_size=8).hexdigest()
    ends = b"\x0a\0\0\1", b"\x0a\0\0\2"
    assert digest.flow_id(*ends, 40_000, 53, 17, 1_767_323_045_000_000_006) == wanted


@settings(deadline=None)
@given(
    RAW | st.binary(max_size=40), RAW, PORTS, PORTS, st.integers(0, 255), st.integers(-9, 2**63 - 1)
)
def test_the_compiled_id_is_its_twin(
    client: bytes, server: bytes, port: int, other: int, proto: int, first_ns: int
) -> None:
    compiled = pytest.importorskip("kshark._digest")
    key = client, server, port, other, proto, first_ns
    assert compiled.flow_id(*key) == digest.flow_id(*key)


def test_more_addresses_than_are_kept() -> None:
    """ADDRESS_TEXTS fires: the texts are made anew."""
    known = Addresses()
    first = known.end(b"\x0a\0\0\1", 53)
    assert known.end(b"\x0a\0\0\1", 54).ip is first.ip
    for number in range(limits.ADDRESS_TEXTS):
        assert known.end(number.to_bytes(4), 1).ip == address(number.to_bytes(4))
    assert len(known.texts) <= limits.ADDRESS_TEXTS
    assert known.end(b"\x0a\0\0\1", 53) == first


def test_an_address_of_sixteen_bytes() -> None:
    assert Addresses().end(bytes(15) + b"\1", 53).ip == "::1"
