"""An entry as one line of text for people: columns, widths, colours, escaping.

What peers sent is hostile: control characters, bidirectional overrides, line separators and whatever
else is not printable appear as escapes. Widths count terminal cells (UAX 11), not characters.
"""

from __future__ import annotations

import time
import unicodedata
from typing import Final

from kshark.api import Endpoint, Entry, Message, Outcome

SECOND: Final = 1_000_000_000  # ns
WIDE: Final = 100
"""From so many columns on, times have milliseconds and protocols eight letters."""
NARROWEST: Final = 60
"""Below so many columns a line is cut as a whole."""
PLAIN_PEERS: Final = 36
"""Cells of source and destination where the width is not limited."""
PLAIN_ASKED: Final = 40
"""Cells of the request where the width is not limited; a longer one is whole, and shifts its line."""
CELLS_TO_CHARS: Final = 4
"""Characters looked at for a cell: combining marks take none, and must not make a line endless."""

ELLIPSIS: Final = "…"
_ANSI: Final = {
    Outcome.OK: "32",
    Outcome.ERROR: "31",
    Outcome.UNANSWERED: "33",
    Outcome.ORPHAN: "35",
    Outcome.CUT: "33",
}
_WORDS: Final = {
    Outcome.OK: "ok",
    Outcome.ERROR: "error",
    Outcome.UNANSWERED: "silent",
    Outcome.ORPHAN: "orphan",
    Outcome.CUT: "cut",
}
_STATUS, _LATENCY, _SIZE = 6, 7, 6


