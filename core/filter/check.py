"""A filter's text to its checked tree, by Google's CEL; what is wrong with it in a user's words.

The library (``cel-expr-python``, about 50 MB, in the extra ``kshark[filter]``) is imported here and
nowhere else, when the first filter is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from kshark import limits
from kshark.api import PluginError
from kshark.filter.checked import Node, tree
from kshark.filter.fields import HALVES, Field
from kshark.filter.literals import HAS, Wrong, lex

MISSING: Final = "filters need the packages of an extra: pip install 'kshark[filter]'"
FUNCTIONS: Final = (
    "slow", "has", "size", "contains", "startsWith", "endsWith", "matches", "lowerAscii",
    "upperAscii", "exists", "exists_one", "all", "filter", "map", "int", "double", "string", "dyn",
)  # fmt: skip
"""What may be called; ``kshark.filter.emit`` says how each is compiled."""

WORDS: Final[Mapping[str, str]] = {
    "bool": "yes/no",
    "int": "a number",
    "uint": "an unsigned number",
    "double": "a decimal number",
    "string": "text",
    "bytes": "bytes",
    "null_type": "null",
    "dyn": "any value",
}
OPERATORS: Final[Mapping[str, str]] = {
    "and": "and is written &&", "or": "or is written ||", "not": "not is written !",
    "&": "and is written &&", "|": "or is written ||", "=": "equality is written ==",
    "=~": 'a regular expression is written field.matches("...")', "~": "not equal is written !=",
    "<>": "not equal is written !=", "like": 'field.contains("...")', "is": "equality is written ==",
}  # fmt: skip

_PLACE: Final = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")


def check(text: str, known: Mapping[str, Field]) -> Node:
    """The checked tree of `text`, offsets in it being those of `text`; raises `Wrong`."""
    if len(text) > limits.FILTER_TEXT:
        raise Wrong(limits.FILTER_TEXT, f"a filter over {limits.FILTER_TEXT:,} characters")
    if not text.strip():
        raise Wrong(0, "an empty filter")
    lexed = lex(text, lambda name: name in known or name in HALVES)
    cel = library()
    try:
        found = tree(_environment(cel, known, lexed.asked).compile(lexed.text).serialize())
    except RuntimeError as error:
        at, problem = _first(str(error), lexed.text)
        raise _explained(problem, lexed.origin(at, len(text)), text, known) from error
    _move(found, lambda at: lexed.origin(at, len(text)))
    if found.type not in ("bool", "dyn"):
        raise Wrong(0, f"a filter must say yes or no, this is {spoken(found.type)}")
    return found


def library() -> Any:
    """Google's CEL."""
    try:
        from cel_expr_python import cel
    except ImportError as error:
        raise PluginError(MISSING) from error
    return cel


def _environment(cel: Any, known: Mapping[str, Field], asked: Iterable[str]) -> Any:
    variables = {field.name: _type(cel, field.type) for field in known.values()}
    variables |= {f"{HAS}{name}": cel.Type.BOOL for name in asked}
    return cel.NewEnv(variables=variables, functions=own_functions(cel))


def own_functions(cel: Any) -> list[Any]:
    """The functions that CEL does not have."""
    kinds = cel.Type
    slow = cel.Overload("slow_ns", kinds.BOOL, [kinds.INT])
    cases = [
        cel.FunctionDecl(name, [cel.Overload(name, kinds.STRING, [kinds.STRING], is_member=True)])
        for name in ("lowerAscii", "upperAscii")
    ]
    return [cel.FunctionDecl("slow", [slow]), *cases]


def _type(cel: Any, kind: str) -> Any:
    if kind.startswith("list("):
        return cel.Type.List(_type(cel, kind[5:-1]))
    if kind.startswith("map("):
        return cel.Type.Map(cel.Type.STRING, _type(cel, kind[len("map(string, ") : -1]))
    return getattr(cel.Type, kind.upper())


def _move(node: Any, origin: Any) -> None:
    """Offsets of a whole tree, from those of the parser's text to those of the user's."""
    if isinstance(node, Node):
        node.at = origin(node.at)
        for name in node.__dataclass_fields__:
            _move(getattr(node, name), origin)
    elif isinstance(node, list):
        for one in node:
            _move(one, origin)


# ---------------------------------------------------------------- what is wrong, in words


def spoken(kind: str) -> str:
    """A type in words.

    >>> spoken("int"), spoken("list(string)"), spoken("map(string, string)")
    ('a number', 'a list', 'a map')
    """
    return WORDS.get(kind) or f"a {kind.partition('(')[0].rpartition('.')[2].lower()}"


def _first(message: str, text: str) -> tuple[int, str]:
    """Offset and text of the first problem that the library reports."""
    found = [(int(m[1]), int(m[2]), m[3]) for m in _PLACE.finditer(message)]
    if not found:
        return 0, message.partition("\n")[0]
    line, column, problem = min(found, key=lambda one: one[:2])
    lines = text.split("\n")
    before = sum(len(one) + 1 for one in lines[: max(line - 1, 0)])
    return before + max(column - 1, 0), problem.removesuffix(" [INVALID_ARGUMENT]")


