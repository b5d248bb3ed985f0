"""What a grammar refuses when it is made, what it hides, and that both of its parsers agree."""

from __future__ import annotations

from typing import Annotated, Any

import construct as c
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark._spec_checks import check
from kshark.api import (
    Details,
    DissectError,
    EnricherSpec,
    Framed,
    Kind,
    Message,
    PluginError,
    ProtocolSpec,
    Redact,
    Side,
    doc,
)
from kshark.filter import known_fields
from kshark.grammar import Datagram, Grammar, LengthPrefix
from kshark.grammar.compiled import compiled_parser, twins_differ
from kshark.render import Renderer
from kshark.testing import assert_dissector, converse, messages
from kshark.testing._secrets import assert_hidden

C, S = Side.CLIENT, Side.SERVER
Text = c.PascalString(c.Int8ub, "utf8")
Login = c.Struct(
    "flags" / c.Int8ub * "1: with a password",
    "user" / Text * "Who",
    "password" / c.If(c.this.flags & 1, Text) * "Password",
)
Other = c.Struct("text" / c.GreedyBytes * "What is said")
Packet = c.Struct(
    "length" / c.Int16ub * "Bytes that follow",
    "op" / c.Int8ub * "What it is",
    "body" / c.Switch(c.this.op, {1: Login, 2: Other}, default=c.Error) * "By its kind",
)
LOGIN = b"\0\x0d\x01\1\3ann\6geheim"
HELLO = b"\0\3\x02hi"


def login(struct: Any = Packet, **more: Any) -> Grammar:
    rules: dict[str, Any] = {"redact": {"body.password": Redact.VALUE}, "verb": "op"}
    return Grammar("login", struct, LengthPrefix(2), **(rules | more))


def shown(grammar: Grammar, raw: bytes) -> bytes:
    spec = grammar.spec()
    return Renderer({spec.name: spec}).encode(converse(spec, [(C, raw)]), full=True)


# ---------------------------------------------------------------- secrets


def test_a_secret_inside_of_a_switch_and_an_if_is_hidden() -> None:
    found = shown(login(), LOGIN)
    assert b"geheim" not in found
    assert msgspec.json.decode(found)["login"]["request"]["body"] == {
        "flags": 1,
        "user": "ann",
        "password": "REDACTED",
    }


def test_a_secret_in_one_branch_of_different_types_hides_the_whole() -> None:
    mixed = c.Switch(c.this.op, {1: Login, 2: c.GreedyBytes}, default=c.Error)
    struct = c.Struct("length" / c.Int16ub, "op" / c.Int8ub, "body" / mixed)
    assert b"geheim" not in shown(login(struct), LOGIN)
    assert b"ann" not in shown(login(struct), LOGIN)
    assert b"hi" not in shown(login(struct), HELLO)
    assert b"ann" in shown(login(struct, redact={}), LOGIN)


def test_a_secret_in_the_items_of_a_list_is_hidden() -> None:
    struct = c.Struct("length" / c.Int16ub, "logins" / c.GreedyRange(Login))
    found = shown(
        login(struct, verb=None, redact={"logins.password": Redact.VALUE}), b"\0\x0c" + LOGIN[3:]
    )
    assert b"ann" in found
    assert b"geheim" not in found


def test_a_target_that_is_a_secret_is_hidden_in_rows() -> None:
    from kshark.redact import redact_targets

    grammar = login(target="body.password")
    spec = grammar.spec()
    entries = redact_targets(converse(spec, [(C, LOGIN)]), {"login": spec})
    assert [e.request and e.request.target for e in entries] == ["REDACTED"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("body.pass", "did you mean body.password?"),
        ("password", "did you mean body.password?"),
        ("x", "there is length, op, body, body.flags, body.user"),
    ],
)
def test_a_path_that_is_no_field_is_refused(path: str, hint: str) -> None:
    with pytest.raises(PluginError) as caught:
        login(redact={path: Redact.VALUE})
    assert f"Grammar 'login': redact: there is no field {path!r}; {hint}" in str(caught.value)


