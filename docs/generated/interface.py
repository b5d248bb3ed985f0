"""What authors of plugins call: the api, grammars, and the contributed packages to read."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from generated.markdown import code, constants, prose, table
from kshark import api, grammar, hookspecs
from kshark.grammar import frames
from kshark.grammar import rules as grammar_rules


def api_page() -> Iterable[str]:
    """The public names with their docstrings."""
    yield "# Plugin API\n"
    yield f"{prose(api.__doc__)}\n"
    yield "## Hooks\n"
    yield from table(("hook", "what it gives"), ([code(h), t] for h, t in hooks()))
    source = inspect.getsource(api)
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        yield f"## {node.name}\n"
        yield f"{prose(ast.get_docstring(node))}\n"
        yield from ("```python", without_docstring(node, source), "```\n")


def hooks() -> Iterable[tuple[str, str]]:
    """Every hook as it is declared, with its first line."""
    for node in ast.parse(inspect.getsource(hookspecs)).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("register_"):
            returns = ast.unparse(node.returns) if node.returns else "None"
            text = (ast.get_docstring(node) or "").splitlines()[0]
            yield f"{node.name}({ast.unparse(node.args)}) -> {returns}", prose(text)


def without_docstring(node: ast.ClassDef | ast.FunctionDef, source: str) -> str:
    """A class, or the head of a function, without the docstring that is shown above it."""
    first = node.body[0]
    lines = source.splitlines()
    start = node.lineno - 1
    if isinstance(node, ast.FunctionDef):
        return "\n".join(lines[start : first.lineno - 1])
    documented = isinstance(first, ast.Expr) and ast.get_docstring(node) is not None
    assert first.end_lineno is not None
    assert node.end_lineno is not None
    body = (
        lines[first.end_lineno : node.end_lineno]
        if documented
        else lines[start + 1 : node.end_lineno]
    )
    while body and not body[0].strip():
        body = body[1:]
    end = next(
        (
            i
            for i in range(node.end_lineno, len(lines))
            if lines[i] and not lines[i].startswith("    #")
        ),
        0,
    )
    trailing = [line for line in lines[node.end_lineno : end] if line.startswith("    #")]
    gap = [""] if trailing else []
    return "\n".join([lines[start], *(body or ["    ..."]), *gap, *trailing])


GRAMMAR_RULES = """\
`(m, side)` is a function of the parsed message and the `kshark.api.Side` that sent it, `(m)` one of the parsed message
alone, "a field" its dotted name (`"body.topic"`). A name need not be there in every message: a rule then gives nothing.
All of it is checked when the grammar is made: what does not fit is a `PluginError` that says what was probably meant.
"""
OWN_METHODS = (
    "dissector",
    "parse",
    "message",
    "details",
    "build",
    "messages",
    "spec",
    "probe",
    "resync",
    "compiled",
)


def grammar_page() -> Iterable[str]:
    """`Grammar`, its rules, what a framer is, and all framers."""
    yield "# Grammar\n"
    yield "How to write one is told in [Grammars](../grammars.md).\n"
    parameters = inspect.signature(grammar.Grammar).parameters
    assert set(grammar_rules.RULES) < set(parameters), "a rule is not an argument"
    yield from signature_of(grammar.Grammar)
    yield f"{prose(grammar.Grammar.__doc__)}\n"
    yield "## Rules\n"
    yield from table(
        ("rule", "may be", "without it", "what a row shows"),
        ([code(n), *told] for n, told in grammar_rules.RULES.items()),
    )
    yield GRAMMAR_RULES
    yield "## Methods\n"
    for name in OWN_METHODS:
        yield from method(grammar.Grammar, name)
    yield "## Framers\n"
    for name in grammar.__all__:
        kind = getattr(grammar, name)
        if isinstance(kind, type) and kind not in (grammar.Grammar, grammar.Frame):
            yield f"### {name}\n"
            yield from signature_of(kind)
            yield f"{prose(kind.__doc__)}\n"
    yield "### Frame\n"
    yield f"{prose(grammar.Frame.__doc__)}\n"
    for name in ("take", "size", "seal"):
        yield from method(grammar.Frame, name)
    yield "## Limits\n"
    yield from table(
        ("name", "value", "meaning"),
        ([code(n), f"{getattr(frames, n):,}", prose(text)] for n, _, text in constants(frames)),
    )


def signature_of(kind: type) -> Iterable[str]:
    """How a class is called, an argument a line."""
    yield "```python"
    yield f"{kind.__name__}("
    found = list(inspect.signature(kind).parameters.values())
    for before, one in pairwise([None, *found]):
        assert one is not None
        if one.kind is one.KEYWORD_ONLY and (before is None or before.kind is not one.kind):
            yield "    *,"
        default = "" if one.default is one.empty else f" = {default_of(one.default)}"
        yield f"    {one.name}: {one.annotation}{default},"
    yield from (")", "```\n")


def default_of(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 9_999:
        return f"{value:_}"
    return repr(value).replace("'", '"')


def method(kind: type, name: str) -> Iterable[str]:
    """A method as it is declared, with its docstring."""
    for node in ast.walk(ast.parse(inspect.getsource(kind))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            arguments = ast.unparse(node.args).removeprefix("self, /, ").removeprefix("self, ")
            called = "" if node.decorator_list else f"({'' if arguments == 'self' else arguments})"
            yield f"**`{name}{called}{returns}`**\n"
            yield f"{prose(ast.get_docstring(node))}\n"


def contributed_page() -> Iterable[str]:
    """The modules of the contributed packages, to read."""
    yield "# Contributed plugins\n"
    yield "Each is a package of its own in `plugins_contrib` of kshark's sources, written from these pages alone."
    yield "A grammar (mqtt), a `Framed` dissector (memcached), an adapter (scapy), an enricher (genai).\n"
    folder = Path(__file__).parents[2] / "plugins_contrib"
    for package in sorted(folder.glob("kshark-*")):
        [module] = package.glob("kshark_*.py")
        yield f"## {package.name}\n"
        yield from ("```python", module.read_text(encoding="utf-8").rstrip(), "```\n")
