"""The decoder of checked expressions, and the pass over literals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark.filter.check import library
from kshark.filter.checked import Call, Const, Items, Loop, Name, Node, Select, fields, tree
from kshark.filter.literals import Wrong, lex, quantity


def parsed(text: str) -> Node:
    cel = library()
    kinds = cel.Type
    variables = {
        "n": kinds.INT,
        "a.b": kinds.STRING,
        "m": kinds.Map(kinds.STRING, kinds.STRING),
        "d": kinds.DYN,
        "l": kinds.List(kinds.STRING),
    }
    return tree(cel.NewEnv(variables=variables).compile(text).serialize())


def test_trees() -> None:
    assert parsed("n == -1") == Call("bool", 2, "_==_", [Name("int", 0, "n"), Const("int", 5, -1)])
    assert parsed("a.b") == Name("string", 1, "a.b")
    assert parsed("m.x") == Select("string", 1, Name("map(string, string)", 0, "m"), "x", False)
    assert parsed("has(m.x)") == Select("bool", 3, Name("map(string, string)", 4, "m"), "x", True)
    assert parsed('"a".contains("é")').args == [Const("string", 0, "a"), Const("string", 13, "é")]  # type: ignore[attr-defined]
    loop = parsed("l.all(x, x == a.b)")
    assert isinstance(loop, Loop)
    assert (loop.variable, loop.over) == ("x", Name("list(string)", 0, "l"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("0", 0), ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1), ("18446744073709551615u", 2**64 - 1), ("1.5", 1.5),
        ("-1e300", -1e300), ("''", ""), ("'a\\n日'", "a\n日"), ("b'\\xff'", b"\xff"), ("null", None),
    ],
)  # fmt: skip
def test_constants(text: str, value: object) -> None:
    found = parsed(text)
    assert isinstance(found, Const)
    assert (found.value, type(found.value)) == (value, type(value))


def test_what_comes_of_a_dynamic_value_is_dynamic() -> None:
    for text in (
        "d[0] == 1",
        "(d + 1) == 1",
        "(n == 1 ? d : 1) == 1",
        "(-d) == 1",
        "[d, 1][0] == 1",
    ):
        found = parsed(text)
        assert isinstance(found, Call)
        assert found.args[0].type == "dyn", text
    assert parsed("[1, 2]") == Items("list(int)", 0, [Const("int", 1, 1), Const("int", 4, 2)])


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message(data: bytes) -> None:
    try:
        fields(data)
    except ValueError:
        return


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x09abc", b"\xff" * 11, b"\x0b"])
def test_cut_or_strange_messages(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|varint|wire type"):
        fields(data)


# ---------------------------------------------------------------- literals


def text_of(text: str) -> str:
    return lex(text, lambda name: name == "src.name").text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("latency > 100ms", "latency > 100000000"),
        ("1.5s+2m+1h+1d", "1500000000+120000000000+3600000000000+86400000000000"),
        ("10us 10µs 7ns", "10000 10000 7"),
        ("1KiB 1kB 1KB 1MiB 1GB 5TB 7B", "1024 1000 1000 1048576 1000000000 5000000000000 7"),
        ("1h30m 1m0.5s", "5400000000000 60500000000"),
        ("1 2.5 0x1F 1e5 1.5e-3 7u", "1 2.5 0x1F 1e5 1.5e-3 7u"),
        ("\"100ms\" '1KiB' r'1s' b\"2m\" '''3s'''", "\"100ms\" '1KiB' r'1s' b\"2m\" '''3s'''"),
        ("'it\\'s 1s' + r'\\' + 1s", "'it\\'s 1s' + r'\\' + 1000000000"),
        ("a // 100ms\n&& 1s", "a // 100ms\n&& 1000000000"),
        ("x1s == y.z2m", "x1s == y.z2m"),
        ("slow(100) slow ( 1.5s )", "slow(100000000) slow ( 1500000000 )"),
        ("slow('2s') slow(0.5)", "slow(2000000000) slow(500000)"),
        ("has(src.name)", "   (has_field.src.name)"),
        ("has ( src.name )", "    ( has_field.src.name )"),
        ("has(m.x) && 'has(src.name)' == ''", "has(m.x) && 'has(src.name)' == ''"),
    ],
)  # fmt: skip
def test_literals(text: str, wanted: str) -> None:
    assert text_of(text) == wanted


def test_places_lead_back() -> None:
    text = "a > 100ms && has(src.name) || bb"
    lexed = lex(text, lambda name: name == "src.name")
    for piece in ("a >", "&&", "||", "bb"):
        at = lexed.text.index(piece)
        assert lexed.origin(at, len(text)) == text.index(piece)
    assert lexed.origin(lexed.text.index("000"), len(text)) == text.index("100ms")
    assert lexed.origin(len(lexed.text), len(text)) == len(text)


@given(st.text("as1.m\"'\\r/ \n()[]µKiBe", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    """Whatever is typed: pieces add up, or it is wrong at a place within."""
    try:
        lexed = lex(text, lambda name: False)
    except Wrong as wrong:
        places = [0, wrong.at, len(text)]
    else:
        places = [lexed.origin(at, len(text)) for at in range(len(lexed.text) + 1)]
    assert places == sorted(places)


@pytest.mark.parametrize("text", ["1x", "1sKiB", "0.5ns", "1.0000000001s", "9999999999d"])
def test_quantities_that_are_none(text: str) -> None:
    with pytest.raises(Wrong):
        quantity(text, 0)
