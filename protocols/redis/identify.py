"""Is this Redis? What the first bytes of a side say, and where framing may start again after a hole.

Other line protocols look alike: POP3 and NATS answer ``+OK`` and ``-ERR`` too, memcached asks ``get k``.
So only a known command in an array makes the client's side certain. A line (an inline command) is likely if its
word is Redis' alone, else its answer tells. Replies are at most likely, and that only if all of the bytes frame
as RESP.
"""

from __future__ import annotations

import re

from kshark import limits
from kshark.api import DissectError, Side, Verdict

from .commands import FOREIGN_INLINE, known
from .resp import Commands, Replies
from .words import strings

ENOUGH = 512
"""Bytes of one long string, well framed so far, that make a reply likely before its end is seen."""
PROBE_BYTES = limits.PROBE_BYTES
TRIES = 32
"""Places in one chunk at which framing is tried again after a hole."""
SHORT = 128
"""Bytes of an unfinished line that are kept for the next chunk in that search."""
WORK = 16
"""Bytes looked at in search of such a place, a byte lost: bounds the search whatever the chunks are."""

LINE = re.compile(
    rb"""\+(?:OK|PONG|QUEUED|RESET|none|string|list|set|zset|hash|stream
        |FULLRESYNC\ [0-9a-f]{40}\ \d+|CONTINUE(?:\ [0-9a-f]{40})?|Background\ [a-z ]+
        |\d+\.\d{6}\ \[\d+\ [^]\r\n]+\]\ "[^\r\n]*)\r\n
    |-(?!ERR\ ')[A-Z]{2,20}\ [^\r\n]+\r\n
    |[,(][-+0-9.einaf]+\r\n""",
    re.VERBOSE,
)
"""Lines of text that Redis really answers; NATS quotes its errors, POP3 says more behind ``+OK``."""
MONITORED = re.compile(rb'\+\d+\.\d{6} \[\d+ [^]\r\n]+\] "')
PUSHES = frozenset((b"message", b"pmessage", b"smessage"))
CONFIRMED = frozenset(
    b"subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe".split()
)
QUESTION = re.compile(rb"\*[1-9]\d{0,9}\r\n\$(\d{1,4})\r\n([!-~]{1,64})\r\n")
EVIDENT = re.compile(
    MONITORED.pattern + rb"|>[1-9]|\*[34]\r\n\$[78]\r\n[ps]?message\r\n",
)
STAR = 42


def probe(data: bytes, side: Side) -> Verdict:
    """The opinion of the first bytes of one side."""
    return ask(data) if side == Side.CLIENT else answer(data)


def ask(data: bytes) -> Verdict:
    """Are these commands? An array decides; of lines, none may be anything else."""
    scan, pos, verdict = Commands(), 0, Verdict.MORE
    try:
        while pos < len(data) and verdict != Verdict.CERTAIN:
            if not inline_like(data, pos):
                return Verdict.NO
            end = scan.scan(data, pos)
            if not scan.empty:
                found = opinion(data[pos : end if end >= 0 else len(data)], end >= 0)
                if found == Verdict.NO:
                    return found
                verdict = max(verdict, found)
            if end < 0:
                break
            pos = end
    except DissectError:
        return Verdict.NO
    return verdict


def inline_like(data: bytes, pos: int) -> bool:
    """An array, or a line that begins like a word."""
    return data[pos] in b"*\r\n" or 65 <= (data[pos] & 0xDF) <= 90


def opinion(head: bytes, whole: bool) -> Verdict:
    """Is this command (or its beginning) one of Redis?"""
    if head[:1] != b"*":
        return inline_opinion(head, whole)
    match = QUESTION.match(head)
    if match is None:
        return Verdict.NO if whole else Verdict.MORE
    name = match[2]
    if len(name) != int(match[1]) or (name in PUSHES and not name.isupper()):
        return Verdict.NO
    return Verdict.CERTAIN if known(name) else Verdict.MORE


def inline_opinion(head: bytes, whole: bool) -> Verdict:
    """A line: likely if its word is Redis' own. Others' lines begin with a word too: the answer tells."""
    if not head.strip():
        return Verdict.MORE
    line = head.partition(b"\n")[0].rstrip(b"\r")
    name = line.split(b" ", 1)[0]
    if not name.replace(b".", b"").isalnum() or b" HTTP/" in line or not line.isascii():
        return Verdict.NO
    if not whole:
        return Verdict.MORE if len(name) <= 64 else Verdict.NO
    if not known(name):
        return Verdict.NO
    return Verdict.MORE if name.lower() in FOREIGN_INLINE else Verdict.LIKELY


