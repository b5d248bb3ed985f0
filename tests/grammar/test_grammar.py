"""Grammars: framing, mapping, details, building, finding the place again, and what each field's bytes are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import construct as c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.api import Details, DissectError, Framed, Kind, Message, Redact, Side, Verdict
from kshark.explain import Node
from kshark.grammar import (
    LIMIT,
    Datagram,
    Delimited,
    Fixed,
    Frame,
    Grammar,
    LengthPrefix,
    VarintPrefix,
)
from kshark.grammar.derive import details_of, plain
from kshark.grammar.offsets import explain
from kshark.testing import assert_dissector, converse, messages, rows

C, S = Side.CLIENT, Side.SERVER
OPS = {"GET": 71, "SET": 83, "OK": 43, "ERR": 45}
Packet = c.Struct(
    "size" / c.Int16ub * "Length of the text",
    "id" / c.Int16ub * "Number of the request",
    "op" / c.Enum(c.OneOf(c.Int8ub, list(OPS.values())), **OPS) * "What is asked",
    "text" / c.GreedyBytes * "Key, value or error",
)


def kv(**more: Any) -> Grammar:
    rules: dict[str, Any] = {"verb": "op", "target": "text", "key": "id"}
    return Grammar(
        "kv",
        Packet,
        LengthPrefix(2, adjust=5, first=b"\0"),
        **(rules | {"ok": lambda m: m.op != "ERR"} | more),
    )


TALK = [
    (C, b"\0\1\0\7Ga"),
    (C, b"\0\3\0\x08Sb=1"),
    (S, b"\0\2\0\x08+ok"),
    (S, b"\0\6\0\7-no key"),
]
ROWS = ["SET b=1 -> OK ok [ok]", "GET a -> ERR no key [error]"]


def test_a_grammar_alone_is_a_dissector() -> None:
    assert rows(converse(kv().spec(), TALK)) == ROWS


def test_a_grammar_keeps_the_laws() -> None:
    spec = kv(resync=True).spec(ports=(7000,), doc="kv")
    assert_dissector(spec, TALK, ROWS, pipelined=True, examples=10, skip=["memory", "time"])


def test_without_resync_a_gap_silences_a_side_and_the_laws_know() -> None:
    assert_dissector(
        kv().spec(magic=(b"\0\1\0\7G",)), TALK, examples=5, skip=["memory", "time"], fuzz=0
    )


def test_details_are_derived_with_types_docs_and_redaction() -> None:
    grammar = kv(redact={"text": Redact.VALUE})
    [message] = messages(grammar.dissector(), TALK[1:2])
    details: Any = grammar.details(message)
    assert (details.size, details.op, details.text) == (3, "SET", "b=1")
    assert type(details).__name__ == "KvRequest"
    from kshark.render import Renderer

    shown: Any = Renderer({"kv": grammar.spec()}).details(message, "kv")
    assert (shown.op, shown.text) == ("SET", "REDACTED")


def test_values_and_types_may_be_given() -> None:
    class Mine(Details):
        what: str = ""

    grammar = kv(request=Mine, response=Mine, values=lambda m: {"what": f"{m.op}!", "more": 5})
    assert grammar.details(grammar.message(TALK[0][1], C)) == Mine(what="GET!")


@pytest.mark.parametrize("compile", [True, False])
def test_compiled_or_not_it_is_the_same(compile: bool) -> None:
    grammar = kv(compile=compile)  # OneOf is not compiled, but linked to
    assert grammar.compiled is compile
    assert grammar.why_not_compiled == ("" if compile else "compile=False")
    found = messages(grammar.dissector(), TALK)
    assert [(m.kind, m.verb, m.target, m.key, m.ok) for m in found] == [
        (Kind.REQUEST, "GET", "a", 7, True),
        (Kind.REQUEST, "SET", "b=1", 8, True),
        (Kind.RESPONSE, "OK", "ok", 8, True),
        (Kind.RESPONSE, "ERR", "no key", 7, False),
    ]


def test_what_construct_cannot_compile_is_interpreted() -> None:
    struct = c.Struct("a" / c.Int8ub, c.Check(lambda this: this.a > 0), "b" / c.GreedyBytes)
    grammar = Grammar("odd", struct, LengthPrefix(1, adjust=1))
    assert not grammar.compiled
    assert grammar.why_not_compiled
    assert grammar.parse(b"\1x").b == b"x"
    with pytest.raises(DissectError, match="CheckError"):
        grammar.parse(b"\0x")


@pytest.mark.parametrize(
    "struct",
    [
        c.Struct("n" / c.Int8ub, "x" / c.Bytes(c.this.n)),
        c.Struct("n" / c.Int8ub, "x" / c.Bytes(c.this.n - 200)),
        c.Struct("x" / c.PascalString(c.Int8ub, "utf8")),
        c.Struct("n" / c.Int8ub, "x" / c.Switch(c.this.n, {}, default=c.Error)),
        c.Struct("n" / c.Int8ub, "x" / c.Computed(c.this.n // (c.this.n - c.this.n))),
        c.Struct("x" / c.Array(3, c.Float64b), c.Terminated),
        c.Struct("x" / c.Computed(lambda m: m["no"])),
    ],
)
@given(st.binary(max_size=12))
def test_hostile_bytes_are_a_dissect_error(struct: Any, raw: bytes) -> None:
    grammar = Grammar("odd", struct, Datagram())
    try:
        grammar.parse(raw)
    except DissectError:
        return  # and nothing else


def test_keys_are_never_zero() -> None:
    grammar = kv()
    assert grammar.message(b"\0\0\0\0G", C).key == -1
    assert kv(key=lambda m: None).message(b"\0\0\0\0G", C).key == 0
    assert kv(key=None).message(b"\0\0\0\7G", C).key == 0


def test_both_sides_may_have_structs_of_their_own() -> None:
    answer = c.Struct("size" / c.Int16ub, "code" / c.Int8ub, "rest" / c.GreedyBytes)
    ask = c.Struct("size" / c.Int16ub, "word" / c.GreedyBytes)
    grammar = Grammar(
        "two", ask, LengthPrefix(2), answer=answer, status=lambda m: getattr(m, "code", 0)
    )
    [entry] = converse(grammar.spec(), [(C, b"\0\2hi"), (S, b"\0\1\x09")])
    assert entry.request is not None
    assert entry.response is not None
    assert entry.response.status == 9
    assert (grammar.details(entry.request), grammar.details(entry.response)) == (
        grammar.request(size=2, word="hi"),
        grammar.response(size=1, code=9, rest=""),
    )


# ---------------------------------------------------------------- loss


def test_a_long_message_is_parsed_from_its_beginning() -> None:
    big = c.Struct("size" / c.Int32ub, "op" / c.Int8ub, "text" / c.GreedyBytes)
    grammar = Grammar("big", big, LengthPrefix(4), verb="op")
    raw = (200_001).to_bytes(4, "big") + b"\5" + b"x" * 200_000
    [message] = messages(grammar.dissector(), [(C, raw)])
    assert (message.verb, message.size, len(message.body), message.truncated) == (
        "5",
        200_005,
        LIMIT,
        True,
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [("", True)]),
        ({"kind": lambda m, side: Kind.REQUEST, "key": "tail"}, []),
        ({"kind": lambda m, side: Kind.REQUEST}, DissectError),
    ],
    ids=["by side", "keyed", "in order"],
)
def test_what_a_hole_left_is_given_only_where_no_wrong_pair_comes_of_it(
    more: Any, expected: Any
) -> None:
    struct = c.Struct("size" / c.Int8ub, "body" / c.Bytes(4), "tail" / c.Int8ub)
    dissector = Grammar("hole", struct, LengthPrefix(1), **more).dissector()
    talk: list[tuple[Side, bytes | int]] = [(C, b"\5ab"), (C, 3)]
    if expected is DissectError:
        with pytest.raises(DissectError):
            messages(dissector, talk)
    else:
        assert [(m.verb, m.truncated) for m in messages(dissector, talk)] == expected


def test_resync_wants_two_messages_or_one_to_the_end() -> None:
    grammar = kv(resync=True)
    assert grammar.resync(C, b"xx" + TALK[0][1] + TALK[1][1]) == 2
    assert grammar.resync(C, b"xx" + TALK[0][1]) == 2
    assert grammar.resync(C, b"xx" + TALK[0][1] + b"?") == -1
    assert kv().resync(C, TALK[0][1]) == -1


def test_the_probe_of_a_struct() -> None:
    strict = c.Struct("size" / c.Int16ub, c.Const(b"KV"), "rest" / c.GreedyBytes)
    probe = Grammar("strict", strict, LengthPrefix(2)).probe
    assert probe(b"\0\3KVx", C) == Verdict.LIKELY
    assert probe(b"\0\3KVx\0\2KV\0", C) == Verdict.LIKELY
    assert probe(b"\0\3KVx\0\2", C) == Verdict.MORE
    assert probe(b"\0", C) == Verdict.MORE
    assert probe(b"\0\3XXx", C) == Verdict.NO
    assert Grammar("s", strict, LengthPrefix(2, most=100)).probe(b"\xff\xffKV", C) == Verdict.NO


# ---------------------------------------------------------------- frames

FRAMES: list[tuple[Frame, bytes, int]] = [
    (LengthPrefix(2), b"\0\3abc", 5),
    (LengthPrefix(2, adjust=0), b"\0\5abc", 5),
    (LengthPrefix(4, at=1, endian="little"), b"T\2\0\0\0ab", 7),
    (VarintPrefix(at=1), b"\x30\x03abc", 5),
    (VarintPrefix(at=1), b"\x30\xc8\x01" + b"x" * 200, 203),
    (Fixed(3), b"abc", 3),
    (Fixed(2, lambda head: head[1]), b"a\2bc", 4),
    (Delimited(b"\r\n"), b"abc\r\n", 5),
]


@pytest.mark.parametrize(("frame", "raw", "size"), FRAMES)
def test_frames_agree_with_themselves(frame: Frame, raw: bytes, size: int) -> None:
    class Whole(Framed):
        def parse(self, side: Side) -> Any:
            while True:
                data, whole = yield from frame.take()
                assert whole
                yield Message(Kind.REQUEST, body=data)

    assert frame.size(b"??" + raw + b"tail", 2) == size == len(raw)
    assert frame.seal(raw) == raw
    dissector = Whole()
    fed = [m for byte in raw + raw for m in dissector.feed(C, bytes((byte,)))]
    assert [m.body for m in fed if isinstance(m, Message)] == [raw, raw]
    assert frame.size(raw[:-1], 0) in (0, size)


@given(st.binary(max_size=300))
def test_seal_writes_the_right_length(body: bytes) -> None:
    for frame in (
        LengthPrefix(2),
        LengthPrefix(4, adjust=0),
        LengthPrefix(2, endian="little", adjust=2),
    ):
        raw = frame.seal(bytes(frame.width) + body)
        assert frame.size(raw, 0) == len(raw)
    varint = VarintPrefix(at=1)
    raw = varint.seal(b"\x30\0" + body)
    assert varint.size(raw, 0) == len(raw)
    assert varint.seal(raw) == raw


@pytest.mark.parametrize(
    ("frame", "head"),
    [
        (LengthPrefix(4, most=100), b"\0\0\1\0"),
        (LengthPrefix(2, adjust=0), b"\0\1"),
        (LengthPrefix(1, first=b"ab"), b"c"),
        (VarintPrefix(), b"\xff\xff\xff\xff"),
        (VarintPrefix(at=1, first=b"a"), b"x\1"),
        (Fixed(1, lambda head: -1), b"x"),
        (Fixed(1, first=b"a"), b"x"),
    ],
)
def test_what_no_length_is(frame: Any, head: bytes) -> None:
    assert frame.size(head, 0) == -1
    with pytest.raises(DissectError, match="no length"):
        messages(Grammar("x", c.GreedyBytes, frame).dissector(), [(C, head)])


def test_datagrams_are_messages() -> None:
    dns = c.Struct("id" / c.Int16ub, "rest" / c.GreedyBytes)
    spec = Grammar("toy", dns, Datagram(), key="id").spec()
    assert spec.transport == "udp"
    assert rows(converse(spec, [(C, b"\0\1ask"), (S, b"\0\1answer")])) == [". -> . [ok]"]
    [message] = messages(spec.dissector(), [(C, b"\0\1" + b"x" * 70_000)])
    assert (message.size, len(message.body), message.truncated) == (70_002, LIMIT, True)


# ---------------------------------------------------------------- build

SAMPLES = [
    {"size": 0, "id": 3, "op": "SET", "text": b"a=1"},
    {"size": 0, "id": 4, "op": "GET", "text": b"a"},
]


@given(kv().messages(*SAMPLES))
@settings(max_examples=100)
def test_generated_messages_are_read_back(raw: bytes) -> None:
    [message] = messages(kv().dissector(), [(C, raw)])
    assert message.size == len(raw)


def test_generated_messages_vary() -> None:
    from hypothesis import find

    assert find(kv().messages(*SAMPLES), lambda raw: len(raw) > 20)
    assert find(kv().messages(*SAMPLES), lambda raw: raw[2:4] not in (b"\0\3", b"\0\4"))


def test_a_sample_that_cannot_be_built_says_so() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        kv().messages()
    with pytest.raises(c.ConstructError):
        kv().messages({"size": 0, "id": 1 << 20, "op": "GET", "text": b""})


# ---------------------------------------------------------------- explain, derive


def test_a_documented_field_is_shown_once() -> None:
    struct = c.Struct("size" / c.Byte * "Bytes", "text" / (c.GreedyBytes * "Text"))
    found = explain(struct, b"\1a")
    assert [(node.name, node.start, node.end, node.inner) for node in found] == [
        ("size", 0, 1, []), ("text", 1, 2, []),
    ]  # fmt: skip


def test_offsets_of_fields() -> None:
    nested = c.Struct(
        "head" / c.BitStruct("kind" / c.BitsInteger(4), "flags" / c.BitsInteger(4)),
        "name" / c.PascalString(c.Int8ub, "utf8"),
        "inner" / c.Prefixed(c.Int8ub, c.Struct("x" / c.Int16ub, "y" / c.Int8ub)),
        "list" / c.Array(2, c.Struct("v" / c.Int8ub)),
        "rest" / c.GreedyBytes,
    )
    before = dict(vars(nested))
    tree = explain(nested, b"\x35\2ab\3\0\1\2\x08\x09end")

    def flat(nodes: list[Node], path: str = "") -> list[tuple[str, int, int, str]]:
        out = []
        for n in nodes:
            out.append((path + n.name, n.start, n.end, n.value))
            out += flat(n.inner, f"{path}{n.name}.")
        return out

    assert flat(tree) == [
        ("head", 0, 1, ""),
        ("head.kind", -1, -1, "3"),
        ("head.flags", -1, -1, "5"),
        ("name", 1, 4, "ab"),
        ("inner", 4, 8, ""),
        ("inner.x", 5, 7, "1"),
        ("inner.y", 7, 8, "2"),
        ("list", 8, 10, ""),
        ("list.v", 8, 9, "8"),
        ("list.v", 9, 10, "9"),
        ("rest", 10, 13, "end"),
    ]
    assert dict(vars(nested)) == before
    assert "_parsereport" not in vars(nested.subcons[0])


def test_types_of_a_struct() -> None:
    struct = c.Struct(
        "i" / c.Int8ub,
        "f" / c.Float32b,
        "b" / c.Flag,
        "s" / c.CString("utf8"),
        "e" / c.Enum(c.Int8ub, A=1),
        "n" / c.Struct("x" / c.Int8ub * "The inner one"),
        "l" / c.Array(2, c.Int8ub),
        "w" / c.Switch(c.this.i, {}),
        "_hidden" / c.Int8ub,
        c.Padding(1),
    )
    import msgspec

    made = details_of("Made", struct)
    types = {field.name: str(field.type) for field in msgspec.structs.fields(made)}
    assert list(types) == ["i", "f", "b", "s", "e", "n", "l", "w"]
    schema: Any = msgspec.json.schema(made)["$defs"]
    assert schema["Made"]["properties"]["s"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert schema["Made_n"]["properties"]["x"]["description"] == "The inner one"
    assert schema["Made"]["properties"]["l"]["anyOf"][0]["items"] == {"type": "integer"}


def test_plain_values() -> None:
    parsed = Packet.parse(b"\0\1\0\7Ga")
    assert plain(parsed) == {"size": 1, "id": 7, "op": "GET", "text": "a"}
    assert plain(c.Enum(c.Int8ub, A=1).parse(b"?")) == 63
    assert plain(b"\xff\0") == "ff 00"
    assert plain("é".encode()) == "é"


def test_the_module_imports_no_construct() -> None:
    code = "import sys, kshark.grammar; sys.exit('construct' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
