"""Compiled filters against Google's own evaluation, on generated expressions and entries.

The facts that the library is given are made from the JSON of the entry; what is null or left out there
it is not given, so that it answers with an error. Two laws:

1. where the library has an answer to the whole expression, the compiled filter has the same;
2. where it has none, it has one to the expression in which each yes/no part that fails is replaced
   by ``false``, from the inside out; every single part being evaluated by the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import pytest
from calls import ADDS, PROTOCOLS, Answer, Ask, Place, Tag, entry, request, response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kshark.api import Details, Endpoint, Entry, Flow, Outcome, PluginError
from kshark.filter import compile_filter, known_fields
from kshark.filter.check import _type, library
from kshark.filter.functions import headers
from kshark.render import Renderer

FIELDS = known_fields(PROTOCOLS, ADDS)
RENDERER = Renderer(PROTOCOLS)


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Part:
    """A piece of an expression: its type, how it is written, how the library is asked."""

    type: str
    text: str
    parts: tuple[Part, ...] = ()
    plain: str = ""  # for the library, where that differs
    macro: str = ""  # exists, all, exists_one, filter, map; parts are what is walked and the body

    def written(self) -> str:
        return self.text.format(*(part.written() for part in self.parts))

    def whole(self) -> str:
        """For the library, nothing replaced."""
        return (self.plain or self.text).format(*(part.whole() for part in self.parts))


class Oracle:
    """The library, with the facts of one entry."""

    def __init__(self, one: Entry) -> None:
        self.facts = facts(one)

    def ask(self, text: str, **more: Any) -> Any:
        """The library's answer, None for an error."""
        if text.startswith("has_"):
            return text[4:] in self.facts
        try:
            found = compiled(text).eval(data={**self.facts, **more})
        except RuntimeError as error:  # it does not compile: an absurdity of one type
            raise AssertionError(text) from error
        return None if found.type().name() == "*error*" or "ERROR" in found.type().name() else found

    def yes(self, part: Part, item: str) -> bool:
        """Law 2 of a yes/no part."""
        if part.macro:
            return self.loop(part) == "true"
        found = self.ask(self.reduced(part, item))
        return found is True or (found not in (None, False) and found.plain_value() is True)

    def reduced(self, part: Part, item: str) -> str:
        """The text of a part whose yes/no parts are answered."""
        if part.macro:
            return self.loop(part)
        shape = part.plain or part.text
        if shape == "n":
            return item
        return shape.format(
            *(
                ("true" if self.yes(p, item) else "false")
                if p.type == "bool"
                else self.reduced(p, item)
                for p in part.parts
            )
        )

    def loop(self, part: Part) -> str:
        """A macro, its body asked for each element."""
        over, body = part.parts
        held = self.ask(self.reduced(over, ""))
        if held is None:
            return "false" if part.type == "bool" else '[["x"][5]]'
        items = [literal(item) for item in held.plain_value()]
        if part.macro == "map":
            return f"[{', '.join(self.reduced(body, item) for item in items)}]"
        answers = [self.yes(body, item) for item in items]
        if part.macro == "filter":
            kept = [item for item, yes in zip(items, answers, strict=True) if yes]
            return f"[{', '.join(kept)}]" if kept else '["x"].filter(b, false)'
        shown = ", ".join(map(literal, answers)) or ""
        return literal(self.ask(f"[{shown}].{part.macro}(b, b)").plain_value()) if shown else (
            "true" if part.macro == "all" else "false"
        )  # fmt: skip


