"""What the pages are made of: tables, types in words, docstrings as Markdown."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from kshark import plugins


def builtins() -> plugins.Registry:
    """The built-ins, without what else is installed here."""
    return plugins.load(options=plugins.PluginOptions(allow=["nobody"]))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table without the columns that are empty in every row."""
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    used = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    lines = [[columns[i] for i in used], ["---"] * len(used)]
    lines += [[row[i] for i in used] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def code(text: object) -> str:
    """As code, where there is something."""
    return f"`{text}`" if str(text) else ""


def prose(text: str | None) -> str:
    """A docstring as Markdown: single backticks, and its examples in blocks of their own."""
    paragraphs = inspect.cleandoc(text or "").replace("``", "`").split("\n\n")
    return "\n\n".join(map(example, paragraphs))


def example(paragraph: str) -> str:
    """A paragraph, or a block where it is a session of Python."""
    if not paragraph.lstrip().startswith(">>>"):
        return paragraph
    return f"```pycon\n{inspect.cleandoc(paragraph)}\n```"


def sentence(text: str) -> str:
    return text.rstrip(".") + "."


def metas(kind: Any) -> list[msgspec.Meta]:
    """The annotations of a type."""
    return [m for m in getattr(kind, "__metadata__", ()) if isinstance(m, msgspec.Meta)]


WORDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "any",
    types.NoneType: "null",
}


def spoken(kind: Any) -> str:
    """A type in words: ``list[str] | None`` is "list of string, or null"."""
    if kind in WORDS:
        return WORDS[kind]
    origin, inside = get_origin(kind), get_args(kind)
    if metas(kind):
        return spoken(inside[0])
    if origin in (Union, types.UnionType):
        known = [spoken(one) for one in inside if one not in (msgspec.UnsetType, types.NoneType)]
        ends = {types.NoneType: ", or null", msgspec.UnsetType: ", or left out"}
        return " or ".join(known) + "".join(end for one, end in ends.items() if one in inside)
    if origin is Literal:
        return ", ".join(code(one) for one in inside if one)
    if origin is tuple:
        return f"[{', '.join(spoken(one) for one in inside)}]"
    if origin is not None and issubclass(origin, Mapping):
        return "object"
    if origin is not None:
        return f"list of {spoken(inside[0])}"
    return link(kind.__name__)


def link(name: str) -> str:
    """A name of the entry's schema, as a link to its table."""
    shown = name.removesuffix("Json").lower()
    return f"[{shown}](#{shown})" if name.endswith("Json") else name


def schema_rows(schema: type[msgspec.Struct]) -> Iterable[list[str]]:
    """Name, type, meaning, OpenTelemetry name and redaction of every field."""
    hints = get_type_hints(schema, include_extras=True)
    for info in msgspec.structs.fields(schema):
        found = metas(hints[info.name])
        told = [m.description for m in reversed(found) if m.description]  # the outermost first
        text = f"{told[0]} ({told[1]})" if len(told) > 1 else "".join(told)
        extra = next((m.extra for m in found if m.extra), {})
        names = (code(extra.get("otel", "")), extra.get("redact", ""))
        yield [
            code(info.encode_name),
            spoken(hints[info.name]),
            text or first_line(info.type),
            *names,
        ]


def first_line(kind: Any) -> str:
    """What the type says of itself, for a field that says nothing."""
    inner = next((one for one in (kind, *get_args(kind)) if isinstance(one, type)), None)
    own = inner is not None and issubclass(inner, msgspec.Struct)
    return (inner.__doc__ or "").splitlines()[0].rstrip(".") if own and inner is not None else ""


SCHEMA = ("field", "type", "meaning", "OpenTelemetry", "redacted")


def constants(module: Any) -> Iterable[tuple[str, str, str]]:
    """(name, expression, doc) of documented constants, in order."""
    for node, after in pairwise(ast.parse(inspect.getsource(module)).body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(after, ast.Expr):
            continue
        assert isinstance(node.target, ast.Name)
        assert isinstance(after.value, ast.Constant)
        assert node.value is not None
        yield node.target.id, ast.unparse(node.value), " ".join(str(after.value.value).split())
