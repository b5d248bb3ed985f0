"""What each byte of a message is: the tree of ``kshark dissect --explain``.

Of a `Framed` dissector: which ``yield`` took which bytes. Of a grammar: the fields of its struct. Of any:
the typed details, with the place of each value that is found in the bytes just once.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from types import FrameType
from typing import Any

import msgspec

from kshark.api import Details, Framed, Inner, Message, Side, Step, Switch, Take
from kshark.talk import legible, printable, quote

SHOWN = 16 * 16
"""Bytes of a message in its hex dump."""
VALUE = 60
"""Characters of a value in the tree."""


@dataclass(slots=True)
class Node:
    """A part of a message; offsets are those in the message, -1 where the part has no place of its own."""

    name: str
    start: int = -1
    end: int = -1
    value: str = ""
    inner: list[Node] = field(default_factory=list)


class Trace:
    """Watches a `Framed` dissector: every piece that its generators were given, by side.

    `look` is shown what a generator is about to yield, and may raise; with `keep`, pieces are kept for the tree.
    """

    def __init__(
        self,
        framed: Framed,
        look: Callable[[object, Step | None, Any], None] = lambda *_: None,
        keep: bool = True,
    ) -> None:
        self.used = [0, 0]
        self.pieces: tuple[list[Node], list[Node]] = ([], [])  # of the message at work
        self._look = look
        self._keep = keep
        self._parse: Callable[[Side], Generator[Step, Any, None]] = framed.parse
        framed.parse = self.parse  # type: ignore[method-assign]

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        """The dissector's own generator, and notes of what it asks for."""
        inner = self._parse(side)
        try:
            want = next(inner)
        except StopIteration:
            return
        except TypeError:
            self._look(inner, None, self._parse)
            raise
        while True:
            self._look(inner, want, self._parse)
            label = "" if isinstance(want, (Message, Switch, Inner)) else _label(inner)
            try:
                got = yield want
            except EOFError as error:
                try:
                    want = inner.throw(error)
                except StopIteration:
                    return
                continue
            if self._keep and isinstance(want, Take | int | bytes):
                self._note(side, want, got, label)
            try:
                want = inner.send(got)
            except StopIteration:
                return

    def _note(self, side: Side, want: Step, got: bytes, label: str) -> None:
        size = want.size if isinstance(want, Take) else len(got)
        start = self.used[side]
        self.used[side] += size
        if size:
            self.pieces[side].append(Node(label, start, start + size, _bytes(got)))

    def take(self, side: Side, start: int, end: int) -> list[Node]:
        """The pieces of the message that has these bytes of a side; those before it are forgotten."""
        found = [n for n in self.pieces[side] if start <= n.start < end]
        self.pieces[side][:] = [n for n in self.pieces[side] if n.start >= end]
        for node in found:
            node.start, node.end = node.start - start, node.end - start
        return found


def _label(generator: Any) -> str:
    """``head = yield 5``: the line at which a generator waits."""
    while getattr(generator, "gi_yieldfrom", None) is not None and hasattr(
        generator.gi_yieldfrom, "gi_frame"
    ):
        generator = generator.gi_yieldfrom
    frame: FrameType | None = generator.gi_frame
    if frame is None or not frame.f_lineno:  # of a compiled one no line is known
        return ""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    code = line.partition("  #")[0].strip()
    return _assigned(code) or code


def _assigned(code: str) -> str:
    """``head`` for ``head: bytes = yield 5``."""
    try:
        node = ast.parse(code).body[0]
    except (SyntaxError, IndexError):
        return ""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return ast.unparse(target) if target is not None else ""


# ---------------------------------------------------------------- details


def located(details: Details, raw: bytes) -> list[Node]:
    """The fields of typed details, with the places of their values."""
    return list(_fields(msgspec.to_builtins(details), raw))


def _fields(values: Any, raw: bytes) -> Iterator[Node]:
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in pairs:
        if value is None:
            continue
        if isinstance(value, dict) or (isinstance(value, list) and _deep(value)):
            yield Node(str(name), inner=list(_fields(value, raw)))
        else:
            start, end = place(value, raw)
            yield Node(str(name), start, end, cut(str(value)))


def _deep(value: list[Any]) -> bool:
    return any(isinstance(item, dict | list) for item in value)


def place(value: object, raw: bytes) -> tuple[int, int]:
    """Where the text of a value stands in the bytes: once, or nowhere for sure."""
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        return -1, -1
    needle = str(value).encode("utf-8", "replace")
    start = raw.find(needle)
    if start < 0 or raw.find(needle, start + 1) >= 0:
        return -1, -1
    return start, start + len(needle)