def test_redact_beside_typed_details_is_refused_unless_these_mark_the_field() -> None:
    flat = c.Struct("length" / c.Int16ub, "op" / c.Int8ub, "secret" / c.GreedyBytes)

    class Open(Details):
        secret: Annotated[str, doc("s")] = ""

    class Marked(Details):
        secret: Annotated[str, doc("s", redact=Redact.VALUE)] = ""

    class Without(Details):
        op: Annotated[int, doc("o")] = 0

    redact = {"secret": Redact.VALUE}
    with pytest.raises(PluginError, match="no effect on request=Open: mark the field there"):
        login(flat, redact=redact, request=Open)
    with pytest.raises(PluginError, match="no effect on response=Without"):
        login(flat, redact=redact, response=Without, values=lambda m: {"op": m.secret})
    assert b"geheim" not in shown(login(flat, redact=redact, request=Marked), b"\0\7\1geheim")
    assert b"geheim" not in shown(login(flat, redact=redact, request=Without), b"\0\7\1geheim")


def test_the_kit_plants_what_is_declared_secret() -> None:
    spec = login().spec()
    assert_hidden(spec, [(C, LOGIN)])
    leaky = login()
    leaky.request = login(redact={}).request  # as if the declaration had no effect
    with pytest.raises(AssertionError, match=r"the field body\.password is declared secret"):
        assert_hidden(leaky.spec(), [(C, LOGIN)])
    with pytest.raises(AssertionError, match="is declared secret"):
        assert_dissector(leaky.spec(), [(C, LOGIN)], examples=1, fuzz=0, skip=["memory", "time"])


def test_a_secret_of_a_fixed_size_is_planted_too() -> None:
    struct = c.Struct("length" / c.Int16ub, "pin" / c.Bytes(6))
    grammar = login(struct, verb=None, redact={"pin": Redact.VALUE})
    assert_hidden(grammar.spec(), [(C, b"\0\6geheim")])
    grammar.request = login(struct, verb=None, redact={}).request
    with pytest.raises(AssertionError, match="the field pin is declared secret"):
        assert_hidden(grammar.spec(), [(C, b"\0\6geheim")])


def test_a_secret_in_a_rows_target_is_found_and_hidden_where_a_name_says_so() -> None:
    assert_hidden(login(target="body.password").spec(), [(C, LOGIN)])
    with pytest.raises(
        AssertionError, match=r"the field body\.password is declared secret.*target"
    ):
        assert_hidden(login(target=lambda m: m.body.password).spec(), [(C, LOGIN)])


def test_the_kit_plants_in_dissectors_by_hand_too() -> None:
    class Leaky(Details):
        token: Annotated[str, doc("Token", redact=Redact.VALUE)] = ""
        again: Annotated[str, doc("The same in clear")] = ""

    def details(message: Message) -> Details:
        text = message.body.decode("latin-1").strip()
        return Leaky(token=text, again=text if leak else "")

    class Lines(Framed):
        def parse(self, side: Side) -> Any:
            while True:
                line = yield b"\n"
                yield Message(Kind(1 + side), body=line)

    spec = ProtocolSpec(name="leaky", dissector=Lines, request=Leaky, details=details)
    leak = False
    assert_hidden(spec, [(C, b"sesame-open\n")])
    leak = True
    with pytest.raises(AssertionError, match="the field token is declared secret"):
        assert_hidden(spec, [(C, b"sesame-open\n")])


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"verb": "opp"}, "verb='opp': there is no such field; did you mean op?"),
        ({"key": "pw"}, "key='pw': there is no such field; there is length, op, body"),
        ({"verb": 5}, "verb=5: a field's dotted name or a function is needed"),
        ({"kind": "op"}, "kind='op': a function of the message and the side is needed"),
        ({"kind": lambda m: Kind.REQUEST}, "kind: a function of the parsed message and the side"),
        ({"key": lambda m, side: 1}, "key: a function of the parsed message alone is needed"),
        ({"target": "body"}, "target='body': that is no single value; name a field in it, as in body.flags"),
        ({"status": "body.text"}, "status='body.text': that is no number"),
        ({"redact": {"op": "value"}}, "redact: 'op' needs a kshark.api.Redact"),
    ],
)  # fmt: skip
def test_rules_are_checked_when_the_grammar_is_made(more: Any, text: str) -> None:
    with pytest.raises(PluginError) as caught:
        login(**more)
    assert f"Grammar 'login': {text}" in str(caught.value)


