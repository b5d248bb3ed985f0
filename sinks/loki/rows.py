"""What a row of Loki says of an entry: its line, and its structured metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from kshark.api import Context, Entry
from kshark.sinks._fields import Read
from kshark.sinks.loki.push import Pairs

Line = Literal["json", "text"]


class Rows:
    """`beside` are the facts that are sent as metadata, `limit` the bytes of a line."""

    def __init__(
        self, context: Context, line: Line, beside: Mapping[str, Read], limit: int, *, full: bool
    ) -> None:
        self._context = context
        self._text = line == "text"
        self._beside = tuple(beside.items())
        self._limit = limit
        self._full = full

    def of(self, batch: Sequence[Entry]) -> Iterator[tuple[Entry, bytes, Pairs]]:
        """Each entry that can be shown, with its line and metadata."""
        for entry, line in self._texts(batch) if self._text else self._objects(batch):
            yield entry, line, self._metadata(entry) if self._beside else ()

    def _texts(self, batch: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
        for entry in batch:
            yield entry, text(entry).encode("utf-8", "replace")[: self._limit]

    def _objects(self, batch: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
        lines = self._context.encode(batch, full=self._full).split(b"\n")[:-1]
        for entry, line in (
            zip(batch, lines, strict=True) if len(lines) == len(batch) else shown(batch, lines)
        ):
            yield entry, line if len(line) <= self._limit else self._short(entry)

    def _short(self, entry: Entry) -> bytes:
        """The row alone, whose texts are bounded; cut if even that is too long."""
        line = self._context.encode([entry]).rstrip(b"\n")
        return line[: self._limit].decode("utf-8", "ignore").encode()

    def _metadata(self, entry: Entry) -> Pairs:
        found = ((name, read(entry)) for name, read in self._beside)
        return [(name, value) for name, value in found if value]


def shown(batch: Sequence[Entry], lines: Sequence[bytes]) -> Iterator[tuple[Entry, bytes]]:
    """The entries that have a line, with it: those that could not be shown were left out, in order."""
    waiting = iter(lines)
    line = next(waiting, None)
    for entry in batch:
        if line is not None and line.startswith(b'{"id":"%b"' % entry.id.encode()):
            yield entry, line
            line = next(waiting, None)


def text(entry: Entry) -> str:
    """``GET /cart -> 200 ok 3.1 ms #f1-7``: the id makes it unlike others of the same moment, which Loki
    would take for the same row."""
    request, response = entry.request, entry.response
    asked = f"{request.verb} {request.target}".strip() if request else "?"
    status = f" {+response.status}" if response and response.status else ""
    latency = entry.latency_ns
    took = f" {latency / 1e6:.1f} ms" if latency is not None else ""
    return f"{asked} ->{status} {entry.outcome.value}{took} #{entry.id}"
