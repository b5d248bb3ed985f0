"""Framing of RESP2 and RESP3: where a command or a reply ends, and nothing else.

Plain functions of bytes in constant memory: payloads are counted, not kept, array lengths are never
allocated, and each byte is looked at once however the stream was cut. ``_resp.pyx`` is the compiled twin; this
module is its oracle in the tests and its fallback.

Grammar: Redis' protocol specification (redis.io/docs/reference/protocol-spec), RESP3 with streamed
strings and aggregates (antirez/RESP3), and what networking.c of Redis really accepts. Integers are
strict (string2ll): no sign but a minus, no leading zero, no more than an int64.

Limits: RESP_DEPTH, RESP_BULK and RESP_INLINE in `kshark.limits`.
"""

from __future__ import annotations

from kshark import limits
from kshark.api import DissectError

DEPTH = limits.RESP_DEPTH
BULK = limits.RESP_BULK
INLINE = limits.RESP_INLINE
LINE = 32  # bytes of a line that holds a length, its type and its end; an int64 has 20 digits
COUNT = 2**31 - 1  # elements of an array; networking.c: INT_MAX

STREAMED = -1  # on the stack: an aggregate that ends with "."; below that, attributes count down

PLUS, MINUS, COLON, DOLLAR, STAR = b"+-:$*"
BANG, PERCENT, TILDE, PIPE = b"!%~|"
SEMICOLON, DOT, CR, LF = b";.\r\n"

TEXT = frozenset(b"+-,(")
STRINGS = frozenset(b"$=!")
AGGREGATES = frozenset(b"*%~>|")
TYPES = frozenset(b"+-:$*_#,(!=%~>|;.")
SHORT = (b"_\r\n", b"#t\r\n", b"#f\r\n")


def number(digits: bytes, limit: int) -> int:
    """A strict length: 0, or digits without a leading zero, at most `limit`."""
    if not digits.isdigit() or (len(digits) > 1 and digits[0] == 48) or len(digits) > 19:
        raise DissectError("bad length")
    value = int(digits)
    if value > limit:
        raise DissectError(f"a length over {limit}")
    return value


def command(data: bytes, pos: int) -> tuple[int, bytes, bytes] | None:
    """A whole command at `pos`: where it ends, its name and its first argument (b"" if none).

    None for whatever is not a whole and well-formed array of strings; `Commands` says why.
    """
    end = data.find(b"\r\n", pos, pos + LINE)
    count = data[pos + 1 : end]
    if end < 0 or not count.isdigit() or data[pos] != STAR or count[0] == 48:
        return None
    name = first = b""
    for at in range(int(count)):
        pos = end + 2
        end = data.find(b"\r\n", pos, pos + LINE)
        digits = data[pos + 1 : end]
        if end < 0 or not digits.isdigit() or data[pos] != DOLLAR:
            return None
        if digits[0] == 48 and len(digits) > 1:
            return None
        pos = end + 2
        end = pos + int(digits)
        if data[end : end + 2] != b"\r\n":
            return None
        if at == 0:
            name = data[pos:end]
        elif at == 1:
            first = data[pos:end]
    return end + 2, name, first


def reply(data: bytes, pos: int) -> int:
    """Where a whole reply of one line or one string at `pos` ends; -1 for all else, see `Replies`."""
    kind = data[pos]
    if kind == DOLLAR:
        end = data.find(b"\r\n", pos, pos + LINE)
        digits = data[pos + 1 : end]
        if end < 0 or not digits.isdigit() or (digits[0] == 48 and len(digits) > 1):
            return -1
        end += int(digits) + 2
        return end + 2 if data[end : end + 2] == b"\r\n" else -1
    if kind in (PLUS, MINUS):
        end = data.find(b"\n", pos)
        return end + 1 if end > 0 and data[end - 1] == CR else -1
    return -1


