from pathlib import Path

import pytest

from kshark.api import Side
from kshark.testing import assert_dissector, cases, converse, rows
from kshark_memcached import register_protocols

[SPEC] = register_protocols()


@pytest.mark.parametrize("case", cases(Path(__file__).parent / "cases"), ids=str)
def test_case(case):
    assert_dissector(SPEC, case)


def test_a_pipeline_and_what_has_no_answer():
    asked = b"set a 0 0 1 noreply\r\nx\r\nget a b\r\nincr n 1\r\nquit\r\n"
    entries = converse(SPEC, [(Side.CLIENT, asked), (Side.SERVER, b"VALUE a 0 1\r\nx\r\nEND\r\n5\r\n")])
    assert rows(entries) == ["set a -> - [ok]", "quit -> - [ok]", "get a -> VALUE [ok]", "incr n -> 5 [ok]"]
    assert SPEC.details(entries[2].request).keys == ["a", "b"]
