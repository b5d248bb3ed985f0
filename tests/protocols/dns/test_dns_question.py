"""The compiled question against its twin: the same fields, the same errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kshark.api import DissectError, Kind
from kshark.limits import DNS_WAITING as WAITING
from kshark.protocols.dns import question

compiled = pytest.importorskip("kshark.protocols.dns._question")
FIELDS = ("raw", "type", "digest", "local", "verb", "target")
LABEL = st.binary(min_size=1, max_size=63) | st.from_regex(rb"[A-Za-z0-9_-]{1,20}", fullmatch=True)
NAMES = st.lists(LABEL | st.sampled_from([b"LOCAL", b"local", b"arpa"]), max_size=6)
HEAD = bytes(12)


def wire(name: list[bytes], kind: int) -> bytes:
    labels = b"".join(bytes((len(label),)) + label for label in name)
    return HEAD + labels + b"\0" + kind.to_bytes(2) + b"\0\1"


def said(reader: Any, data: bytes) -> Any:
    """What it says of a message, or why it says nothing."""
    try:
        reader.read(data)
    except DissectError as error:
        return str(error)
    return [getattr(reader, name) for name in FIELDS]


MESSAGES = st.builds(wire, NAMES, st.integers(0, 65_535)) | st.binary(max_size=40).map(HEAD.__add__)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=4))
@example([wire([b"a" * 63] * 4, 1), wire([b"a" * 63] * 3 + [b"b" * 62], 1), wire([], 2)])
@example([wire([b"Printer", b"LOCAL"], 12), wire([b"local"], 12), wire([b"x", b"4arpa"], 12)])
@example([wire([b"a.b"], 1), wire([b"example", b"com"], 65), wire([b"example", b"com"], 97)])
def test_the_compiled_question_is_its_twin(messages: list[bytes]) -> None:
    plain, fast = question.Question(), compiled.Question()
    for data in [one[:end] for one in messages for end in (len(one), len(one) - 3, len(one))]:
        assert said(fast, data) == said(plain, data)


def test_the_compiled_message_is_its_twin() -> None:
    fields = (int(Kind.RESPONSE), "A", "NXDOMAIN", 3, False, 1 << 48, b"\0" * 12)
    assert compiled.message(*fields) == question.message(*fields)


STEPS = st.tuples(
    st.sampled_from(["put", "find", "answered"]), st.integers(0, 9), st.integers(-1, 3)
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=60), st.sampled_from([0, 1, WAITING - 2, 2 * WAITING]))
def test_the_compiled_keys_are_their_twin(steps: list[tuple[str, int, int]], before: int) -> None:
    """DNS_WAITING fires: whoever has waited longest is forgotten."""
    plain, fast = question.Asked(), compiled.Asked()
    for number in range(100, 100 + before):
        plain.put(number, number)
        fast.put(number, number)
    for what, ident, key in steps:
        assert getattr(fast, what)(ident, key) == getattr(plain, what)(ident, key)
    everybody = [*range(10), *range(100, 100 + before)]
    assert [fast.find(n, -7) for n in everybody] == [plain.find(n, -7) for n in everybody]


def test_a_compiled_slice_is_a_slice() -> None:
    data = bytes(range(9))
    for start in range(11):
        for end in range(11):
            assert compiled.piece(data, start, end) == question.piece(data, start, end)