def test_a_rule_may_name_a_field_of_some_messages_only() -> None:
    found = messages(login(target="body.text").dissector(), [(C, LOGIN), (C, HELLO)])
    assert [(m.verb, m.target) for m in found] == [("1", ""), ("2", "hi")]


def test_a_key_by_name_must_be_there_on_both_sides() -> None:
    answer = c.Struct("length" / c.Int16ub, "rest" / c.GreedyBytes)
    with pytest.raises(PluginError, match="no such field in the struct of each side"):
        login(answer=answer, key="op")


# ---------------------------------------------------------------- types


def test_fields_of_an_if_and_of_a_switch_have_types_and_docs() -> None:
    known = known_fields({"login": login().spec()})
    kinds = {name: (one.type, one.doc) for name, one in known.items() if "login.request" in name}
    assert kinds == {
        "login.request.length": ("int", "Bytes that follow"),
        "login.request.op": ("int", "What it is"),
        "login.request.body.flags": ("int", "1: with a password"),
        "login.request.body.user": ("string", "Who"),
        "login.request.body.password": ("string", "Password"),
        "login.request.body.text": ("string", "What is said"),
    }
    number = c.Struct("length" / c.Int16ub, "n" / c.If(c.this.length > 2, c.Int16ub))
    kind = known_fields({"n": Grammar("n", number, LengthPrefix(2)).spec()})["n.request.n"]
    assert kind.type == "int"


def test_a_field_without_a_doc_line_is_told() -> None:
    struct = c.Struct("length" / c.Int16ub, "op" / c.Int8ub * "o", "rest" / c.GreedyBytes * "r")
    spec = Grammar("nodoc", struct, LengthPrefix(2), verb="op").spec()
    with pytest.raises(
        AssertionError, match=r"NodocRequest.length has no doc line: add it in the struct"
    ):
        assert_dissector(spec, [(C, b"\0\1a")], examples=1)
    inner = c.Struct("length" / c.Int16ub * "l", "in_" / c.Struct("x" / c.GreedyBytes) * "i")
    with pytest.raises(AssertionError, match=r"NodocRequest.in_.x has no doc line"):
        assert_dissector(
            Grammar("nodoc", inner, LengthPrefix(2)).spec(), [(C, b"\0\1a")], examples=1
        )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"length": str}, "the field 'length' is str, and a number in the struct; values= can change it"),
        ({"secret": int}, "the field 'secret' is int, and text in the struct"),
        ({"missing": str}, "the field 'missing' is none of the struct; values= can give it"),
    ],
)  # fmt: skip
def test_details_that_do_not_fit_the_struct_are_refused(fields: dict[str, Any], text: str) -> None:
    flat = c.Struct("length" / c.Int16ub, "op" / c.Int8ub, "secret" / c.GreedyBytes)
    parts = [(name, kind | None, None) for name, kind in fields.items()]
    own: Any = msgspec.defstruct("Own", parts, bases=(Details,), kw_only=True)
    with pytest.raises(PluginError) as caught:
        login(flat, redact={}, request=own)
    assert f"Grammar 'login': request=Own: {text}" in str(caught.value)


def test_values_that_do_not_fit_are_told_by_the_kit() -> None:
    class Own(Details):
        op: Annotated[int, doc("o")] = 0

    def tried(values: Any) -> None:
        grammar = login(redact={}, request=Own, response=Own, values=values)
        assert_dissector(grammar.spec(), [(C, HELLO)], examples=1, fuzz=0, skip=["memory", "time"])

    tried(lambda m: {"op": m.op, "more": "is not minded"})
    with pytest.raises(
        AssertionError, match=r"Own.op is left out, for its value is not of the declared"
    ):
        tried(lambda m: {"op": "two"})
    with pytest.raises(AssertionError, match="values= gives x, none of which is a field of Own"):
        tried(lambda m: {"x": 1})