def _explained(problem: str, at: int, text: str, known: Mapping[str, Field]) -> Wrong:
    """The library's message as ours."""
    if "recursion" in problem:
        return Wrong(0, f"nested deeper than {limits.FILTER_DEPTH} levels")
    if problem.startswith("undeclared reference") or "operand of a select" in problem:
        return _unknown(at, text, known, problem)
    if match := re.match(r"found no matching overload for '(.+)' applied to '\((.*)\)'", problem):
        return _mismatch(at, match[1], _arguments(match[2]))
    if match := re.match(r"expression of type '(.+?)' cannot be the range", problem):
        return Wrong(at, f"{spoken(match[1])} has no elements", "lists and maps have")
    if problem.startswith("Syntax error"):
        return _syntax(at, text, problem)
    if re.match("invalid .* literal", problem):
        return Wrong(at, "this number is too large")
    if "has() argument" in problem:
        return Wrong(at, "has() takes a field", "as in has(src.name)")
    return Wrong(at, problem)


def _unknown(at: int, text: str, known: Mapping[str, Field], problem: str) -> Wrong:
    """A name that is no field, or a call of what is no function."""
    places = list(_DOTTED.finditer(text))
    around = next((m for m in places if m.start() <= at <= m.end()), None)
    if around is not None and around[0] == "has":  # reported at the macro, not at its argument
        around = next((m for m in places if m.start() > at), None)
    if around is None:
        return Wrong(at, problem)
    name = re.sub(r"\s", "", around[0])
    if text[around.end() :].lstrip().startswith("("):
        called = name.rpartition(".")[2]
        return Wrong(around.end() - len(called), f"no function {called}", near(called, FUNCTIONS))
    return Wrong(around.start(), f"no field {name}", near(name, known))


def near(name: str, known: Iterable[str]) -> str:
    """``did you mean ...?``, or where the names are listed."""
    lower = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    if not close:  # the last part alone: status, method
        last = name.lower().rpartition(".")[2]
        close = [one for one in lower if one.rpartition(".")[2] == last][:3]
    if close:
        return f"did you mean {', '.join(lower[one] for one in close)}?"
    return (
        "`kshark fields` lists them"
        if len(lower) > len(FUNCTIONS)
        else "there is " + ", ".join(known)
    )


def _arguments(text: str) -> list[str]:
    """``map(string, string), int`` as its two types."""
    return [m[0].strip() for m in re.finditer(r"[^,(]+(?:\([^)]*\)+)?", text) if m[0].strip()]


def _mismatch(at: int, function: str, kinds: list[str]) -> Wrong:
    """An operator or function whose operands do not fit."""
    sides = [spoken(kind) for kind in kinds]
    operator = function.strip("_@")
    if function in ("_&&_", "_||_", "!_", "_?_:_"):
        wrong = next((s for s, k in zip(sides, kinds, strict=True) if k != "bool"), sides[-1])
        if function == "_?_:_":
            return Wrong(at, f"a ? b : c takes yes/no and two of one type, not {', '.join(sides)}")
        return Wrong(at, f"{operator} takes yes/no, this is {wrong}", _compare(kinds))
    if function == "@in":
        return Wrong(at, f"{sides[0]} in {sides[-1]}", 'as in x in ["a", "b"]')
    if function == "_[_]":
        return Wrong(at, f"{sides[0]} has no element by {sides[-1]}")
    if function.startswith("_"):
        hint = "an absent field: !has(field)" if "null_type" in kinds else _quotes(kinds)
        return Wrong(at, f"{operator} between {' and '.join(sides)}", hint)
    if function == "-_":
        return Wrong(at, f"- takes a number, this is {sides[-1]}")
    return Wrong(at, f"{function}() does not take {', '.join(sides)}")


def _compare(kinds: list[str]) -> str:
    kind = next((k for k in kinds if k != "bool"), "")
    examples = {"string": 'as in field == "text"', "int": "as in field > 0"}
    return examples.get(kind, "")


def _quotes(kinds: list[str]) -> str:
    """The usual reasons why two sides differ."""
    pair = set(kinds)
    if pair == {"int", "string"}:
        return "text stands in quotes, numbers do not"
    if pair == {"int", "double"}:
        return "convert one side: double(...) or int(...)"
    if "bool" in pair and len(pair) == 2:
        return "a yes/no field stands alone: x or !x"
    return ""


def _syntax(at: int, text: str, problem: str) -> Wrong:
    """A syntax error by what stands there."""
    rest = text[at:].lstrip()
    before = re.search(r"([A-Za-z]+|[^\sA-Za-z0-9\"')\]]+)\s*$", text[:at])
    words = re.match(r"[A-Za-z]+|[^\w\s\"'(]+", rest)
    hints = [OPERATORS.get(m[0].strip(), "") for m in (words, before) if m]
    hint = next((one for one in hints if one), "")
    if "token recognition error" in problem and rest[:1] in ("'", '"'):
        escape = re.match(r"(\"|')(?:\\[^\W_]|[^\\\n])*?\1", rest)
        return Wrong(at, "a wrong \\ in this text" if escape else "this quote is not closed")
    if match := re.search(r"missing '(.)' at", problem):
        return Wrong(at, f"{match[1]} is missing", hint)
    if "<EOF>'" in problem and not rest:
        return Wrong(at, "it ends where more is expected", hint)
    piece = re.match(r"\w+|\S", rest)
    return Wrong(at, f"{piece[0] if piece else 'this'} is not expected here", hint)
