"""A checked tree to the source of a Python predicate.

Every yes/no expression is *total*: one that needs a fact that is not there, or that CEL calls an
error (no such key, no such element, division by zero, 64 bits exceeded), is false. Such an expression
is emitted as its `needs` (conditions) before its code, and where the code itself may raise, as a
function of its own with a guard. Being total and without side effects, the terms of ``&&`` and ``||``
may run in any order: those that need a protocol's details go last.

Nothing that the user wrote becomes source text: text goes into constants, numbers are written anew,
fields are code of ours (`kshark.filter.fields`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kshark.filter.checked import Call, Const, Items, Loop, Name, Node, Other, Select
from kshark.filter.fields import HALVES, Field
from kshark.filter.literals import HAS, Wrong

ROW, ROW_CALL, REGEX, DETAILS = range(4)
"""What a term costs: operators on facts of the row, a call, a regular expression, typed details."""
LOCALS: Final[Mapping[str, str]] = {
    "flow": "e.flow",
    "req": "e.request",
    "res": "e.response",
    "src": "e.flow.server if e.swapped else e.flow.client",
    "dst": "e.flow.client if e.swapped else e.flow.server",
}
ORDERS: Final = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
SUMS: Final = {"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%"}
LOGIC: Final = ("_&&_", "_||_", "!_")
_INDENT: Final = "    "


@dataclass(slots=True)
class Code:
    """A piece of Python: valid where all `needs` hold; `risky` if it may raise even then."""

    text: str
    needs: tuple[str, ...] = ()
    risky: bool = False
    cost: int = ROW

    @property
    def whole(self) -> str:
        """With its needs, as one operand."""
        return f"({' and '.join((*self.needs, self.text))})" if self.needs else self.text


Scope = Mapping[str, str]  # variables of loops, and their names in the code


@dataclass(slots=True)
class Emitter:
    """Emits one filter. `constants` and `functions` are what its code refers to."""

    fields: Mapping[str, Field]
    regex: Callable[[str, int], Any]
    constants: dict[str, Any] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # fields with details

    # ------------------------------------------------------------ yes or no

    def test(self, node: Node, scope: Scope) -> Code:
        """A total yes/no expression."""
        if isinstance(node, Const) and node.type == "bool":
            return Code(repr(node.value))
        if isinstance(node, Call) and node.function in LOGIC:
            return self.logic(node, scope)
        if isinstance(node, Call) and node.function == "_?_:_" and node.type == "bool":
            when, then, other = (self.test(arg, scope) for arg in node.args)
            cost = max(when.cost, then.cost, other.cost)
            return Code(f"({then.whole} if {when.whole} else {other.whole})", cost=cost)
        if isinstance(node, Name) and node.name.startswith(HAS):
            return self.has(node.name.removeprefix(HAS))
        code = self.loop(node, scope) if isinstance(node, Loop) else self.value(node, scope, True)
        if node.type == "dyn" or (code.risky and isinstance(node, Name)):
            code.text = f"({code.text} is True)"
        return self.guarded(code, scope)

    def logic(self, node: Call, scope: Scope) -> Code:
        if node.function == "!_":
            inner = self.test(node.args[0], scope)
            return Code(f"(not {inner.whole})", cost=inner.cost)
        terms = [self.test(term, scope) for term in flat(node, node.function)]
        terms.sort(key=lambda term: term.cost)
        cost = terms[-1].cost
        if node.function == "_||_":
            return Code(f"({' or '.join(term.whole for term in terms)})", cost=cost)
        pieces = [piece for term in terms for piece in (*term.needs, term.text)]
        return Code(f"({' and '.join(dict.fromkeys(pieces))})", cost=cost)

    def has(self, name: str) -> Code:
        """``has(field)``: whether there is such a fact."""
        if name in HALVES:
            return Code(f"({' and '.join(HALVES[name])})")
        one = self.read(name)
        if not one.risky:
            return Code(f"({' and '.join(one.needs) or 'True'})")
        return self.guarded(Code(f"({one.text} is not None)", one.needs, True, one.cost), {})

    def guarded(self, code: Code, scope: Scope) -> Code:
        """Code that cannot raise: where it may, as a function that then says no."""
        if not code.risky:
            return code
        name = f"t{len(self.functions)}"
        arguments = ", ".join(("e", *scope.values()))
        lines = [f"def {name}({arguments}):", *prelude(code.text), f"{_INDENT}try:"]
        lines += [f"{_INDENT * 2}return {code.text}", f"{_INDENT}except Exception:"]
        lines += [f"{_INDENT * 2}return False"]
        self.functions.append("\n".join(lines))
        return Code(f"{name}({arguments})", code.needs, cost=max(code.cost, ROW_CALL))

    # ------------------------------------------------------------ values

    def value(self, node: Node, scope: Scope, tested: bool = False) -> Code:
        """An expression; `tested`: it is yes/no, and `test` will make it total."""
        if node.type == "bool" and not tested:
            test = self.test(node, scope)
            return Code(test.whole, cost=test.cost)
        if isinstance(node, Const):
            return self.constant(node)
        if isinstance(node, Name):
            if node.name in scope:
                return Code(scope[node.name])
            return self.read(node.name)
        if isinstance(node, Select):
            return self.select(node, scope)
        if isinstance(node, Items):
            return joined("[{}]", [self.value(one, scope) for one in node.elements], ", ")
        if isinstance(node, Call):
            return self.call(node, scope)
        if isinstance(node, Loop):
            return self.loop(node, scope)
        what = node.what if isinstance(node, Other) else "this"
        raise Wrong(node.at, f"{what} is not possible in a filter")

    def read(self, name: str) -> Code:
        one = self.fields[name]
        if one.risky:
            self.used.add(name)
        return Code(one.code, one.needs, one.risky, DETAILS if one.risky else ROW)

    def constant(self, node: Const) -> Code:
        if node.type == "uint":
            raise Wrong(node.at, "unsigned numbers are not needed", f"write {node.value}")
        if node.type == "int" or node.value is None or isinstance(node.value, bool):
            return Code(
                f"({node.value!r})" if node.type == "int" and node.value < 0 else repr(node.value)
            )
        return Code(self.keep(node.value))

    def keep(self, value: Any) -> str:
        """The name of a constant."""
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def select(self, node: Select, scope: Scope) -> Code:
        held = self.value(node.operand, scope)
        key = Const("string", node.at, node.field)
        self.header_name(node.operand, key)
        name = self.keep(node.field)
        if node.operand.type.startswith("map("):
            shape = "({1} in {0})" if node.test else "{0}[{1}]"
            return filled(shape, [held, Code(name)], risky=not node.test)
        shape = "holds({0}, {1})" if node.test else "pick({0}, {1})"
        return filled(shape, [held, Code(name)], risky=True)

    def header_name(self, held: Node, key: Node) -> None:
        """A header that no map can have, since names are lower-case there."""
        if not isinstance(held, Name) or not isinstance(key, Const):
            return
        one = self.fields.get(held.name)
        if one and one.headers and isinstance(key.value, str) and key.value != key.value.lower():
            raise Wrong(
                key.at, "names of headers are lower-case here", f'write "{key.value.lower()}"'
            )

    # ------------------------------------------------------------ calls

    def call(self, node: Call, scope: Scope) -> Code:
        name, kinds = node.function, [arg.type for arg in node.args]
        if name == "_?_:_":
            return self.choice(node, scope)
        if name == "matches":
            return self.matches(node, scope)
        if name in ("@in", "_[_]"):
            self.header_name(
                node.args[-1 if name == "@in" else 0], node.args[0 if name == "@in" else 1]
            )
        if name == "@in":
            return self.within(node, scope)
        args = [self.value(arg, scope) for arg in node.args]
        if name in ("_==_", "_!=_"):
            return equality("==" if name == "_==_" else "!=", args, kinds)
        if name in ORDERS:
            if "dyn" in kinds:
                return filled(f"ordered({ORDERS[name]!r}, {{0}}, {{1}})", args, risky=True)
            self.simple(node, "bool", "int", "double", "string", "bytes")
            return filled(f"({{0}} {ORDERS[name]} {{1}})", args)
        if name in SUMS:
            return self.sum(node, SUMS[name], args)
        if name == "_[_]":
            return element(args, kinds)
        return self.function(node, args, kinds)

    def function(self, node: Call, args: list[Code], kinds: list[str]) -> Code:
        """What is called by a name."""
        name = node.function
        if name == "slow":
            latency = self.read("latency")
            return filled("({0} >= {1})", [latency, *args])
        if name == "size":
            if kinds[0] == "dyn":
                return filled("size({0})", args, risky=True)
            return filled("len({0})", args)
        if name == "-_":
            self.simple(node, "int", "double", "dyn")
            if kinds[0] == "double":
                return filled("(-{0})", args)
            return filled("negative({0})", args, risky=True)
        if name in TEXT_FUNCTIONS:
            texts = [
                filled("text({0})", [arg], risky=True) if kind == "dyn" else arg
                for arg, kind in zip(args, kinds, strict=True)
            ]
            return filled(TEXT_FUNCTIONS[name], texts)
        if name in CONVERSIONS:
            accepted, shape = CONVERSIONS[name]
            self.simple(node, *accepted)
            return filled(shape, args, risky=name != "dyn")
        raise Wrong(node.at, f"{name}() is not possible in a filter")

    def simple(self, node: Call, *accepted: str) -> None:
        """Refuse operands of other types."""
        for arg in node.args:
            if arg.type not in accepted:
                kind = arg.type.rpartition(".")[2].lower()
                raise Wrong(arg.at, f"a value of type {kind} is not possible here in a filter")

    def choice(self, node: Call, scope: Scope) -> Code:
        when = self.test(node.args[0], scope)
        ends = [self.value(arg, scope) for arg in node.args[1:]]
        texts = [
            f"({e.text} if {' and '.join(e.needs)} else absent())" if e.needs else e.text
            for e in ends
        ]
        return Code(
            f"({texts[0]} if {when.whole} else {texts[1]})",
            risky=any(e.risky or e.needs for e in ends),
            cost=max(when.cost, *(e.cost for e in ends)),
        )

    def matches(self, node: Call, scope: Scope) -> Code:
        held, pattern = node.args
        if not isinstance(pattern, Const) or not isinstance(pattern.value, str):
            raise Wrong(pattern.at, "matches() needs its expression in quotes")
        found = self.keep(self.regex(pattern.value, pattern.at))
        shape = "({1}(text({0})) is not None)" if held.type == "dyn" else "({1}({0}) is not None)"
        code = filled(shape, [self.value(held, scope), Code(found)], risky=True)
        code.cost = max(code.cost, REGEX)
        return code

    def within(self, node: Call, scope: Scope) -> Code:
        held, among = node.args
        if (
            isinstance(among, Items)
            and held.type in ("int", "string")
            and _constants(among, held.type)
        ):
            known = self.keep(
                frozenset(one.value for one in among.elements if isinstance(one, Const))
            )
            return filled("({0} in {1})", [self.value(held, scope), Code(known)])
        args = [self.value(arg, scope) for arg in node.args]
        plain = (f"list({held.type})", f"map({held.type},")
        if held.type in ("int", "string") and among.type.startswith(plain):
            return filled("({0} in {1})", args)
        return filled("inside({0}, {1})", args, risky=True)

    def sum(self, node: Call, sign: str, args: list[Code]) -> Code:
        kind = node.args[0].type if node.args[0].type == node.args[1].type else "dyn"
        if kind == "int":
            shapes = {"/": "divided({0}, {1})", "%": "modulo({0}, {1})"}
            return filled(shapes.get(sign, f"whole({{0}} {sign} {{1}})"), args, risky=True)
        if kind == "double":
            return filled("quotient({0}, {1})" if sign == "/" else f"({{0}} {sign} {{1}})", args)
        if kind.startswith(("string", "bytes", "list(")):
            return filled("({0} + {1})", args)
        if "dyn" not in (arg.type for arg in node.args) and kind == "dyn":
            self.simple(node, "dyn")
        self.simple(node, "dyn", "int", "double", "string", "bytes", "list(dyn)", "list(string)")
        return filled(f"reckoned({sign!r}, {{0}}, {{1}})", args, risky=True)

    # ------------------------------------------------------------ loops

    def loop(self, node: Loop, scope: Scope) -> Code:
        if scope:
            raise Wrong(
                node.over.at, "a macro within a macro: exists, all, filter, map do not nest"
            )
        over = self.value(node.over, scope)
        if node.over.type == "dyn":
            over = filled("walk({0})", [over], risky=True)
        elif over.cost == DETAILS:
            over = filled("bounded({0})", [over], risky=True)
        inner = {node.variable: "v"}
        shape, body = self.macro(node, inner)
        code = filled(shape, [over])
        code.cost = max(code.cost, body.cost)
        code.risky = code.risky or body.risky
        return code

    def macro(self, node: Loop, inner: Scope) -> tuple[str, Code]:
        """Which macro it was, as a shape for what it walks, and the code of its body."""
        step = node.step
        if not isinstance(step, Call):
            raise Wrong(node.at, "this loop is not possible in a filter")
        if step.function in ("_||_", "_&&_"):
            body = self.test(step.args[1], inner)
            word = "any" if step.function == "_||_" else "all"
            return f"{word}({brace(body.whole)} for v in {{0}})", body
        if step.function == "_?_:_":
            when, then = self.test(step.args[0], inner), step.args[1]
            assert isinstance(then, Call)
            if then.type == "int":
                return f"(sum({brace(when.whole)} for v in {{0}}) == 1)", when
            body = self.strict(then.args[1], inner)
            body.cost = max(body.cost, when.cost)
            return f"[{brace(body.text)} for v in {{0}} if {brace(when.whole)}]", body
        body = self.strict(step.args[1], inner)
        return f"[{brace(body.text)} for v in {{0}}]", body

    def strict(self, node: Node, scope: Scope) -> Code:
        """The element of a list that a macro makes: raises where it is not there."""
        assert isinstance(node, Items)
        code = self.value(node.elements[0], scope)
        if not code.needs:
            return code
        return Code(
            f"({code.text} if {' and '.join(code.needs)} else absent())", (), True, code.cost
        )


TEXT_FUNCTIONS: Final = {
    "contains": "({1} in {0})",
    "startsWith": "{0}.startswith({1})",
    "endsWith": "{0}.endswith({1})",
    "lowerAscii": "lower({0})",
    "upperAscii": "upper({0})",
}
CONVERSIONS: Final = {
    "int": (("int", "double", "string", "dyn"), "integer({0})"),
    "double": (("int", "double", "dyn"), "decimal({0})"),
    "string": (("int", "bool", "string", "dyn"), "string({0})"),
    "dyn": (("int", "double", "bool", "string", "bytes", "dyn", "null_type"), "{0}"),
}


def flat(node: Node, function: str) -> list[Node]:
    """The terms of a chain: the parser balances ``a && b && c && d``."""
    if isinstance(node, Call) and node.function == function:
        return [term for arg in node.args for term in flat(arg, function)]
    return [node]


def filled(shape: str, args: list[Code], *, risky: bool = False) -> Code:
    """A shape with its operands put in: their needs, risks and costs are its own."""
    needs = tuple(dict.fromkeys(need for arg in args for need in arg.needs))
    cost = max((arg.cost for arg in args), default=ROW)
    text = shape.format(*(arg.text for arg in args))
    return Code(text, needs, risky or any(arg.risky for arg in args), cost)


def joined(shape: str, args: list[Code], between: str) -> Code:
    """The same for any number of operands."""
    whole = filled("", args)
    whole.text = shape.format(between.join(arg.text for arg in args))
    return whole


def brace(text: str) -> str:
    """Code within a shape."""
    return text.replace("{", "{{").replace("}", "}}")


def equality(sign: str, args: list[Code], kinds: list[str]) -> Code:
    if all(kind in ("bool", "int", "double", "string", "bytes") for kind in kinds):
        return filled(f"({{0}} {sign} {{1}})", args)
    return filled(f"({'' if sign == '==' else 'not '}same({{0}}, {{1}}))", args)


def element(args: list[Code], kinds: list[str]) -> Code:
    if kinds[0].startswith("list(") and kinds[1] == "int":
        return filled("at({0}, {1})", args, risky=True)
    if kinds[0].startswith("map(string") and kinds[1] == "string":
        return filled("{0}[{1}]", args, risky=True)
    return filled("pick({0}, {1})", args, risky=True)


def _constants(items: Items, kind: str) -> bool:
    return all(isinstance(one, Const) and one.type == kind for one in items.elements)


def prelude(code: str, indent: str = _INDENT) -> list[str]:
    """The locals that a piece of code speaks of."""
    words = set(re.findall(r"(?<![.\w])[a-z]+\b", code))
    return [f"{indent}{name} = {made}" for name, made in LOCALS.items() if name in words]


def sources(code: str, forgets: bool) -> str:
    """The two functions of a filter: one for an entry, one for a batch."""
    match = ["def match(e):", *prelude(code), f"{_INDENT}return {code}"]
    select = ["def select(batch):", f"{_INDENT}found = []", f"{_INDENT}keep = found.append"]
    select += [f"{_INDENT}for e in batch:", *prelude(code, _INDENT * 2)]
    select += [f"{_INDENT * 2}if {code}:", f"{_INDENT * 3}keep(e)"]
    select += [f"{_INDENT}forget()"] if forgets else []
    return "\n".join([*match, *select, f"{_INDENT}return found", ""])
