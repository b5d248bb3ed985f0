"""`compile_filter`: text in, predicate out.

    text -> lexed (100ms, has) -> Google's CEL (parse, check) -> tree -> Python source -> code

A `Filter` is for one thread: it keeps the details of the entry at hand.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kshark import limits
from kshark.api import Details, Entry, PluginError, ProtocolSpec
from kshark.entry_json import notes_of, time_text
from kshark.filter import functions
from kshark.filter.check import MISSING, check
from kshark.filter.emit import Emitter, sources
from kshark.filter.fields import known_fields
from kshark.filter.literals import Wrong
from kshark.filter.narrow import narrow
from kshark.render import Renderer

_NAME: Final = re.compile(r"[\w.]*\Z")
SHOWN: Final = 100
"""Characters of a long line that an error shows around its caret."""
NAMES: Final = (
    "need", "absent", "bounded", "plain", "headers", "whole", "divided", "modulo", "quotient",
    "integer", "decimal", "string", "same", "ordered", "reckoned", "negative", "text", "size", "at",
    "pick", "inside", "walk", "holds", "lower", "upper",
)  # fmt: skip
"""The functions of `kshark.filter.functions` that compiled filters call."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter. Neither `match` nor `select` ever raises."""

    text: str
    match: Callable[[Entry], bool]
    select: Callable[[Sequence[Entry]], list[Entry]]  # the same for a batch, quicker
    protocols: frozenset[str] | None  # entries of others cannot match; None = any may
    needs_details: bool
    renderer: Renderer  # that reads the details


def compile_filter(
    text: str,
    protocols: Mapping[str, ProtocolSpec],
    *,
    adds: Mapping[str, type[Details]] | None = None,
    redact: bool = True,
    origin: str = "filter",
) -> Filter:
    """Compile a filter for entries of these protocols; `redact`: their details as sinks see them.

    `adds`: the objects that enrichers add to entries, by name (`kshark.plugins.Registry.adds`).
    `PluginError` says what is wrong, with the place in the text below it; it begins with `origin`.
    """
    known = known_fields(protocols, adds)
    emitter = Emitter(known, _regex)
    try:
        tree = check(text, known)
        code = emitter.test(tree, {}).whole
    except Wrong as wrong:
        raise PluginError(f"{origin}: {pointed(text, wrong)}") from wrong
    renderer = Renderer(protocols, redact)
    parts = functions.Parts(renderer.details, renderer.shown)
    names: dict[str, Any] = {name: getattr(functions, name) for name in NAMES}
    names |= {name: getattr(parts, name) for name in ("asked", "answered", "added", "forget")}
    names |= {"time_text": time_text, "notes_of": notes_of, **emitter.constants}
    source = "\n".join([*emitter.functions, sources(code, bool(emitter.used))])
    exec(compile(source, "<filter>", "exec"), names)  # source of ours: see kshark.filter.emit
    return Filter(
        text, names["match"], names["select"], narrow(tree, known), bool(emitter.used), renderer
    )


def _regex(pattern: str, at: int) -> Callable[[str], Any]:
    """The search function of a regular expression. RE2: no input makes it slow, as CEL has it."""
    re2 = _re2()
    options = re2.Options()
    options.log_errors = False
    options.max_mem = limits.FILTER_REGEX
    options.never_capture = True
    try:
        search = re2.compile(pattern.encode(), options).search  # of bytes: half the time
    except re2.error as error:
        why = error.args[0] if error.args else ""
        why = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise Wrong(at, f"not a regular expression of RE2: {why}") from error
    return lambda value: search(value.encode())


def _re2() -> Any:
    try:
        import re2
    except ImportError as error:
        raise PluginError(MISSING) from error
    return re2


def pointed(text: str, wrong: Wrong) -> str:
    """What is wrong, the line of it, and a caret below the place."""
    at = wrong.at
    if text[at : at + 1] == ".":  # where the parser sees a name of several parts
        at -= len(_NAME.search(text[:at])[0])  # type: ignore[index]
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)].rstrip()
    column = min(at - start, len(line))
    first = max(0, column - SHOWN // 2) if len(line) > SHOWN else 0
    shown = line[first : first + SHOWN]
    pad = "".join(_blank(c) for c in line[first:column])
    problem = f"{wrong.text}; {wrong.hint}" if wrong.hint else wrong.text
    return f"{problem}\n  {_visible(shown)}\n  {pad}^"


def _blank(character: str) -> str:
    """As much blank space as a character takes on a terminal."""
    if unicodedata.combining(character):
        return ""
    return "  " if unicodedata.east_asian_width(character) in "WF" else " "


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
