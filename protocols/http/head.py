"""The head of an HTTP/1 message (RFC 9112), scanned and not parsed: where its parts are, what frames it.

A pure function of bytes: `Head.request` and `Head.response` look at the head that begins at an offset
and leave their findings in the object, which is used again for the next head. No header is stored;
only ``Content-Length``, ``Transfer-Encoding`` and ``Upgrade`` are understood, because only they decide
where the message ends. `Head.chunk` does the same for one line of a chunked body.

Lenient where real servers are sloppy, and every leniency leaves a bit in ``flags``: `NOTES` says what
each means. ``_head`` is the compiled twin, equal field by field; this module is its oracle.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kshark import limits
from kshark.api import Message
from kshark.protocols.http.resync import METHODS

MORE: Final = 0
"""The head does not end in these bytes."""
DONE: Final = 1
BAD: Final = -1
"""The start line is not HTTP/1."""

CHUNK_MORE: Final = -1
CHUNK_BAD: Final = -2
CHUNK_HUGE: Final = -3

NO_LENGTH: Final = -1
WRONG_LENGTH: Final = -2
"""A Content-Length that cannot be trusted: malformed, beyond 2**63-1, or several that differ."""
LARGEST: Final = 2**63 - 1

UNCODED: Final = 0
CHUNKED: Final = 1
CODED: Final = 2
"""Transfer-Encoding whose last coding is not chunked: only the end of the connection ends the body."""

NOTES: Final[dict[str, str]] = {
    "bare-cr": "a CR without LF in the head, the trailers or a chunk line",
    "bare-lf": "a line that ends with LF alone",
    "nul-in-head": "a NUL byte in the head or a chunk line",
    "leading-space": "white space before the first header; the line is ignored",
    "folded-header": "a header continued on the next line (obsolete folding, RFC 9112 5.2)",
    "space-before-colon": "white space between a header's name and its colon",
    "odd-header-name": "a header name that is empty or holds characters other than those of a token",
    "no-colon": "a header line without a colon; the line is ignored",
    "odd-start-line": "a start line with more white space than it should have",
    "repeated-length": "Content-Length more than once, with one value",
    "differing-lengths": "Content-Length more than once, with different values",
    "bad-length": "Content-Length is not a number",
    "huge-length": "Content-Length is beyond 2**63-1",
    "length-and-encoding": "both Content-Length and Transfer-Encoding; the latter decides (RFC 9112 6.3)",
    "odd-encoding": "Transfer-Encoding in several lines, with an unknown, empty or repeated coding",
    "bad-encoding": "Transfer-Encoding whose last coding is not exactly chunked",
    "encoding-in-http10": "Transfer-Encoding in an HTTP/1.0 message; it decides nevertheless",
    "odd-chunk": "white space around a chunk size",
    "bad-chunk": "a malformed or endless chunk line: the body is cut there",
    "huge-chunk": "a chunk size beyond 2**63-1: the body is cut there",
    "long-trailers": "trailers over 64 KiB: cut",
    "long-target": "a request target over 8 KiB: cut",
    "body-unknown": "the head does not tell where the body ends; what follows is searched for a message",
    "unasked-upgrade": "101 for a request that did not ask for an upgrade",
    "no-body-assumed": "the method is not known; the next response follows at once, as after HEAD",
    "resync": "found by searching for a start line, after a loss or in the middle of a flow",
}
"""Every note of the protocol, in the order of its bit in ``flags``. The names are stable."""

_BIT: Final = {name: 1 << index for index, name in enumerate(NOTES)}
BARE_CR: Final = _BIT["bare-cr"]
BARE_LF: Final = _BIT["bare-lf"]
NUL: Final = _BIT["nul-in-head"]
LEADING_SPACE: Final = _BIT["leading-space"]
FOLDED: Final = _BIT["folded-header"]
SPACE_COLON: Final = _BIT["space-before-colon"]
ODD_NAME: Final = _BIT["odd-header-name"]
NO_COLON: Final = _BIT["no-colon"]
ODD_START: Final = _BIT["odd-start-line"]
REPEATED_LENGTH: Final = _BIT["repeated-length"]
DIFFERING_LENGTHS: Final = _BIT["differing-lengths"]
BAD_LENGTH: Final = _BIT["bad-length"]
HUGE_LENGTH: Final = _BIT["huge-length"]
LENGTH_AND_ENCODING: Final = _BIT["length-and-encoding"]
ODD_ENCODING: Final = _BIT["odd-encoding"]
BAD_ENCODING: Final = _BIT["bad-encoding"]
ENCODING_10: Final = _BIT["encoding-in-http10"]
ODD_CHUNK: Final = _BIT["odd-chunk"]
BAD_CHUNK: Final = _BIT["bad-chunk"]
HUGE_CHUNK: Final = _BIT["huge-chunk"]
LONG_TRAILERS: Final = _BIT["long-trailers"]
LONG_TARGET: Final = _BIT["long-target"]
BAD_FRAMING: Final = _BIT["body-unknown"]
UNASKED_UPGRADE: Final = _BIT["unasked-upgrade"]
NO_BODY_ASSUMED: Final = _BIT["no-body-assumed"]
RESYNC: Final = _BIT["resync"]


@lru_cache(maxsize=1024)
def names(flags: int) -> tuple[str, ...]:
    """The names of the bits in `flags`."""
    return tuple(name for name, bit in _BIT.items() if flags & bit)


_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# What nearly all heads look like, in the character classes that `re` is quick at. What does not match is
# read line by line: it may be as good.
MANY: Final = b"*+" if re.match(b"(?:(?!b)[a-z])*+b", b"ab") else b"*"
"""How a group is repeated that need not be tried otherwise. In CPython 3.11.2 a possessive one that fails within
does not return to where it began, so that good heads do not match (and are read line by line)."""
_CLEAN: Final = rb"\r\n(?:[\w-]++:[\t -\xff]*+\r\n)" + MANY + rb"\r\n"
_REQUEST = re.compile(rb"([A-Z]{1,32}) ([!-\xff]++) HTTP/1\.([0-9])" + _CLEAN)
_RESPONSE = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [\t -\xff]*+)?" + _CLEAN)
_FRAMING = re.compile(rb"\n(?=[CTUctu])((?i:content-length|transfer-encoding|upgrade)):([^\r\n]*)")
_LENGTH: Final = (b"Content-Length", b"content-length")

_REQUEST_LINE = re.compile(
    rb"([A-Za-z][A-Za-z0-9_-]{0,31}) (.*)[ \t]HTTP/1\.([0-9])[ \t]*", re.DOTALL
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])([ \t]+)([1-9][0-9][0-9])(?:[ \t].*)?", re.DOTALL)
_NAME = re.compile(rb"(" + _TOKEN + rb"*)([ \t]*):")
_CHUNK = re.compile(rb"([ \t]*)([0-9A-Fa-f]+)([ \t]*)(;.*)?", re.DOTALL)
_CODINGS: Final = frozenset(
    (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd", b"identity")
)
_SPACE: Final = b" \t\r\n"
VERBS: Final = {name: name.decode() for name in METHODS.split(b"|")}


class Head:
    """What the last scan found; offsets are into the bytes that were scanned."""

    __slots__ = (
        "_stale",
        "coding",
        "end",
        "flags",
        "length",
        "minor",
        "raw",
        "status",
        "target",
        "upgrade",
        "verb",
    )

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.end = 0  # just after the empty line (or the chunk line)
        self.raw = b""  # the head, once it is whole
        self.verb = ""
        self.target = ""
        self.minor = 0  # of HTTP/1.minor
        self.status = 0
        self.length = NO_LENGTH
        self.coding = UNCODED
        self.upgrade = False
        self.flags = 0
        self._stale = True  # length, coding, upgrade or flags may be other than these

    def request(self, data: bytes, start: int) -> int:
        """Scan the request head at `start`: DONE, MORE or BAD."""
        clean = _REQUEST.match(data, start)
        if clean is None:
            self._reset()
            return self._careful(data, start, False)
        self.raw, verb, target, minor = clean.group(0, 1, 2, 3)
        self.verb = VERBS.get(verb) or verb.decode("latin-1")
        self.target = target.decode("latin-1")
        self.minor = minor[0] - 48
        self.status = 0
        self.end = start + len(self.raw)
        return self._framing(data, start)

    def response(self, data: bytes, start: int) -> int:
        """Scan the response head at `start`: DONE, MORE or BAD."""
        clean = _RESPONSE.match(data, start)
        if clean is None:
            self._reset()
            return self._careful(data, start, True)
        self.raw = clean[0]
        self.verb = self.target = ""
        self.minor = data[start + 7] - 48
        self.status = int(data[start + 9 : start + 12])
        self.end = start + len(self.raw)
        return self._framing(data, start)

    def message(
        self, kind: int, verb: str, target: str, status: int, size: int, head: bytes, body: bytes
    ) -> Message:
        """The message; here because the compiled twin makes it without a call through Python."""
        return Message(kind, verb, target, status, status < 400, 0, size, head, body)

    def piece(self, data: bytes, start: int, end: int) -> bytes:
        """``data[start:end]``; here because the compiled twin needs no slice object for it."""
        return data[start:end]

    def chunk(self, data: bytes, start: int) -> int:
        """The chunk size of the line at `start`, or CHUNK_*; ``end`` is just after the line."""
        self.flags = 0
        self._stale = True
        line_end = data.find(b"\n", start, start + limits.CHUNK_LINE)
        if line_end < 0:
            return CHUNK_BAD if len(data) - start >= limits.CHUNK_LINE else CHUNK_MORE
        self.end = line_end + 1
        found = _CHUNK.fullmatch(self._line(data, start, line_end))
        if found is None:
            return CHUNK_BAD
        if found[1] or found[3]:
            self.flags |= ODD_CHUNK
        size = int(found[2], 16)
        return size if size <= LARGEST else CHUNK_HUGE

    def _framing(self, data: bytes, start: int) -> int:
        """The framing headers of a head that is known to be clean; DONE."""
        if self._stale:
            self.length = NO_LENGTH
            self.coding = UNCODED
            self.upgrade = False
            self.flags = 0
            self._stale = False
        found = _FRAMING.search(data, start, self.end)
        if found is None:
            return DONE
        self._stale = True
        while found is not None:
            which, value = found.groups()
            digits = value[1:] if value[:1] == b" " else value  # nearly all write a space
            if (
                which in _LENGTH
                and digits.isdigit()
                and len(digits) < 19
                and self.length == NO_LENGTH
            ):
                self.length = int(digits)
            else:
                self._header(which.lower(), value)
            found = _FRAMING.search(data, found.end(), self.end)
        if self.coding:
            self._settle()
        return DONE

    def _careful(self, data: bytes, start: int, answer: bool) -> int:
        """Line by line: a head that is incomplete, or odd, or not HTTP at all."""
        line_end = data.find(b"\n", start)
        if line_end < 0:
            return MORE
        line = self._line(data, start, line_end)
        if not (self._status_line(line) if answer else self._request_line(line)):
            return BAD
        return self._headers(data, start, line_end + 1)

    def _line(self, data: bytes, start: int, end: int) -> bytes:
        """The line without its end; `end` is the offset of its LF."""
        if end > start and data[end - 1] == 13:
            end -= 1
        else:
            self.flags |= BARE_LF
        line = data[start:end]
        if b"\r" in line:
            self.flags |= BARE_CR
        if b"\0" in line:
            self.flags |= NUL
        return line

    def _request_line(self, line: bytes) -> bool:
        found = _REQUEST_LINE.fullmatch(line)
        target = found[2].strip(b" \t") if found else b""
        if found is None or not target:
            return False
        self.verb = VERBS.get(found[1]) or found[1].decode("latin-1")
        self.target = target.decode("latin-1")
        self.minor = int(found[3])
        if len(target) != len(found[2]) or found.end(3) != len(line) or _blank_in(target):
            self.flags |= ODD_START
        return True

    def _status_line(self, line: bytes) -> bool:
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            return False
        self.minor = line[7] - 48
        self.status = int(found[3])
        if found[2] != b" ":
            self.flags |= ODD_START
        return True

    def _headers(self, data: bytes, begin: int, start: int) -> int:
        name, value, first = b"", b"", True
        while True:
            line_end = data.find(b"\n", start)
            if line_end < 0:
                return MORE
            line = self._line(data, start, line_end)
            start = line_end + 1
            if not line:
                break
            if line[0] in b" \t":
                self.flags |= LEADING_SPACE if first else FOLDED
                value += b" " + line
            else:
                self._header(name, value)
                name, value = self._split(line)
            first = False
        self._header(name, value)
        self.end = start
        self.raw = data[begin:start]
        self._settle()
        return DONE

    def _split(self, line: bytes) -> tuple[bytes, bytes]:
        """Name (lower case, empty where there is none that counts) and value of a header line."""
        found = _NAME.match(line)
        if found is None:
            self.flags |= ODD_NAME if b":" in line else NO_COLON
            return b"", b""
        if not found[1]:
            self.flags |= ODD_NAME
        elif found[2]:
            self.flags |= SPACE_COLON
        return found[1].lower(), line[found.end() :]

    def _header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._content_length(value)
        elif name == b"transfer-encoding":
            self._transfer_encoding(value)
        elif name == b"upgrade" and value.strip(_SPACE):
            self.upgrade = True

    def _content_length(self, value: bytes) -> None:
        for part in value.split(b","):
            digits = part.strip(_SPACE)
            if not digits.isdigit():
                self.flags |= BAD_LENGTH
                self.length = WRONG_LENGTH
                continue
            length = LARGEST + 1
            if len(digits) < 20 or len(digits.lstrip(b"0")) < 20:
                length = int(digits.lstrip(b"0") or b"0")
            if length > LARGEST:
                self.flags |= HUGE_LENGTH
                self.length = WRONG_LENGTH
            elif self.length == NO_LENGTH:
                self.length = length
            elif self.length == length:
                self.flags |= REPEATED_LENGTH
            elif self.length != WRONG_LENGTH:
                self.flags |= DIFFERING_LENGTHS
                self.length = WRONG_LENGTH

    def _transfer_encoding(self, value: bytes) -> None:
        if self.coding != UNCODED:
            self.flags |= ODD_ENCODING
        for part in value.split(b","):
            coding = part.strip(_SPACE).lower()
            if coding == b"chunked":
                if self.coding == CHUNKED:
                    self.flags |= ODD_ENCODING
                self.coding = CHUNKED
                continue
            if coding not in _CODINGS:
                self.flags |= ODD_ENCODING
            if coding or self.coding == UNCODED:
                self.coding = CODED

    def _settle(self) -> None:
        """What only all headers together tell."""
        if self.coding == UNCODED:
            return
        if self.coding == CODED:
            self.flags |= BAD_ENCODING
        if self.length != NO_LENGTH:
            self.flags |= LENGTH_AND_ENCODING
        if self.minor == 0:
            self.flags |= ENCODING_10


def _blank_in(target: bytes) -> bool:
    return b" " in target or b"\t" in target


_START = (
    re.compile(rb"[A-Za-z][A-Za-z0-9_-]{0,31}(?: .*)?", re.DOTALL),
    re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9](?:[ \t].*)?)?)?)?)?)?)?)?", re.DOTALL),
)


def hopeful(data: bytes | bytearray, answer: bool) -> bool:
    """Whether `data`, a start line without its end, can still become one."""
    return _START[answer].fullmatch(data, 0, min(len(data), 33)) is not None
