"""The laws that every dissector is held to, over datagrams and over a stream."""

from __future__ import annotations

from dns_kit import ROWS, TALK, C, S, Talk, framed, query, reply

from kshark.protocols.dns import DATAGRAMS, SPEC
from kshark.testing import assert_dissector, check_laws


def test_datagrams() -> None:
    assert_dissector(DATAGRAMS, TALK, ROWS, examples=20, pipelined=True)


def test_a_stream() -> None:
    assert_dissector(SPEC, framed(TALK), ROWS, examples=20, pipelined=True)


def test_answers_out_of_order() -> None:
    asked = [query(f"n{number}.example.", "A", number) for number in range(1, 6)]
    talk: Talk = [(C, data) for data in asked]
    talk += [(S, reply(data, f"n{number}.example. 1 IN A 192.0.2.{number}")) for number, data in
             reversed(list(enumerate(asked, 1)))]  # fmt: skip
    expected = [f"A n{number}.example -> A [ok]" for number in range(5, 0, -1)]
    check_laws(DATAGRAMS, talk, expected, examples=5)
    check_laws(SPEC, framed(talk), expected, examples=5)