def answer(data: bytes) -> Verdict:
    """Are these replies? All bytes must frame, and a text line must be one of Redis'."""
    scan, pos, likely = Replies(), 0, False
    try:
        while pos < len(data):
            if data[pos] in b"+-,(" and b"\n" in data[pos:] and not LINE.match(data, pos):
                return Verdict.NO
            end = scan.scan(data, pos)
            if end < 0:
                rest = data[pos:]
                long = rest[:1] in b"$*%~>" and b"\r\n" in rest and len(rest) >= ENOUGH
                likely = likely or (long and not commandlike(rest))
                break
            likely = likely or not commandlike(data[pos:end])
            pos = end
    except DissectError:
        return Verdict.NO
    return Verdict.LIKELY if likely else Verdict.MORE


def shared(head: bytes) -> bool:
    """Whether POP3, NATS, FTP and the like say this too."""
    if head[:1] == b"*":
        return False
    word = head.split(None, 1)[0] if head.strip() else b""
    return word in (b"+OK", b"-ERR") or word.lower() in FOREIGN_INLINE


def commandlike(head: bytes) -> bool:
    """An array of strings alone, as clients send: it says nothing of who sent it."""
    if head[:1] != b"*" or head[:2] in (b"*0", b"*-"):
        return False
    if strings(head, 1)[:1] and strings(head, 1)[0] in PUSHES:
        return False
    try:
        return Commands().scan(head, 0) in (-1, len(head))
    except DissectError:
        return False


class Search:
    """After a hole: looks for the next place where framing may start, and counts what is passed over.

    Of a client: the start of a chunk or a line that holds a known command, from which all that is there frames.
    Of a server: the start of the first chunk after the client spoke (what remains of an array looks like
    replies, so a line's start proves nothing), or of any chunk that begins with a push or a monitored
    command; from there whole replies must end exactly at the end of a chunk, or PROBE_BYTES must frame.
    It may still be wrong, inside a string that holds RESP itself; then framing breaks at the string's
    end, and the search starts again.
    """

    def __init__(self, commands: bool, kept: bytes = b"") -> None:
        self.commands = commands
        self.kept = kept
        self.anchor = False  # framing may start where kept begins
        self.turn = False  # the client spoke since the server last did
        self.dropped = 0  # bytes passed over
        self.seen = self.work = 0

    def feed(self, data: bytes) -> bytes | None:
        """The bytes from such a place on, or None: not in here."""
        border = len(self.kept)
        self.kept += data
        self.seen += len(data)
        if self.work > WORK * self.seen + ENOUGH:
            self.drop(len(self.kept), False)
            return None
        hope = -1
        for at in self.places(border):
            found = self.check(at, at == border)
            if found > 0:
                self.drop(at, True)
                return self.kept
            if not found and hope < 0:
                hope = at
        if hope < 0:
            self.drop(max(self.kept.rfind(b"\n"), len(self.kept) - SHORT), False)
        else:
            self.drop(hope, True)
        return None

    def hole(self, missing: int) -> None:
        """Another one: what is kept leads nowhere, and the server's turn has begun in it."""
        if missing:
            self.drop(len(self.kept), False)
            self.turn = False

    def drop(self, count: int, anchor: bool) -> None:
        """Pass over the first bytes of what is kept."""
        self.anchor = anchor
        if count > 0:
            self.dropped += count
            self.kept = self.kept[count:]

    def places(self, border: int) -> list[int]:
        """Where to try."""
        ends = [0, border] if self.anchor else [border]
        if self.commands:
            starts = (m.start() for m in QUESTION.finditer(self.kept) if known(m[2]))
            return [at for at in starts if at in ends or self.kept[at - 1 : at] == b"\n"][:TRIES]
        if not (self.turn or EVIDENT.match(self.kept, border)):
            ends.pop()
        self.turn = False
        return ends

    def check(self, at: int, chunk: bool) -> int:
        """1 framing may start here, 0 perhaps (more bytes would tell), -1 it may not."""
        data, whole, pos = self.kept, 0, at
        scan: Commands | Replies = Commands() if self.commands else Replies()
        self.work += len(data) - at
        try:
            while pos < len(data):
                if not self.plausible(pos):
                    return -1
                end = scan.scan(data, pos)
                if end < 0:
                    enough = (whole or chunk) if self.commands else len(data) - at >= PROBE_BYTES
                    return int(bool(enough))
                whole += 1
                pos = end
        except DissectError:
            return -1
        return int(whole > 0)

    def plausible(self, pos: int) -> bool:
        """No line of text but those of Redis: of a client none at all."""
        data = self.kept
        if self.commands:
            return data[pos] == STAR
        if data[pos] not in b"+-,(" or b"\n" not in data[pos : pos + PROBE_BYTES]:
            return True
        return LINE.match(data, pos) is not None
