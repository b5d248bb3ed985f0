from pathlib import Path

import pytest
from hypothesis import given, settings

from kshark.api import Side
from kshark.testing import assert_dissector, cases, messages
from kshark_mqtt import GRAMMAR, register_protocols

[SPEC] = register_protocols()
PUBLISH = {"type": 0x32, "length": 0, "body": {"topic": "a/b", "id": 7, "payload": b"21.5"}}
PING = {"type": 0xC0, "length": 0, "body": {"rest": b""}}


@pytest.mark.parametrize("case", cases(Path(__file__).parent / "cases"), ids=str)
def test_case(case):
    assert_dissector(SPEC, case)


@given(GRAMMAR.messages(PUBLISH, PING))
@settings(max_examples=50)
def test_what_is_built_is_read(raw):
    [message] = messages(SPEC.dissector(), [(Side.CLIENT, raw)])
    assert message.size == len(raw)


def test_secrets():
    raw = bytes.fromhex("10 13 0004 4d515454 04 c2 003c 0001 63 0001 75 0001 70")
    details = SPEC.details(GRAMMAR.message(raw, Side.CLIENT))
    assert (details.client, details.user, details.password) == ("c", "u", "p")