def test_a_value_without_a_name_does_not_empty_its_struct() -> None:
    struct = c.Struct(
        "length" / c.Int16ub, "in_" / c.Struct("e" / c.Enum(c.Int8ub, A=1), "n" / c.Int8ub)
    )
    found: Any = shown(Grammar("enum", struct, LengthPrefix(2)), b"\0\2\7\5")
    assert msgspec.json.decode(found)["enum"]["request"]["in_"] == {"e": "7", "n": 5}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("function", "'function' is a reserved word of filters; call it 'function_'"),
        ("in", "'in' is a reserved word of filters; call it 'in_'"),
        ("ok-name", "'ok-name' is no name; call it 'ok_name'"),
        ("class", "'class' is a word of Python; call it 'class_'"),
        ("2nd", "'2nd' is no name; call it 'field_2nd'"),
    ],
)
def test_a_field_that_filters_could_not_say_is_refused(name: str, text: str) -> None:
    struct = c.Struct("length" / c.Int16ub, name / c.Int8ub)
    with pytest.raises(PluginError) as caught:
        Grammar("named", struct, LengthPrefix(2))
    assert f"the field {name!r} cannot be called so: {text}" in str(caught.value)
    assert Grammar("named", c.Struct("n" / c.Int8ub, "_in" / c.Int8ub), LengthPrefix(1))


class Inner(Details, rename={"in_": "in"}):
    in_: Annotated[int, doc("i")] = 0


class Outer(Details):
    inner: Annotated[Inner | None, doc("i")] = None


def test_the_same_rule_holds_for_schemas_by_hand() -> None:
    spec = ProtocolSpec(name="x", dissector=Framed, request=Outer, details=lambda m: Outer())
    assert check(spec, ProtocolSpec) == (
        "x: the field request.inner.in cannot be called so: 'in' is a reserved word of filters; call it 'in_'"
    )
    adds = EnricherSpec(name="x", make=lambda options, context: options, adds={"thing": Inner})
    assert "the field thing.in cannot be called so" in check(adds, EnricherSpec)


# ---------------------------------------------------------------- two parsers, one verdict

Words = c.Struct(
    "count" / c.Int8ub, "registers" / c.FixedSized(c.this.count, c.GreedyRange(c.Int16ub)),
    "rest" / c.GreedyBytes,
)  # fmt: skip
STRUCTS = {
    "fixed": Words,
    "bytes": c.Struct("n" / c.Int8ub, "x" / c.Bytes(c.this.n - 3), "y" / c.GreedyBytes),
    "array": c.Struct("n" / c.Int8sb, "x" / c.Array(c.this.n, c.Int16ub), c.Terminated),
    "prefixed": c.Struct("x" / c.Prefixed(c.Int8ub, c.GreedyBytes), "y" / c.Flag),
    "text": c.Struct("x" / c.PascalString(c.Int8ub, "utf8"), "y" / c.Optional(c.Int24ub)),
    "padded": c.Struct("x" / c.Padded(4, c.Int8ub), "e" / c.Enum(c.Int8ub, A=1), "z" / c.VarInt),
    "bits": c.Struct("x" / c.BitStruct("a" / c.BitsInteger(3), "b" / c.BitsInteger(5)), "y" / c.Int32ul),
    "choice": c.Struct(
        "n" / c.Int8ub, "x" / c.Switch(c.this.n & 3, {0: c.Int16ub, 1: Text}, default=c.Error),
        "y" / c.If(c.this.n & 4, c.Bytes(2)), "w" / c.Const(b"!"),
    ),
    "login": Packet,
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTS)
@given(st.binary(max_size=14) | st.lists(st.integers(0, 5), max_size=14).map(bytes))
@settings(max_examples=150)
def test_both_parsers_give_the_same_verdict(name: str, raw: bytes) -> None:
    parser = PARSERS[name]
    assert twins_differ(STRUCTS[name], parser, raw) == ""


