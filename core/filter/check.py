"""A filter's text to its checked tree, by Google's CEL.

The library (``cel-expr-python``, about 50 MB, in the extra ``kshark[filter]``) is imported here and
nowhere else, when the first filter is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kshark import limits
from kshark.api import PluginError
from kshark.filter.checked import Const, Name, Node, tree
from kshark.filter.fields import HALVES, Field
from kshark.filter.literals import HAS, Wrong, lex
from kshark.filter.mistakes import explained, spoken
from kshark.filter.sense import sensible

MISSING: Final = "filters need the packages of an extra: pip install 'kshark[filter]'"
_PLACE: Final = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")
_NAMES: Final = re.compile(r"undeclared reference|expression of type '\w+' cannot be the operand")


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
        raise explained(problem, lexed.origin(at, len(text)), text, known) from error
    _move(found, lambda at: lexed.origin(at, len(text)))
    if found.type not in ("bool", "dyn"):
        raise Wrong(
            0, f"a filter must say yes or no, this is {spoken(found.type)}", _alone(found, known)
        )
    sensible(found, text, known, lexed.units)
    return found


def _alone(node: Node, known: Mapping[str, Field]) -> str:
    """What may have been meant by a filter that is a value."""
    if isinstance(node, Const) and isinstance(node.value, str):
        field = known.get(node.value)
        return (
            f"write {node.value}"
            if field and field.type == "bool"
            else 'as in request.target.contains("/cart")'
        )
    if isinstance(node, Name):
        more = {"int": " > 0", "string": ' == "..."', "list(string)": " != []"}.get(node.type, "")
        return f"as in {node.name}{more}" if more else f"has({node.name}) asks whether it is there"
    return ""


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


def _first(message: str, text: str) -> tuple[int, str]:
    """Offset and text of the first problem that the library reports, unknown names before their consequences."""
    found = [(int(m[1]), int(m[2]), m[3]) for m in _PLACE.finditer(message)]
    if not found:
        return 0, message.partition("\n")[0]
    line, column, problem = min(found, key=lambda one: (not _NAMES.match(one[2]), *one[:2]))
    lines = text.split("\n")
    before = sum(len(one) + 1 for one in lines[: max(line - 1, 0)])
    return before + max(column - 1, 0), problem.removesuffix(" [INVALID_ARGUMENT]")
