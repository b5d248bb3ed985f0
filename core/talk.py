"""Conversations as text that people write: the input of ``kshark dissect``, and the cases of plugins.

    # a comment
    > "PING\\r\\n"            the client sends this
    < 2b 50 4f 4e 47        the server sends these bytes, in hex digits
      0d 0a                 ... and these with them: a line that begins with a blank goes on
    > lost 100              100 bytes of the client that the capture lost
    = PING -> PONG [ok]     the entry that must come of it, as `kshark.testing.rows` shows it

A line without an arrow is a piece of the side that spoke last (at first: the client).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from kshark.api import Side

Piece = tuple[Side, bytes | int]

ARROWS: Final = {">": Side.CLIENT, "<": Side.SERVER}
SIGNS: Final = {side: sign for sign, side in ARROWS.items()}
WIDTH: Final = 16
"""Bytes of a line of hex digits."""
_PLAIN: Final = bytes([9, 10, 13, *range(32, 127)])
_LOST: Final = re.compile(r"lost\s+(\d{1,12})\Z")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SEPARATORS: Final = re.compile(r"0x|[\s:,]")


@dataclass(slots=True)
class Script:
    """What a text says: the pieces in order, and the entries that it expects."""

    pieces: list[Piece] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)


def parse(text: str, side: Side = Side.CLIENT) -> Script:
    """Read a conversation; `ValueError` names the line that is wrong."""
    script = Script()
    open_piece = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith("="):
            script.rows.append(line[1:].strip())
            continue
        goes_on = raw[:1].isspace() and open_piece
        if line[:1] in ARROWS:
            side, line, goes_on = ARROWS[line[0]], line[1:].strip(), False
        try:
            piece = _piece(line)
        except ValueError:
            raise ValueError(f"line {number} is not hex digits: {raw.strip()[:40]!r}") from None
        if piece is None:
            continue
        before = script.pieces[-1][1] if goes_on else None
        if isinstance(before, bytes) and isinstance(piece, bytes):
            script.pieces[-1] = (side, before + piece)
        else:
            script.pieces.append((side, piece))
        open_piece = isinstance(piece, bytes)
    return script


def _piece(line: str) -> bytes | int | None:
    """Bytes, the size of a hole, or None where the line says nothing."""
    if line.startswith('"'):
        found = _STRING.match(line)
        rest = line[found.end() :].strip() if found else line
        if found is None or (rest and not rest.startswith("#")):
            raise ValueError(line)
        return _quoted(found[0])
    line = line.partition("#")[0].strip()
    if lost := _LOST.match(line):
        return int(lost[1])
    digits = _SEPARATORS.sub("", line)
    return bytes.fromhex(digits) if digits else None


def _quoted(text: str) -> bytes:
    """The bytes of ``"PING\\r\\n"``; characters beyond ASCII are UTF-8."""
    try:
        if text.isascii():
            return bytes(ast.literal_eval("b" + text))
        return str(ast.literal_eval(text)).encode()
    except (SyntaxError, UnicodeEncodeError) as error:
        raise ValueError(text) from error


def show(pieces: Iterable[Piece], rows: Sequence[str] = (), comment: str = "") -> str:
    """The text of a conversation; `parse` reads it again."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    for side, piece in pieces:
        first, *rest = _lines(piece)
        lines += [f"{SIGNS[Side(side)]} {first}", *(f"  {line}" for line in rest)]
    lines += [f"= {one_line(row)}" for row in rows]
    return "\n".join(lines) + "\n"


def _lines(piece: bytes | int) -> Iterator[str]:
    if isinstance(piece, int):
        yield f"lost {piece}"
    elif legible(piece):
        for line in piece.splitlines(keepends=True):
            yield quote(line)
    else:
        for at in range(0, len(piece), WIDTH):
            part = piece[at : at + WIDTH]
            yield f"{part.hex(' '):<{3 * WIDTH}} # {printable(part)}"


def legible(data: bytes) -> bool:
    """Whether a person reads it more easily as text than as digits.

    >>> legible(b"GET / HTTP/1.1\\r\\n"), legible(b"\\0\\x01Ga")
    (True, False)
    """
    return bool(data) and 10 * len(data.translate(None, _PLAIN)) <= len(data)


def quote(data: bytes) -> str:
    """``"PING\\r\\n"``: one line, double quotes."""
    text = repr(data)[2:-1]
    if repr(data)[1] == "'":
        text = text.replace("\\'", "'").replace('"', '\\"')
    return f'"{text}"'


def one_line(text: str) -> str:
    """Text without line breaks and other characters that cannot be seen.

    >>> one_line("a\\nb")
    'a\\\\nb'
    """
    return text if text.isprintable() else repr(text)[1:-1]


def printable(data: bytes) -> str:
    """As at the right of a hex dump."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