PARSERS = {name: compiled_parser(struct) for name, struct in STRUCTS.items()}


def test_a_short_read_is_refused_compiled_too() -> None:
    grammar = Grammar("words", Words, Datagram())
    assert grammar.compiled
    with pytest.raises(DissectError):
        grammar.parse(b"\x09\0\1")
    assert twins_differ(Words, _unchecked(Words), b"\x09\0\1") != ""


def _unchecked(struct: Any) -> Any:
    """construct's own compiled parser."""
    compiled = struct.compile()
    return lambda raw: (compiled.parse(raw), len(raw))


def test_fuzzing_compares_both_parsers() -> None:
    from kshark.testing.fuzz import Fuzzer

    grammar = Grammar("words", Words, Datagram())
    seeds = [[(C, b"\4\0\1\0\2")]]
    assert Fuzzer(grammar.spec(), seeds).run(size=2_000).findings == []
    grammar._parsers = (_unchecked(Words), _unchecked(Words))
    [finding, *_] = Fuzzer(grammar.spec(), seeds).run(size=20_000).findings
    assert "the compiled struct and the interpreted one disagree" in finding.text


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize("compile", [True, False])
def test_an_error_says_where(compile: bool) -> None:
    grammar = login(compile=compile)
    with pytest.raises(
        DissectError, match=r"^StreamError at body\.password: stream read less than"
    ):
        grammar.message(b"\0\x09\1\1\3ann\6ge", C)
    struct = c.Struct("length" / c.Int16ub, "magic" / c.Const(b"KV"))
    with pytest.raises(DissectError, match=r"^ConstError at magic: parsing expected b'KV' but"):
        Grammar("k", struct, LengthPrefix(2), compile=compile).message(b"\0\2XX", C)


def test_saying_where_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from kshark.grammar import grammar as module

    tried: list[Exception] = []

    def told(error: Exception) -> str:
        tried.append(error)
        return "x"

    monkeypatch.setattr(module, "told", told)
    grammar = login()
    for _ in range(module.RETELLINGS + 5):
        with pytest.raises(DissectError):
            grammar.message(b"\0\x09\1\1\3ann\6ge", C)
    plain = [error for error in tried if getattr(error, "path", None)]
    assert len(plain) == module.RETELLINGS
    grammar = login()
    tried.clear()
    with pytest.raises(DissectError):
        grammar.message(b"\0\x08\1\1\3ann" + b"\xff" * module.RETOLD, C)
    assert [getattr(error, "path", None) for error in tried] == [None]
    assert grammar.probe(b"\0\2\1\3", C) == 0


def test_what_is_not_compiled_is_named() -> None:
    inner = c.Struct("user" / c.If(lambda this: this.x, c.Int8ub))
    grammar = Grammar("odd", c.Struct("x" / c.Int8ub, "body" / inner), Datagram())
    assert not grammar.compiled
    assert grammar.why_not_compiled.startswith("body.user: ")
    assert "a function where an expression of `this` could be compiled" in grammar.why_not_compiled


def test_what_a_struct_leaves_is_marked() -> None:
    short = c.Struct("length" / c.Int16ub, "op" / c.Int8ub)
    found = messages(Grammar("short", short, LengthPrefix(2)).dissector(), [(C, b"\0\3abc\0\1a")])
    assert [m.notes for m in found] == [("undissected",), ()]


def test_what_is_under_an_if_need_not_be_built() -> None:
    struct = c.Struct(
        "length" / c.Int16ub, "n" / c.Int8ub, "x" / c.If(c.this.n > 5, c.Int8ub),
        "in_" / c.Struct("m" / c.Int8ub, "y" / c.Optional(c.Int8ub)),
    )  # fmt: skip
    grammar = Grammar("opt", struct, LengthPrefix(2))
    assert grammar.build(C, length=0, n=1, in_={"m": 2}) == b"\0\2\1\2"
    assert grammar.build(C, length=0, n=6, x=9, in_={"m": 2, "y": 3}) == b"\0\4\6\x09\2\3"