def visible(text: str) -> str:
    """The text with everything that is not printable escaped.

    >>> print(visible("a\\x1b[2Jb\\u202e"))
    a\\x1b[2Jb\\u202e
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cells(text: str) -> int:
    """Columns that a printable text takes on a terminal.

    >>> cells("abc"), cells("日本"), cells("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, room: int) -> str:
    """Escaped, cut to `room` cells with an ellipsis, and padded to them.

    >>> fit("/a/long/path", 8), fit("日本語", 4), fit("/", 3)
    ('/a/long…', '日… ', '/  ')
    """
    text = visible(text[: room * CELLS_TO_CHARS])
    length = cells(text)
    if length <= room:
        return text + " " * (room - length)
    return _cut(text, room - 1) if room > 0 else ""


def _cut(text: str, room: int) -> str:
    kept = used = 0
    for char in text:
        width = _cells_of(char)
        if used + width > room:
            break
        used += width
        kept += 1
    return text[:kept] + ELLIPSIS + " " * (room - used)


def pad(text: str, room: int) -> str:
    """Escaped and padded, never cut."""
    text = visible(text)
    return text + " " * (room - cells(text))


def span(ns: int | None) -> str:
    """A duration in at most seven characters.

    >>> [span(n) for n in (900, 1_234_567, 12_345_678_901, 7_200_000_000_000, None)]
    ['900ns', '1.23ms', '12.3s', '7200s', '']
    """
    if ns is None:
        return ""
    for unit, size in (("s", SECOND), ("ms", 1_000_000), ("us", 1_000)):
        if abs(ns) >= size:
            return _three(ns / size) + unit
    return f"{ns}ns"


def amount(size: int) -> str:
    """A number of bytes in at most six characters.

    >>> [amount(n) for n in (165, 1650, 52_428_800, 10**13)]
    ['165B', '1.61K', '50.0M', '9.09T']
    """
    value = float(size)
    for unit in ("B", "K", "M", "G", "T"):
        if abs(value) < 1000:
            break
        if unit != "T":
            value /= 1024
    return f"{size}B" if unit == "B" else _three(value) + unit


def _three(value: float) -> str:
    """Three digits of a number."""
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def question(request: Message) -> str:
    """Verb and target; either may be empty."""
    return " ".join(filter(None, (request.verb, request.target)))


def asked(entry: Entry) -> str:
    """What was asked, and the text of the error that came back."""
    request, response = entry.request, entry.response
    text = "(request not seen)" if request is None else question(request)
    if response is None or response.ok or not response.target:
        return text
    return f"{text}  {response.target}"


def _status(entry: Entry) -> str:
    half = entry.response or entry.request
    shown = half is not None and half.status and entry.outcome not in _UNFINISHED
    return str(half.status) if shown and half is not None else _WORDS[entry.outcome]


_UNFINISHED = (Outcome.UNANSWERED, Outcome.CUT)


def _size(entry: Entry) -> str:
    """Bytes of the answer, else of the question; "~" where the capture lost some."""
    half: Message | None = entry.response or entry.request
    text = amount(half.size if half is not None else 0)
    return f"~{text}" if entry.gap_bytes else text


def _label(end: Endpoint) -> str:
    if end.name or end.dns:
        return end.name or end.dns or ""
    if end.comm:
        return f"{end.comm}[{end.pid}]" if end.pid is not None else end.comm
    return end.ip


def _destination(end: Endpoint) -> str:
    label = _label(end)
    return f"[{label}]:{end.port}" if ":" in label and label == end.ip else f"{label}:{end.port}"


class Palette:
    """Colours, or none."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def paint(self, text: str, code: str) -> str:
        """The text in an SGR colour."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text


class Layout:
    """Lines for a width in columns; 0 = not limited."""

    def __init__(self, palette: Palette, width: int = 0) -> None:
        self._palette = palette
        self.width = width
        self._second = -1
        self._clock = ""

    def header(self) -> str:
        """The names of the columns."""
        names = ["TIME", "PROTO", "SOURCE -> DESTINATION", "REQUEST"]
        right = f"{'STATUS':<{_STATUS}} {'LATENCY':>{_LATENCY}} {'SIZE':>{_SIZE}}"
        widths = self._widths()
        left = (fit(name, room) for name, room in zip(names, widths, strict=True))
        return self._palette.paint(self._crop(" ".join([*left, right])), "1")

    def line(self, entry: Entry) -> str:
        """One entry."""
        clock, protocol, peers, room = self._widths()
        fill = fit if self.width else pad
        right = f" {span(entry.latency_ns):>{_LATENCY}} {_size(entry):>{_SIZE}}"
        middle = f" {fit(entry.protocol, protocol)} {self._peers(entry, peers)} "
        middle += fill(asked(entry), room) + " "
        when = fit(self._time(entry.time_ns, clock), clock)
        status = f"{_status(entry):<{_STATUS}}"
        if 0 < self.width < NARROWEST:
            return self._crop(when + middle + status + right)
        paint = self._palette.paint
        return paint(when, "2") + middle + paint(status, _ANSI[entry.outcome]) + right

    def note(self, text: str) -> str:
        """A line of our own."""
        return self._palette.paint(self._crop(text), "2")

    def _widths(self) -> tuple[int, int, int, int]:
        """Cells of time, protocol, peers, request."""
        if not self.width:
            return 12, 8, PLAIN_PEERS, PLAIN_ASKED
        wide = self.width >= WIDE
        clock, protocol = (12, 8) if wide else (8, 5)
        rest = max(self.width, NARROWEST) - clock - protocol - _STATUS - _LATENCY - _SIZE - 6
        peers = min(48, rest // 2) if wide else rest * 4 // 7
        return clock, protocol, peers, rest - peers

    def _crop(self, text: str) -> str:
        return fit(text, self.width).rstrip() if self.width and cells(text) > self.width else text

    def _peers(self, entry: Entry, room: int) -> str:
        """Source and destination; where they do not fit, the source is cut first."""
        source, destination = visible(_label(entry.src)), visible(_destination(entry.dst))
        if not self.width:
            return pad(f"{source} -> {destination}", room)
        left = max(room - 4 - cells(destination), 6)
        if cells(source) > left:
            source = fit(source, left)
        return fit(f"{source} -> {destination}", room)

    def _time(self, ns: int, room: int) -> str:
        """Local time of day: of packets, so a replay shows the same."""
        second, rest = divmod(ns, SECOND)
        if second != self._second:
            self._second = second
            self._clock = time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._clock}.{rest // 1_000_000:03d}" if room > 8 else self._clock