def literal(value: Any) -> str:
    """A value as CEL writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    text = repr(value)
    return f"({text})" if text.startswith("-") else text


@lru_cache(1)
def environment() -> Any:
    cel = library()
    kinds = cel.Type

    def own(name: str, table: dict[int, int]) -> Any:
        case = cel.Overload(
            name, kinds.STRING, [kinds.STRING], is_member=True, impl=lambda s: s.translate(table)
        )
        return cel.FunctionDecl(name, [case])

    lower = {n: n + 32 for n in range(65, 91)}
    functions = [own("lowerAscii", lower), own("upperAscii", {v: k for k, v in lower.items()})]
    variables = {name: _type(cel, field.type) for name, field in FIELDS.items()}
    return cel.NewEnv(variables=variables, functions=functions)


@lru_cache(5_000)
def compiled(text: str) -> Any:
    return environment().compile(text)


def facts(one: Entry) -> dict[str, Any]:
    """What the JSON of an entry says, by name; what is null or not there is left out."""
    found = dict(_flat(RENDERER.as_dict(one)))
    found.setdefault("notes", [])
    for half in ("request", "response"):
        message = getattr(one, half)
        if message is not None:
            details = RENDERER.details(message, one.protocol)
            found |= dict(_details(f"{one.protocol}.{half}", details))
    found |= {name: one.protocol == name for name in PROTOCOLS}
    added = (one.extra or {}).get("a-tag")
    found["a_tag"] = added is not None
    found |= dict(_details("a_tag", None if added is None else RENDERER.shown(added)))
    found["error"] = found["outcome"] == "error"
    found |= {n: found[f"{n}_ns"] for n in ("latency", "duration") if f"{n}_ns" in found}
    return found


def _flat(row: Mapping[str, Any], before: str = "") -> Any:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield before + name, value


def _details(before: str, details: Details | None) -> Any:
    for name in details.__struct_fields__ if details is not None else ():
        value = getattr(details, name)
        field = FIELDS.get(f"{before}.{name}")
        if isinstance(value, Details):
            yield from _details(f"{before}.{name}", value)
        elif value is not None and field is not None:
            yield (
                field.name,
                headers(value)
                if field.headers
                else msgspec.to_builtins(value, builtin_types=(bytes,)),
            )


# ---------------------------------------------------------------- what is generated

WORDS = [
    "",
    "a",
    "A",
    "ab",
    "b",
    "GET",
    "/r",
    "host",
    "é",
    "12",
    "-7",
    "curl",
    "x y",
    "日本",
    "http",
    "error",
    "2026",
]
NUMBERS = [0, 1, -1, 2, 7, 80, 200, 503, 10**9, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, -0.0, 0.5, 1.0, -2.5, 1e300, 503.0]
PATTERNS = ["a", "^a$", "[A-Z]+", "^/", "(a|b)+$", "é.?", "^$"]
QUANTITIES = {"100ms": 10**8, "1KiB": 1024, "1.5s": 1_500_000_000, "2m": 120 * 10**9, "80B": 80}
OWN = [name for name in FIELDS if not name.startswith(("tcp.", "udp.", "icmp."))]
BY_TYPE: dict[str, list[str]] = {}
for _name in OWN:
    BY_TYPE.setdefault(FIELDS[_name].type, []).append(_name)

words, numbers = st.sampled_from(WORDS), st.sampled_from(NUMBERS)
values = st.recursive(
    st.one_of(words, numbers, st.booleans(), st.sampled_from(DOUBLES)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip


def fixed(kind: str, text: str, plain: str = "") -> Part:
    return Part(kind, _quoted(text), (), _quoted(plain))


def _quoted(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@st.composite
def part(draw: Any, kind: str, depth: int, item: int = 0) -> Part:
    """An expression of a type; `item`: 1 in what a macro walks, 2 in its body, where ``n`` is text."""
    shapes = SHAPES["bool"][:-1] if kind == "yes" else SHAPES[kind]
    kind = "bool" if kind == "yes" else kind
    if depth <= 0 or draw(st.integers(0, 3)) == 0:
        single: Part = draw(leaf(kind, item))
        return single
    shape, kinds = draw(st.sampled_from(shapes))
    if kind in ("bool", "list(string)") and not item and draw(st.integers(0, 5)) == 0:
        loop: Part = draw(looped(kind, depth))
        return loop
    return Part(kind, shape, tuple(draw(part(k, depth - 1, item)) for k in kinds))


@st.composite
def looped(draw: Any, kind: str, depth: int) -> Part:
    macro = draw(
        st.sampled_from(["exists", "all", "exists_one"] if kind == "bool" else ["filter", "map"])
    )
    over = draw(part(draw(st.sampled_from(["list(string)", "map(string, string)"])), depth - 1, 1))
    body = draw(part("string" if macro == "map" else "bool", depth - 1, 2))
    return Part(kind, f"{{0}}.{macro}(n, {{1}})", (over, body), macro=macro)


@st.composite
def leaf(draw: Any, kind: str, item: int) -> Part:
    if item == 2 and kind == "string" and draw(st.booleans()):
        return Part(kind, "n")
    if kind == "bool" and draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from(OWN))
        return fixed(kind, f"has({name})", f"has_{name}")
    if kind == "bool" and draw(st.integers(0, 6)) == 0:
        return fixed(kind, "slow(150)", "(latency_ns >= 150000000)")
    if draw(st.booleans()) and BY_TYPE.get(kind):
        return fixed(kind, draw(st.sampled_from(BY_TYPE[kind])))
    if kind == "int" and draw(st.booleans()):
        text = draw(st.sampled_from(list(QUANTITIES)))
        return fixed(kind, f"int({text})", str(QUANTITIES[text]))  # alone it is for times and sizes
    given_ = {
        "bool": st.booleans(), "int": numbers, "double": st.sampled_from(DOUBLES), "string": words,
        "list(string)": st.lists(words, min_size=1, max_size=3),
    }  # fmt: skip
    if kind not in given_:
        return fixed(kind, draw(st.sampled_from(BY_TYPE[kind])))
    value = draw(given_[kind])
    return fixed(
        kind, f"[{', '.join(map(literal, value))}]" if isinstance(value, list) else literal(value)
    )


_COMPARED = ("int", "double", "string")
# "yes" is a yes/no expression as a value: not a dynamic value, of which "bool" asks whether it is true
SHAPES: dict[str, list[tuple[str, list[str]]]] = {
    "bool": [
        *[("({0} && {1})", ["bool", "bool"]), ("({0} || {1})", ["bool", "bool"])] * 2,
        ("!{0}", ["bool"]),
        ("({0} ? {1} : {2})", ["bool", "yes", "yes"]),
        *[(f"({{0}} {o} {{1}})", [k, k]) for k in _COMPARED for o in ("==", "!=", "<", "<=", ">", ">=")],
        ("({0} == {1})", ["yes", "yes"]),
        ("({0} == {1})", ["list(string)", "list(string)"]),
        ("({0} != {1})", ["map(string, string)", "map(string, string)"]),
        *[(f"({{0}} {o} {{1}})", ["dyn", k]) for k in (*_COMPARED, "yes", "dyn") for o in ("==", "!=")],
        *[(f"({{0}} {o} {{1}})", ["dyn", k]) for k in (*_COMPARED, "dyn") for o in ("<", ">=")],
        *[(f"{{0}}.{f}({{1}})", ["string", "string"]) for f in ("contains", "startsWith", "endsWith")],
        ("{0}.contains({1})", ["dyn", "string"]),
        ("({0} in [{1}, {2}])", ["int", "dyn", "int"]),
        *[(f"{{0}}.matches({literal(p)})", ["string"]) for p in map(_quoted, PATTERNS)],
        ("({0} in {1})", ["string", "list(string)"]),
        ("({0} in {1})", ["string", "map(string, string)"]),
        ("({0} in {1})", ["int", "list(int)"]),
        ("({0} in [1, 80, 503])", ["int"]),
        ("({0} in {1})", ["dyn", "list(string)"]),
        ("({0} in {1})", ["string", "dyn"]),
        ("{0}", ["dyn_bool"]),
    ],
    "dyn_bool": [("{0}", ["bool"])],
    "int": [
        *[(f"({{0}} {o} {{1}})", ["int", "int"]) for o in "+-*/%"],
        ("(-{0})", ["int"]),
        *[("size({0})", [k]) for k in ("string", "list(string)", "map(string, string)", "dyn")],
        ("{0}.size()", ["string"]),
        *[("int({0})", [k]) for k in ("int", "double", "string", "dyn")],
        ("({0} ? {1} : {2})", ["bool", "int", "int"]),
        ("{0}[{1}]", ["list(int)", "int"]),
        ("({0} + {1})", ["dyn", "int"]),
    ],
    "double": [
        *[(f"({{0}} {o} {{1}})", ["double", "double"]) for o in "+-*/"],
        ("(-{0})", ["double"]),
        ("double({0})", ["int"]),
        ("double({0})", ["double"]),
    ],
    "string": [
        ("({0} + {1})", ["string", "string"]),
        ("{0}.lowerAscii()", ["string"]),
        ("{0}.upperAscii()", ["string"]),
        *[("string({0})", [k]) for k in ("int", "yes", "string")],
        ("{0}[{1}]", ["list(string)", "int"]),
        ("{0}[{1}]", ["map(string, string)", "string"]),
        ("{0}.host", ["map(string, string)"]),
        ("({0} ? {1} : {2})", ["bool", "string", "string"]),
    ],
    "dyn": [
        *[(f"({{0}} {o} {{1}})", ["dyn", "dyn"]) for o in "+-*/%"],
        ("(-{0})", ["dyn"]),
        ("{0}.a", ["dyn"]),
        ("{0}[{1}]", ["dyn", "int"]),
        ("{0}[{1}]", ["dyn", "string"]),
        ("({0} ? {1} : {2})", ["bool", "dyn", "dyn"]),
        ("({0} ? {1} : {2})", ["bool", "int", "dyn"]),
        ("[{0}, {1}][{2}]", ["dyn", "int", "int"]),
        *[("dyn({0})", [k]) for k in (*_COMPARED, "yes")],
    ],
    "list(string)": [("({0} + {1})", ["list(string)", "list(string)"])],
    "list(int)": [("({0} + {1})", ["list(int)", "list(int)"])],
    "map(string, string)": [("({0} ? {1} : {2})", ["bool"] + ["map(string, string)"] * 2)],
}  # fmt: skip
BY_TYPE["dyn_bool"] = BY_TYPE["dyn"]


def optional(values: Any) -> Any:
    return st.none() | values


HEADS = [
    b"GET /r HTTP/1.1\r\nHost: a\r\nX: a\r\nx: b\r\n\r\n",
    b"GET /ab?x=12 HTTP/1.0\r\nHost: ab\r\nUser-Agent: curl\r\nCookie: a=b\r\n\r\n",
]
COMMANDS = [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nab\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"]
REPLIES = [b":12\r\n", b"+OK\r\n", b"-ERR x\r\n", b"*2\r\n$1\r\na\r\n:7\r\n", b"$-1\r\n", b"#t\r\n"]
asks = st.builds(
    Ask,
    text=optional(words), number=optional(numbers),
    share=optional(st.sampled_from([*DOUBLES, float("inf"), float("nan")])),
    flag=optional(st.booleans()), blob=optional(st.just(b"a")), words=st.lists(words, max_size=3),
    numbers=st.lists(numbers, max_size=3),
    pairs=st.lists(st.tuples(st.sampled_from(["host", "a", "A", "cookie"]), words), max_size=3),
    table=st.dictionaries(st.sampled_from(["host", "a"]), words, max_size=2), anything=optional(values),
    place=optional(st.builds(Place, city=words, zone=optional(numbers))), secret=words,
)  # fmt: skip
answers = st.builds(
    Answer, text=optional(words), number=optional(numbers), anything=optional(values)
)
tags = st.builds(
    Tag, text=optional(words), number=optional(numbers), secret=words,
    place=optional(st.builds(Place, city=words, zone=optional(numbers))),
)  # fmt: skip


@st.composite
def entries(draw: Any) -> Entry:
    protocol = draw(st.sampled_from(["http", "redis", "toy", "tcp"]))
    made = {
        "http": (st.sampled_from(HEADS), st.just(b"HTTP/1.1 503 Busy\r\nServer: x\r\n\r\n"), st.none(), st.none()),
        "redis": (st.sampled_from(COMMANDS), st.sampled_from(REPLIES), st.none(), st.none()),
        "toy": (st.just(b""), st.just(b""), asks, answers),
        "tcp": (st.just(b""), st.just(b""), st.none(), st.none()),
    }[protocol]  # fmt: skip
    halves = draw(st.sampled_from(["both", "both", "both", "request", "response"]))
    size, notes = st.sampled_from([0, 80, 1024, 5_000]), st.lists(words, max_size=2).map(tuple)
    req = res = None
    if halves != "response":
        req = request(
            verb=draw(words), target=draw(words), size=draw(size), notes=draw(notes),
            head=draw(made[0]), extra=draw(made[2]),
        )  # fmt: skip
    if halves != "request":
        res = response(
            status=draw(st.sampled_from([0, 200, 503])), ok=draw(st.booleans()), size=draw(size),
            target=draw(words), notes=draw(notes), head=draw(made[1]), extra=draw(made[3]),
        )  # fmt: skip
    ends = [
        Endpoint(draw(words), draw(st.sampled_from([80, 443])), draw(optional(words)),
                 draw(optional(st.just(7))), draw(optional(words)), draw(optional(words)))
        for _ in range(2)
    ]  # fmt: skip
    flow = Flow("f", draw(st.sampled_from(["tcp", "udp"])), ends[0], ends[1], "pcap")
    return entry(
        req, res, protocol, draw(st.sampled_from(Outcome)), flow, swapped=draw(st.booleans()),
        midstream=draw(st.booleans()), gap_bytes=draw(size),
        extra=draw(optional(tags.map(lambda tag: {"a-tag": tag}))),
    )  # fmt: skip


# ---------------------------------------------------------------- the laws


UNMEANT = (
    "names of headers are lower-case",
    "needs its unit",
    "is never",
    "is no address",
    "is no time",
)
"""What is an error here, and has an answer there."""


def refused(text: str) -> bool:
    """Whether the library refuses it, too: it infers types of dynamic operands as it likes."""
    try:
        compiled(re.sub(r"has_[\w.]+", "true", text))
    except RuntimeError:
        return True
    return False


def check(expression: Part, one: Entry) -> None:
    text = expression.written()
    try:
        filter_ = compile_filter(text, PROTOCOLS, adds=ADDS)
    except PluginError as error:
        if any(words in str(error) for words in UNMEANT) or refused(expression.whole()):
            return
        raise
    found = filter_.match(one)
    oracle = Oracle(one)
    assert found is oracle.yes(expression, ""), text
    if "has_" not in expression.whole():
        answer = oracle.ask(expression.whole())
        if answer is not None:
            assert found is (answer.plain_value() is True), text
    assert filter_.select([one]) == [one] * found
    if found and filter_.protocols is not None:
        assert one.protocol in filter_.protocols, text


toys = st.builds(
    lambda asked, answered: entry(request(extra=asked), response(extra=answered), "toy"),
    asks, answers,
)  # fmt: skip
common = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(common, max_examples=120)
@given(part("bool", 3), entries())
def test_compiled_filters_answer_as_the_library(expression: Part, one: Entry) -> None:
    check(expression, one)


@settings(common, max_examples=80)
@given(part("bool", 2), toys)
def test_on_details_of_every_type(expression: Part, one: Entry) -> None:
    check(expression, one)


@pytest.mark.slow
@settings(common, max_examples=2_000)
@given(part("bool", 4), entries() | toys)
def test_many(expression: Part, one: Entry) -> None:
    check(expression, one)


@settings(common, max_examples=50)
@given(asks)
def test_the_oracle_sees_what_the_filter_sees(asked: Ask) -> None:
    """Each fact that the oracle is given is one that has() finds, and no other."""
    one = entry(request(extra=asked), None, "toy")
    known = facts(one)
    for name in BY_TYPE["string"] + BY_TYPE["dyn"] + BY_TYPE["bool"]:
        if name.startswith(("toy", "src", "request", "response")):
            assert _has(name).match(one) is (name in known), name


@lru_cache(None)
def _has(name: str) -> Any:
    return compile_filter(f"has({name})", PROTOCOLS, adds=ADDS)
