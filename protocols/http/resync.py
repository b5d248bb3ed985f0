"""Where a message might begin in bytes of unknown content: after a gap, in a flow joined in mid-stream.

A start line at the beginning of a line is taken as it is; in the middle of a line (a body need not end
with a line end) only with a well-known method or a plain reason phrase. Linear: a candidate is looked
at only where its line ends in ``HTTP/1.x`` or begins with it, and what is looked at is bounded.
"""

from __future__ import annotations

import re
from typing import Final

from kshark.api import Side, Verdict

METHODS: Final = (
    b"GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|CONNECT|TRACE|PROPFIND|REPORT|MKCOL|COPY|MOVE|LOCK|"
    b"UNLOCK|PROPPATCH|SEARCH|NOTIFY|SUBSCRIBE|UNSUBSCRIBE|PURGE|LINK|UNLINK|M-SEARCH"
)
LONGEST: Final = 9 * 1024
"""Bytes of the longest request line that is searched for: method, a target of 8 KiB, version."""
LONG: Final = 2 * 1024
"""Bytes of half a request line that are enough for a probe, whose window is no longer than 4 KiB."""

_ANY = re.compile(rb"[A-Za-z][A-Za-z0-9_-]{0,31} [^\0-\x20]{1,8192} ")
_KNOWN = re.compile(rb"(?:" + METHODS + rb") [^\0-\x20]{1,8192} \Z")
# The end of a body, and right after it a method; CCM_POST and X-GET are methods of their own.
_GLUED = re.compile(rb"[A-Za-z0-9_-]*(?<![A-Z_-])(" + METHODS + rb") ")
_STATUS = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [^\r\n\0]{0,200})?\r?\n")
_PLAIN = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [A-Za-z' -]{0,60})?\r\n")
_VERSION = re.compile(rb" HTTP/1\.[0-9]\r?\n")
_BEGUN = re.compile(
    rb"[A-Za-z][A-Za-z0-9_-]{0,31}(?: (?:[^\0-\x20]{1,8192}(?: H?T?T?P?/?1?\.?[0-9]?\r?)?)?)?"
)
_PREFIX: Final = b"HTTP/1.0 000"


def find(data: bytes, start: int, answer: bool, line_start: bool) -> int:
    """Offset of the first start line at or after `start`, -1 if there is no whole one."""
    if answer:
        return _find_status(data, start, line_start)
    return _find_request(data, start, line_start)


def _find_status(data: bytes, start: int, line_start: bool) -> int:
    at = data.find(b"HTTP/1.", start)
    while at >= 0:
        begins = line_start if at == start else data[at - 1] == 10
        if (_STATUS if begins else _PLAIN).match(data, at):
            return at
        at = data.find(b"HTTP/1.", at + 7)
    return -1


def _find_request(data: bytes, start: int, line_start: bool) -> int:
    at = data.find(b" HTTP/1.", start)
    while at >= 0:
        if _VERSION.match(data, at):
            found = _request_before(data, start, at + 1, line_start)
            if found >= 0:
                return found
        at = data.find(b" HTTP/1.", at + 8)
    return -1


def _request_before(data: bytes, start: int, end: int, line_start: bool) -> int:
    """Offset of the method of a request line whose version is at `end`, or -1."""
    begin = data.rfind(b"\n", start, end) + 1
    begins = line_start or begin > 0
    begin = max(begin, start, end - LONGEST)
    line = data[begin:end]
    if begins and _ANY.fullmatch(line):
        glued = None if _KNOWN.match(line) else _GLUED.match(line)
        return begin + (glued.start(1) if glued else 0)
    found = _KNOWN.search(line)
    return begin + found.start() if found else -1


def like_status(data: bytes) -> int:
    """Whether `data` begins like a response: 1 yes, 0 too short to tell, -1 no."""
    for have, want in zip(data, _PREFIX, strict=False):
        if have != want and not (want == 48 and 48 <= have <= 57):
            return -1
    return 1 if len(data) >= len(_PREFIX) else 0


def probe(data: bytes, side: Side) -> Verdict:
    """CERTAIN for a start line at the first byte, LIKELY for one further on, MORE for half a one."""
    answer = side == Side.SERVER
    line = data.lstrip(b"\r\n")
    if not line:
        return Verdict.MORE
    at = find(data, 0, answer, True)
    if at >= 0:
        return Verdict.CERTAIN if at == len(data) - len(line) else Verdict.LIKELY
    if b"\n" not in line and _hopeful(line, answer):
        return Verdict.LIKELY if len(line) > LONG else Verdict.MORE
    return Verdict.NO


def _hopeful(line: bytes, answer: bool) -> bool:
    if answer:
        return like_status(line) >= 0
    return _BEGUN.fullmatch(line) is not None
