"""Which bytes each named field of a struct took, for ``kshark dissect --explain``.

While one message is parsed, every named field notes where the stream stood before and after it.
Fields of a substream (Prefixed, FixedSized ...) are placed by looking for its bytes; those of bits have the
range of the bytes around them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from typing import Any

from kshark.explain import Node, cut
from kshark.grammar.compiled import broken
from kshark.grammar.derive import plain


def explain(struct: Any, raw: bytes) -> list[Node]:
    """The tree of named fields of a message, as far as it can be parsed."""
    root = Node("", 0, len(raw))
    stream = BytesIO(raw)
    spy = _Spy(raw, stream, root)
    try:
        spy.attach(struct)
        with suppress(*broken()):
            struct.parse_stream(stream)
    finally:
        spy.detach()
    return root.inner


class _Spy:
    """Takes notes while a struct parses."""

    def __init__(self, raw: bytes, stream: BytesIO, root: Node) -> None:
        self.raw = raw
        self.stream = stream
        self.open = [root]
        self.watched: list[Any] = []

    def attach(self, construct: Any, seen: set[int] | None = None) -> None:
        """Watch each named part of a construct."""
        seen = set() if seen is None else seen
        if id(construct) in seen:
            return
        seen.add(id(construct))
        if type(construct).__name__ == "Renamed":
            self.watch(construct)
            while type(construct).__name__ == "Renamed":  # a doc line wraps a name once more
                construct = construct.subcon
        for part in _parts(construct):
            self.attach(part, seen)

    def detach(self) -> None:
        """Leave the struct as it was."""
        for named in self.watched:
            del named._parsereport

    def watch(self, named: Any) -> None:
        parse = named._parsereport

        def spy(stream: Any, context: Any, path: Any) -> Any:
            node = Node(str(named.name))
            outer = self.open[-1]
            outer.inner.append(node)
            self.open.append(node)
            start = stream.tell()
            try:
                value = parse(stream, context, path)
            finally:
                self.open.pop()
            base = self.base(stream)
            if base >= 0:
                node.start, node.end = base + start, base + stream.tell()
            if value is None and not node.inner:
                outer.inner.remove(node)  # of an If, and not there
            elif not node.inner:
                node.value = cut(str(plain(value)))
            return value

        named._parsereport = spy
        self.watched.append(named)

    def base(self, stream: Any) -> int:
        """Where in the message a stream begins, -1 if that cannot be told."""
        outermost = stream
        while hasattr(outermost, "parent_stream"):  # BytesIOWithOffsets tells places in its parent
            outermost = outermost.parent_stream
        if outermost is self.stream:
            return 0
        if not isinstance(stream, BytesIO):
            return -1
        held = stream.getvalue()
        found = self.raw.find(held)
        return found if held and self.raw.find(held, found + 1) < 0 else -1


def _parts(construct: Any) -> Iterable[Any]:
    """The constructs that one is made of."""
    for value in vars(construct).values():
        if hasattr(value, "_parsereport"):
            yield value
        elif isinstance(value, dict):
            yield from (item for item in value.values() if hasattr(item, "_parsereport"))
        elif isinstance(value, list | tuple):
            yield from (item for item in value if hasattr(item, "_parsereport"))
