"""A struct's parser: compiled by construct where it can, with the same verdicts as the plain one.

construct's compiled code reads what is there and does not look whether that was all it asked for (2.10.70,
`Bytes._emitparse`), and it makes a list of a negative count. So each of its reads and counts is checked here: the
calls are put in its source, as a tree, before it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from struct import error as StructError
from typing import Any, Final

from kshark.grammar.parts import fields

Parser = Callable[[bytes], tuple[Any, int]]
"""Bytes to what construct made of them, and how many of them it read."""
_LAMBDA: Final = "a function where an expression of `this` could be compiled"


def broken() -> tuple[type[Exception], ...]:
    """What parsing hostile bytes raises: construct's own, and what expressions over them do."""
    from construct import ConstructError

    return (ConstructError, ArithmeticError, LookupError, ValueError, EOFError, StructError)


def plain_parser(struct: Any) -> Parser:
    """The parser as construct interprets it, or that of anything else with ``parse(raw)``."""
    if not hasattr(struct, "parse_stream"):
        return lambda raw: (struct.parse(raw), len(raw))

    def parse(raw: bytes) -> tuple[Any, int]:
        stream = BytesIO(raw)
        return struct.parse_stream(stream), stream.tell()

    return parse


def compiled_parser(struct: Any) -> Parser:
    """The parser as construct compiles it; raises anything where it cannot."""
    compiled = struct.compile()
    tree = ast.fix_missing_locations(_Checks().visit(ast.parse(compiled.source)))
    scope: dict[str, Any] = {"read_whole": _read, "range_of": _range}
    exec(
        compile(tree, "<grammar>", "exec"), scope
    )  # construct's own source, of the author's struct
    for name in ("linkedinstances", "linkedparsers", "linkedbuilders"):
        scope[name] = getattr(compiled.module, name)
    return plain_parser(scope["compiled"])


class _Checks(ast.NodeTransformer):
    """``io.read(n)`` to ``read_whole(io, n)``, ``range(n)`` to ``range_of(n)``."""

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        called = node.func
        if len(node.args) != 1 or node.keywords:
            return node
        if isinstance(called, ast.Attribute) and called.attr == "read":
            if isinstance(called.value, ast.Name) and called.value.id == "io":
                name = ast.Name("read_whole", ast.Load())
                return ast.Call(name, [called.value, *node.args], [])
        elif isinstance(called, ast.Name) and called.id == "range":
            return ast.Call(ast.Name("range_of", ast.Load()), node.args, [])
        return node


def _read(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size) if size >= 0 else b""
    if len(data) != size:
        from construct import StreamError

        raise StreamError(f"could not read {size} bytes, {len(data)} are there")
    return data


def _range(count: int) -> range:
    if count < 0:
        from construct import RangeError

        raise RangeError(f"invalid count {count}")
    return range(count)


# ---------------------------------------------------------------- what is said


def told(error: Exception) -> str:
    """What went wrong in the plain parser, and at which field."""
    text = (str(error).strip().splitlines() or [""])[-1]
    path = str(getattr(error, "path", None) or "").removeprefix("(parsing)").split(" -> ")
    # a doc line is a name around the name, so that construct says it twice
    where = ".".join(a for a, b in pairwise(["", *filter(None, path), ""]) if a and a != b)
    return f"{type(error).__name__}{f' at {where}' if where else ''}: {text[:80]}"


def why_not(struct: Any, error: Exception) -> str:
    """Why a struct cannot be compiled: the innermost named field that cannot, and what it says."""
    where, found = _culprit(struct, "", 0)
    error = found or error
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError) or "<function" in text or "<lambda>" in text:
        text = _LAMBDA
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{where}: {said}" if where else said


def _culprit(struct: Any, path: str, depth: int) -> tuple[str, Exception | None]:
    """The innermost named part that does not compile by itself, and why."""
    for name, subs in fields([struct]).items():
        for sub in subs:
            error = _fails(sub)
            if error is not None:
                inner = _culprit(sub, f"{path}{name}.", depth + 1) if depth < 8 else ("", None)
                return inner if inner[1] is not None else (path + name, error)
    return "", None


def _fails(sub: Any) -> Exception | None:
    try:
        compiled_parser(sub)
    except Exception as error:  # construct compiles what it can, and raises anything else
        return error
    return None


def twins_differ(struct: Any, parser: Parser, raw: bytes) -> str:
    """ "" or how the two parsers of a struct disagree on these bytes."""
    one, other = (_verdict(parse, raw) for parse in (parser, plain_parser(struct)))
    return "" if one == other else f"compiled it is {one[:120]}, interpreted {other[:120]}"


def _verdict(parse: Parser, raw: bytes) -> str:
    from kshark.grammar.derive import plain

    try:
        value, end = parse(raw)
    except broken():
        return "refused"
    return f"{plain(value)!r} of {end} bytes"