class Commands:
    """Where the command that is under way ends: arrays of strings, and inline lines."""

    __slots__ = ("blank", "empty", "inline", "left", "part", "tail", "todo", "waiting")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is under way."""
        self.todo = -1  # strings still to come; -1 between commands
        self.left = 0  # bytes of the present string still to come
        self.tail = 0  # bytes of its CRLF still to come
        self.part = b""  # of a line that is not whole
        self.waiting = 0  # bytes of an inline line so far
        self.blank = True  # it holds nothing but white space
        self.inline = False  # the last command was a line
        self.empty = False  # the last thing was nothing: an empty line, or an array of none

    def scan(self, data: bytes, pos: int) -> int:
        """The offset behind the command that began at or before `pos`, or -1: all is used, go on."""
        size = len(data)
        while pos < size:
            if self.left or self.tail:
                pos = payload(self, data, pos, size)
                if self.left or self.tail:
                    return -1
                self.todo -= 1
                if not self.todo:
                    self.todo = -1
                    return pos
                continue
            if self.todo < 0 and not self.part and (self.waiting or data[pos] != STAR):
                return self.line(data, pos, size)
            found = data.find(b"\n", pos, pos + LINE)
            if found < 0:
                self.part += data[pos : pos + LINE]
                if len(self.part) >= LINE:
                    raise DissectError("a length line without an end")
                return -1
            self.head(self.part + data[pos : found + 1])
            self.part = b""
            pos = found + 1
            if self.empty:
                return pos
        return -1

    def head(self, line: bytes) -> None:
        """One line of lengths: ``*3`` or ``$5``."""
        if line[-2:] != b"\r\n":
            raise DissectError("a length line without CRLF")
        if self.todo < 0:
            self.inline = False
            if line[1:2] == b"-":  # Redis takes a negative array for none
                number(line[2:-2], COUNT)
                self.empty = True
                return
            count = number(line[1:-2], COUNT)
            self.empty = not count
            self.todo = count or -1
            return
        if line[0] != DOLLAR:
            raise DissectError("an argument that is no bulk string")
        self.left = number(line[1:-2], BULK)
        self.tail = 2

    def line(self, data: bytes, pos: int, size: int) -> int:
        """An inline command: all up to LF."""
        self.inline = True
        found = data.find(b"\n", pos)
        end = size if found < 0 else found + 1
        self.waiting += end - pos
        if self.waiting > INLINE:
            raise DissectError("inline command over 64 KiB")
        self.blank = self.blank and not data[pos:end].strip()
        if found < 0:
            return -1
        self.empty, self.blank = self.blank, True
        self.waiting = 0
        return end

    def open(self) -> bool:
        """Within an array of strings."""
        return self.todo > 0

    def skip(self, missing: int) -> int:
        """Lost bytes within a string: 1 skipped, 2 and they end the command, 0 cannot tell."""
        if not skip(self, missing):
            return 0
        if self.left or self.tail:
            return 1
        self.todo -= 1
        if self.todo:
            return 1
        self.todo = -1
        return 2


class Replies:
    """Where the reply that is under way ends: any RESP2 or RESP3 value, attributes before it included."""

    __slots__ = ("busy", "chunks", "cr", "errors", "left", "part", "stack", "tail", "text")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is under way."""
        self.stack: list[int] = []  # elements still to come, outermost first
        self.left = 0  # bytes of the present string still to come
        self.tail = 0  # bytes of its CRLF still to come
        self.part = b""  # of a line that is not whole
        self.text = False  # within a line of text, of which nothing is kept ...
        self.cr = False  # ... but whether its last byte was a CR
        self.chunks = False  # within a streamed string
        self.busy = False  # within a reply
        self.errors = False  # an error was seen among the elements of the present reply

    def scan(self, data: bytes, pos: int) -> int:
        """The offset behind the reply that began at or before `pos`, or -1: all is used, go on."""
        size = len(data)
        if not self.busy:
            self.busy, self.errors = True, False
        while pos < size:
            if self.left or self.tail:
                pos = payload(self, data, pos, size)
                if self.left or self.tail:
                    return -1
                if self.chunks:
                    continue
            elif self.text or (not self.part and data[pos] in TEXT):
                pos = self.words(data, pos, size)
                if pos < 0:
                    return -1
            else:
                if not self.part and data[pos] not in TYPES:
                    raise DissectError("not RESP")
                found = data.find(b"\n", pos, pos + LINE)
                if found < 0:
                    self.part += data[pos : pos + LINE]
                    if len(self.part) >= LINE:
                        raise DissectError("a length line without an end")
                    return -1
                line, self.part = self.part + data[pos : found + 1], b""
                pos = found + 1
                if not self.head(line):
                    continue
            if self.done():
                self.busy = False
                return pos
        return -1

    def words(self, data: bytes, pos: int, size: int) -> int:
        """A line of text: behind its end, or -1."""
        if not self.text:
            if self.chunks:
                raise DissectError("a streamed string broken off")
            self.errors = self.errors or (data[pos] == MINUS and bool(self.stack))
            self.cr = False
        found = data.find(b"\n", pos)
        if found < 0:
            self.text = True
            self.cr = data[size - 1] == CR
            return -1
        if not (data[found - 1] == CR if found > pos else self.cr):
            raise DissectError("a line without CRLF")
        self.text = False
        return found + 1

    def head(self, line: bytes) -> bool:
        """One line with a length or a short value; true when it is a whole element."""
        kind, value = line[0], line[1:-2]
        if line[-2:] != b"\r\n" or len(line) < 3:
            raise DissectError("not RESP")
        if self.chunks:
            if kind != SEMICOLON:
                raise DissectError("a streamed string broken off")
            self.left = number(value, BULK)
            self.tail = 2 if self.left else 0
            self.chunks = bool(self.left)
            return not self.chunks
        if kind in STRINGS:
            return self.string(kind, value)
        if kind in AGGREGATES:
            return self.aggregate(kind, value)
        if kind == COLON:
            integer(value)
        elif kind == DOT:
            if value or not self.stack or self.stack[-1] != STREAMED:
                raise DissectError("an end of no streamed aggregate")
            self.stack.pop()
        elif line not in SHORT:
            raise DissectError("not RESP")
        return True

    def string(self, kind: int, value: bytes) -> bool:
        """``$5``, ``$-1``, ``$?``, ``!21``, ``=15``."""
        if kind == DOLLAR:
            if value == b"-1":
                return True
            if value == b"?":
                self.chunks = True
                return False
        elif kind == BANG and self.stack:
            self.errors = True
        self.left = number(value, BULK)
        self.tail = 2
        return False

    def aggregate(self, kind: int, value: bytes) -> bool:
        """``*3``, ``*-1``, ``*?``, ``%2``, ``~5``, ``>4``, ``|1``."""
        if value == b"-1" and kind == STAR:
            return True
        if value == b"?" and kind in (STAR, PERCENT, TILDE):
            count = STREAMED
        else:
            count = number(value, COUNT)
            if kind in (PERCENT, PIPE):
                count *= 2
            if not count:
                return kind != PIPE
            if kind == PIPE:
                count = STREAMED - count
        if len(self.stack) >= DEPTH:
            raise DissectError(f"nested deeper than {DEPTH}")
        self.stack.append(count)
        return False

    def done(self) -> bool:
        """One element is whole; true when the reply is."""
        stack = self.stack
        while stack:
            left = stack[-1]
            if left == STREAMED:
                return False
            left += 1 if left < 0 else -1
            if left == STREAMED:  # attributes are over: what they describe follows
                stack.pop()
                return False
            if left:
                stack[-1] = left
                return False
            stack.pop()
        return True

    def open(self) -> bool:
        """Within a reply that goes on for a known number of bytes or elements."""
        return self.busy and (bool(self.stack) or not self.text)

    def skip(self, missing: int) -> int:
        """Lost bytes within a string: 1 skipped, 2 and they end the reply, 0 cannot tell."""
        if not skip(self, missing):
            return 0
        if self.left or self.tail or self.chunks or not self.done():
            return 1
        self.busy = False
        return 2


def integer(value: bytes) -> None:
    """Check ``:`` values: an optional sign, 1 to 19 digits, an int64."""
    digits = value[1:] if value[:1] in (b"-", b"+") else value
    if not digits.isdigit() or len(digits) > 19 or not -(2**63) <= int(value) < 2**63:
        raise DissectError("bad integer")


def payload(scan: Commands | Replies, data: bytes, pos: int, size: int) -> int:
    """Count off a string and check its CRLF; gives where to go on."""
    if scan.left:
        taken = min(scan.left, size - pos)
        scan.left -= taken
        pos += taken
    while scan.tail and not scan.left and pos < size:
        if data[pos] != (CR if scan.tail == 2 else LF):
            raise DissectError("a string longer than its length")
        scan.tail -= 1
        pos += 1
    return pos


def skip(scan: Commands | Replies, missing: int) -> bool:
    """Count off lost bytes, if they lie within a string and its CRLF."""
    if not 0 < missing <= scan.left + scan.tail:
        return False
    taken = min(scan.left, missing)
    scan.left -= taken
    scan.tail -= missing - taken
    return True