# ---------------------------------------------------------------- secrets


class Mask:
    """Which bytes of a message are not shown, for they are a secret's."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.hidden = bytearray(len(raw))
        self.lost = False  # a secret is in here, and where is not known

    @property
    def shown(self) -> bytes:
        """The bytes, those that are hidden as ``*``."""
        return bytes(42 if h else b for b, h in zip(self.raw, self.hidden, strict=True))

    def cover(self, secret: str | bytes) -> None:
        """Hide a text, as it is in the bytes or as the hex digits of these."""
        needle = secret if isinstance(secret, bytes) else secret.encode("utf-8", "replace")
        if isinstance(secret, str) and needle not in self.raw:
            with suppress(ValueError):
                needle = bytes.fromhex(secret)
        at = self.raw.find(needle) if needle else -1
        self.lost |= bool(secret) and at < 0
        while at >= 0:
            self.range(at, at + len(needle))
            at = self.raw.find(needle, at + 1)

    def range(self, start: int, end: int) -> None:
        """Hide some of the bytes."""
        self.hidden[start:end] = b"\1" * len(self.hidden[start:end])

    def cover_changed(self, open_: Details, shown: Details, placed: Iterable[str] = ()) -> None:
        """Hide what redaction changed; `placed` are dotted names whose bytes are covered by their place."""
        placed = tuple(f"{name}." for name in placed)
        plain = [msgspec.to_builtins(details, builtin_types=(bytes,)) for details in (open_, shown)]
        for name, value in _changed(*plain):
            if isinstance(value, str | bytes):
                self.cover(value)
            elif not f"{name}.".startswith(placed):  # a number may be written in many ways
                self.lost = True

    def cover_nodes(self, nodes: list[Node], secret: Container[str], path: str = "") -> None:
        """Hide the fields whose dotted names are secret, with all that is in them."""
        for node in nodes:
            where = f"{path}{node.name}"
            if where in secret:
                node.value, node.inner = "REDACTED", []
                self.range(node.start, node.end)
                self.lost |= node.start < 0
            elif not node.inner and node.start >= 0 and any(self.hidden[node.start : node.end]):
                node.value = "REDACTED"
            self.cover_nodes(node.inner, secret, f"{where}.")

    def pieces(self, nodes: list[Node]) -> list[Node]:
        """The same, what is covered in them as ``*``."""
        for node in nodes:
            if self.lost or any(self.hidden[node.start : node.end]):
                node.value = "REDACTED" if self.lost else _bytes(self.shown[node.start : node.end])
        return nodes


def _changed(open_: Any, shown: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values that redaction changed or left out, by their dotted names."""
    if isinstance(open_, dict):
        others = shown if isinstance(shown, dict) else {}
        for key, value in open_.items():
            yield from _changed(value, others.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(open_, list | tuple):
        rest = shown if isinstance(shown, list | tuple) else ()
        for one, other in zip_longest(open_, rest):
            yield from _changed(one, other, name)
    elif open_ is not None and open_ != shown:
        yield name, open_


# ---------------------------------------------------------------- lines


def dump(raw: bytes, mask: Mask | None = None) -> Iterator[str]:
    """A hex dump of the beginning; what is covered is not shown."""
    hidden = mask.hidden if mask is not None else bytes(len(raw))
    if mask is not None and mask.lost:
        yield "(these bytes hold a secret whose place is not known: --no-redact shows them)"
        return
    for at in range(0, min(len(raw), SHOWN), 16):
        part, covered = raw[at : at + 16], hidden[at : at + 16]
        digits = " ".join("--" if c else f"{b:02x}" for b, c in zip(part, covered, strict=True))
        text = "".join("*" if c else t for t, c in zip(printable(part), covered, strict=True))
        yield f"{at:06x}  {digits:<47}  {text}"
    if len(raw) > SHOWN:
        yield f"        ... {len(raw) - SHOWN:,} more bytes"


def tree(nodes: list[Node], indent: str = "") -> Iterator[str]:
    """The nodes as lines: name, range, value."""
    width = max((len(node.name) for node in nodes), default=0)
    for node in nodes:
        where = f"{node.start}..{node.end}" if node.start >= 0 else ""
        yield f"{indent}{node.name:<{width}}  {where:<11} {node.value}".rstrip()
        yield from tree(node.inner, f"{indent}  ")


def _bytes(data: bytes) -> str:
    return cut(quote(data) if legible(data) else data[:VALUE].hex(" "))


def cut(text: str) -> str:
    """At most VALUE characters, none of them invisible."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= VALUE else f"{text[: VALUE - 1]}…"
