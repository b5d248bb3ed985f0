"""Conversations as text: what is written is read again, and mistakes are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark import talk
from kshark.api import Side
from kshark.talk import Piece

C, S = Side.CLIENT, Side.SERVER

pieces = st.lists(
    st.tuples(
        st.sampled_from([C, S]),
        st.binary(min_size=1, max_size=60)
        | st.text(min_size=1, max_size=60).map(lambda t: t.encode("utf-8", "replace"))
        | st.text("ab \"'\\#\r\n", min_size=1).map(str.encode)
        | st.integers(1, 10**9),
    ),
    max_size=6,
)


@given(pieces, st.lists(st.text(max_size=20), max_size=3), st.text("ab =><\n", max_size=20))
def test_what_is_written_is_read_again(made: list[Piece], rows: list[str], comment: str) -> None:
    script = talk.parse(talk.show(made, rows, comment))
    assert script.pieces == made
    assert script.rows == [talk.one_line(row).strip() for row in rows]


def test_the_forms_of_a_line() -> None:
    text = """
        # comment
> 50 49:4e,0x47   # PING
  0d 0a
< "+PONG \\"x\\"\\r\\n"  # quoted
> lost 100
"é"
= PING -> PONG [ok]
"""
    script = talk.parse(text)
    assert script.pieces == [(C, b"PING\r\n"), (S, b'+PONG "x"\r\n'), (C, 100), (C, "é".encode())]
    assert script.rows == ["PING -> PONG [ok]"]


def test_a_line_without_an_arrow_is_a_piece_of_its_own() -> None:
    assert talk.parse("0102\n0304\n", S).pieces == [(S, b"\1\2"), (S, b"\3\4")]
    assert talk.parse("  0102\n").pieces == [(C, b"\1\2")]


@pytest.mark.parametrize("line", ["xyz", "> 0", '> "open', '> "a" b', "< lost many", '> "\\x0"'])
def test_what_is_wrong_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not hex digits"):
        talk.parse(f"# fine\n{line}\n")
