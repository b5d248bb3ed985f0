"""Bodies made readable, when somebody asks: content codings undone, charset applied; the fields that show them.

Pure functions of bytes. Bombs are stopped by ``limits.UNPACKED`` and ``limits.UNPACK_RATIO``; what
stops or fails leaves a note (`NOTES`), and what was unpacked until then is kept. ``br`` and ``zstd`` need
the packages ``brotli`` and ``zstandard`` (``pip install kshark[compression]``).
"""

from __future__ import annotations

import base64
import codecs
import io
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec

from kshark import limits
from kshark.api import Redact, doc

try:
    import brotli
except ImportError:
    brotli = None
try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment,unused-ignore]

# What the schemas of HTTP/1 and HTTP/2 say of a body alike.
ContentType = Annotated[str | None, doc("Media type of the body")]
ContentEncoding = Annotated[str | None, doc("Codings of the body, as sent; `body` is decoded")]
Body = Annotated[
    str, doc("Body, decoded: text, or base64 (see body_encoding); capped", redact=Redact.BODY)
]
BodyEncoding = Annotated[str | None, doc("base64 where the body is not text")]

CODINGS: Final = 3
"""Stacked codings that are undone. Two occur ("gzip, gzip" by mistake); curl stops at five."""
SMALL: Final = 64 * limits.KIB
"""Bytes that any body may unpack to, whatever the ratio."""
WINDOW: Final = 8 * limits.MIB
"""Memory for one zstd window, in bytes: what RFC 9659 allows the web."""

NOTES: Final[dict[str, str]] = {
    "unpack-limit": "unpacking stopped at 1 MiB, or at 20 times the packed size",
    "bad-content-encoding": "the body does not unpack as its header says; it is shown as far as it did",
    "unknown-content-encoding": "a content coding that is not known: the body is shown packed",
    "codec-missing": "br or zstd without its package (kshark[compression]): the body is shown packed",
    "too-many-encodings": "more than three stacked content codings: the body is shown packed",
    "bad-charset": "bytes that are not text in the declared charset are shown as U+FFFD",
}
"""Notes on a body, beside those of `head.NOTES`."""

_TEXT = re.compile(
    r"text/|application/(?:[\w.-]+\+|x-amz-)?(?:json|xml|yaml|x-yaml|javascript|x-javascript|ndjson|"
    r"x-ndjson|graphql|sql|toml|x-www-form-urlencoded)\b|[\w.-]+/[\w.-]+\+(?:json|xml)\b",
    re.IGNORECASE,
)
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_CHARSETS = re.compile(
    r"(?:utf-?(?:8|16|32)(?:[-_]?[lb]e)?|us-ascii|ascii|iso[-_]?8859[-_]\d{1,2}|latin-?\d{1,2}|"
    r"windows-\d{3,4}|cp\d{3,4}|koi8-[rut]|gb2312|gbk|gb18030|big5(?:-?hkscs)?|shift[-_]jis|"
    r"sjis|euc-(?:jp|kr)|iso-2022-jp|tis-620|mac[-_]?roman)",
    re.IGNORECASE,
)


class Unpacked(msgspec.Struct):
    """A body with its codings undone, and what went wrong."""

    data: bytes
    notes: list[str]


class Text(msgspec.Struct):
    """A body as JSON can hold it: text, or base64."""

    text: str
    encoding: str  # "" or "base64"
    notes: list[str]


def unpack(data: bytes, codings: Sequence[str]) -> Unpacked:
    """Undo `codings`, the last applied first; stop at the first that cannot be undone."""
    codings = [c.lower() for c in codings if c.lower() not in ("identity", "")]
    if not data or not codings:
        return Unpacked(data, [])
    if len(codings) > CODINGS:
        return Unpacked(data, ["too-many-encodings"])
    room = min(limits.UNPACKED, max(SMALL, limits.UNPACK_RATIO * len(data)))
    for coding in reversed(codings):
        undo = _UNDO.get(coding)
        if undo is None:
            return Unpacked(data, ["unknown-content-encoding"])
        try:
            data, fault = undo(data, room + 1)
        except ImportError:
            return Unpacked(data, ["codec-missing"])
        if len(data) > room:
            return Unpacked(data[:room], ["unpack-limit"])
        if fault:
            return Unpacked(data, ["bad-content-encoding"])
    return Unpacked(data, [])


def text(data: bytes, content_type: str, cut: bool) -> Text:
    """The body as text if it is declared or looks like text, else as base64.

    >>> text(b"caf\\xe9", "text/plain; charset=iso-8859-1", False).text
    'café'
    """
    declared = _TEXT.match(content_type) is not None
    maybe = not content_type or content_type[:10].lower() == "multipart/"  # forms: mostly text
    if not declared and (not maybe or b"\0" in data):
        return Text(base64.b64encode(data).decode(), "base64", [])
    found = _CHARSET.search(content_type)
    charset = found[1] if found and _CHARSETS.fullmatch(found[1]) else "utf-8"
    try:
        decoder = codecs.getincrementaldecoder(charset)
        return Text(decoder().decode(data, not cut), "", [])
    except (UnicodeDecodeError, LookupError):
        if not declared:
            return Text(base64.b64encode(data).decode(), "base64", [])
    try:
        return Text(data.decode(charset, "replace"), "", ["bad-charset"])
    except LookupError:
        return Text(data.decode("utf-8", "replace"), "", ["bad-charset"])


Result = tuple[bytes, bool]  # what came out (at most `room` bytes), and whether it failed


def _gzip(data: bytes, room: int) -> Result:
    """One member or several; nulls after the last are padding."""
    parts: list[bytes] = []
    while data and room > 0:
        piece, data, fault = _inflate(data, room, 31)
        parts.append(piece)
        room -= len(piece)
        if fault or not data.strip(b"\0"):
            return b"".join(parts), fault
    return b"".join(parts), False


def _deflate(data: bytes, room: int) -> Result:
    """zlib as RFC 9110 8.4.1.2 says, or raw deflate as some servers send."""
    piece, _, fault = _inflate(data, room, 15)
    if fault and not piece:
        piece, _, fault = _inflate(data, room, -15)
    return piece, fault


def _inflate(data: bytes, room: int, bits: int) -> tuple[bytes, bytes, bool]:
    """Output, what follows the stream, and whether it is broken; a cut stream is not."""
    engine = zlib.decompressobj(bits)
    parts: list[bytes] = []
    try:
        while data and room > 0 and not engine.eof:
            piece = engine.decompress(data, min(room, 16_384))
            parts.append(piece)
            room -= len(piece)
            data = engine.unconsumed_tail
    except zlib.error:
        return b"".join(parts), b"", True
    return b"".join(parts), engine.unused_data, False


def _brotli(data: bytes, room: int) -> Result:
    if brotli is None:
        raise ImportError
    engine = brotli.Decompressor()
    parts: list[bytes] = []
    try:
        while room > 0 and not engine.is_finished():
            piece = engine.process(data, output_buffer_limit=min(room, 65_536))
            data = b""
            if not piece and engine.can_accept_more_data():
                break
            parts.append(piece[:room])
            room -= len(piece)
    except brotli.error:
        return b"".join(parts), True
    return b"".join(parts), False


def _zstd(data: bytes, room: int) -> Result:
    if zstandard is None:
        raise ImportError
    engine = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    out = bytearray()
    try:
        with engine.stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            while len(out) < room:
                piece = reader.read(min(room - len(out), 16_384))
                if not piece:
                    break
                out += piece
    except zstandard.ZstdError:
        return bytes(out), True
    return bytes(out), False


_UNDO: Final[dict[str, Callable[[bytes, int], Result]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
