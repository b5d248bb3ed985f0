"""TLS is recognised by its hellos; nothing else is taken for it, and it for nothing else."""

from __future__ import annotations

import random
import ssl
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_kit import V12, V13, C, S, conversation, through

from kshark import plugins
from kshark.api import Side, Verdict
from kshark.protocols.tls import SPEC
from kshark.protocols.tls.identify import probe

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign import FOREIGN

EVERY = list(plugins.load().protocols.values())
BOTH = pytest.mark.parametrize("version", [V12, V13])


@BOTH
def test_hellos_are_certain(version: ssl.TLSVersion) -> None:
    talk = conversation(version)
    assert probe(talk[0][1], C) == Verdict.CERTAIN
    assert probe(talk[1][1], S) == Verdict.CERTAIN
    assert probe(talk[0][1], S) == Verdict.NO
    assert probe(talk[1][1], C) == Verdict.NO


@BOTH
@pytest.mark.parametrize("side", list(Side))
def test_more_is_asked_for_until_it_is_certain(version: ssl.TLSVersion, side: Side) -> None:
    data = conversation(version)[side][1]
    verdicts = [probe(data[:size], side) for size in range(1, len(data) + 1)]
    assert verdicts == sorted(verdicts)
    assert set(verdicts) == {Verdict.MORE, Verdict.CERTAIN}


@BOTH
def test_among_all_protocols(version: ssl.TLSVersion) -> None:
    talk = conversation(version)
    cut = [(side, data[at : at + 40]) for side, data in talk for at in range(0, len(data), 40)]
    for pieces in (talk, cut):
        assert [one.protocol for one in through(EVERY, pieces)] == ["tls", "tcp"]


def test_random_bytes_are_not_tls() -> None:
    generator = random.Random(8446)
    for _ in range(100_000):
        data = generator.randbytes(generator.randrange(1, 200))
        for side in Side:
            assert probe(data, side) in (Verdict.NO, Verdict.MORE)


def test_random_bytes_behind_a_right_head_are_not_tls() -> None:
    generator = random.Random(5246)
    heads = [bytes([kind, 3, minor]) for kind in (22, 23) for minor in range(5)]
    taken = 0
    for _ in range(20_000):
        size = generator.randrange(60, 400)
        data = generator.choice(heads) + size.to_bytes(2, "big") + generator.randbytes(500)
        taken += probe(data, generator.choice(list(Side))) >= Verdict.LIKELY
    assert taken == 0


@given(st.binary(max_size=300), st.sampled_from(list(Side)))
def test_any_bytes_get_an_opinion(data: bytes, side: Side) -> None:
    assert probe(b"\x16\x03\x01" + data, side) in list(Verdict)
    assert probe(b"\x80" + data, side) in list(Verdict)
    assert probe(b"\x17\x03\x03" + data, side) in list(Verdict)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("midstream", [True, False])
def test_other_protocols_are_not_tls(name: str, midstream: bool) -> None:
    found = through([SPEC], FOREIGN[name], midstream=midstream)
    assert {one.protocol for one in found} == {"tcp"}


def test_records_joined_in_mid_stream() -> None:
    one = b"\x17\x03\x03\x00\x20" + bytes(32)
    assert probe(one, C) == Verdict.LIKELY
    assert probe(one + one, C) == Verdict.LIKELY
    assert probe(one + b"GET / HTTP/1.1\r\n\r\n", C) == Verdict.NO
    assert probe(one[:-1], C) == Verdict.MORE
    assert probe(b"\x17\x03\x03\x00\x01\x00", C) == Verdict.NO
