"""The typed schema of Redis, made from the raw bytes of a message when somebody asks."""

from __future__ import annotations

import re
from typing import Annotated, Any

from kshark.api import Details, DissectError, Kind, Message, doc

from .commands import REDACTED, SECRET_SETTINGS, secrets
from .dissector import COMMAND, SNAPSHOT
from .identify import MONITORED
from .resp import Replies, integer
from .words import count, described, failure, split, text, words

ARGS = 256
"""Words of a command that are shown."""
STRING = 1_024
"""Characters of one string that are shown."""
ELEMENTS = 1_000
"""Elements of a reply that are shown, all levels together."""
LEVELS = 16
"""Levels of a reply that are shown."""

KINDS = {
    "+": "simple",
    "-": "error",
    ":": "integer",
    "$": "bulk",
    "*": "array",
    "_": "null",
    "#": "boolean",
    ",": "double",
    "(": "bignum",
    "!": "error",
    "=": "verbatim",
    "%": "map",
    "~": "set",
    ">": "push",
}
PAIRED = {*(name for name in SECRET_SETTINGS), "passwords"}
"""Strings of a reply after which a value is hidden: CONFIG GET, ACL GETUSER."""
HASH = re.compile(r"(?<= )[#>][^ ]+")


class RedisCommand(Details):
    """A command, from a client or from a master to its replica."""

    command: Annotated[str, doc("Name, in upper case", otel="db.operation.name")] = ""
    key: Annotated[str, doc("First key or channel, as in the row")] = ""
    args: Annotated[list[str], doc("Its arguments; secrets are hidden")] = []
    count: Annotated[int, doc("How many arguments it has")] = 0
    inline: Annotated[bool, doc("Sent as a line of text, not as an array")] = False


class RedisReply(Details):
    """A reply, or what the server sends unasked."""

    type: Annotated[str, doc("simple, error, integer, bulk, array, map, push ...")] = ""
    value: Annotated[Any, doc("The value, shortened where it is long")] = None
    error: Annotated[str | None, doc("The text of an error")] = None
    code: Annotated[str | None, doc("First word of an error", otel="db.response.status_code")] = (
        None
    )
    length: Annotated[
        int | None, doc("Bytes of a string, elements of an aggregate (pairs of a map)")
    ] = None
    attributes: Annotated[Any, doc("RESP3 attributes before the value")] = None


def details(message: Message) -> RedisCommand | RedisReply:
    """The typed details of one message."""
    if message.kind == Kind.REQUEST or message.extra == COMMAND:
        return asked(message)
    if message.extra == SNAPSHOT or not message.head:
        return RedisReply(type="rdb" if message.extra == SNAPSHOT else "", length=message.size)
    return answered(message.head)


def asked(message: Message) -> RedisCommand:
    """A command; what is secret in it only this protocol knows."""
    head = message.head
    found = words(head, ARGS + 1)
    hidden = secrets(found)
    shown = [REDACTED if at in hidden else text(word, STRING) for at, word in enumerate(found)]
    return RedisCommand(
        command=message.verb,
        key=message.target,
        args=shown[1:],
        count=max(0, count(head) - 1),
        inline=head[:1] not in (b"*", b""),
    )


def answered(head: bytes) -> RedisReply:
    """A reply."""
    start = described(head)
    reply = RedisReply()
    if start:
        reply.attributes = Preview(head).attributes(start)
    preview = Preview(head[start:])
    reply.type = KINDS.get(chr(head[start]), "") if start < len(head) else ""
    if reply.type == "error":
        code, reply.error = failure(head[start:])
        reply.code = code
    else:
        reply.value = monitored(head[start:]) or preview.value(0)
        reply.length = preview.length
        if reply.type in ("bulk", "array") and preview.length is None and reply.value is None:
            reply.type = "nil"
    return reply


def monitored(value: bytes) -> str:
    """A line of MONITOR, which quotes a command; "" for any other reply."""
    if not MONITORED.match(value):
        return ""
    source, _, command = value[1:].removesuffix(b"\r\n").partition(b"] ")
    found = split(command, ARGS + 1)
    hidden = secrets(found)
    if not hidden:
        return text(value[1:].removesuffix(b"\r\n"), STRING)
    shown = (REDACTED if at in hidden else text(word, STRING) for at, word in enumerate(found))
    return f"{text(source)}] " + " ".join(f'"{word}"' for word in shown)


class Preview:
    """Reads values from raw bytes that may be cut short anywhere, within bounds."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0
        self.budget = ELEMENTS
        self.length: int | None = None  # of the outermost value

    def attributes(self, end: int) -> Any:
        """The attributes before a value, merged."""
        found: dict[str, Any] = {}
        while self.pos < end:
            value = self.value(0)
            if not isinstance(value, dict):
                break
            found |= value
        return found

    def line(self) -> bytes:
        end = self.data.find(b"\r\n", self.pos)
        if end < 0:
            raise EOFError
        line, self.pos = self.data[self.pos : end], end + 2
        return line

    def value(self, level: int) -> Any:
        """The next value; "…" for what is not there or too much."""
        self.budget -= 1
        try:
            line = self.line()
            return self.typed(chr(line[0]), line[1:], level)
        except (EOFError, IndexError, ValueError, DissectError):
            self.pos = len(self.data)
            return "…"

    def typed(self, kind: str, rest: bytes, level: int) -> Any:
        """A value by its type."""
        if kind in "$=!":
            return self.string(kind, rest, level)
        if kind in "*%~>|":
            return self.aggregate(kind, rest, level)
        if kind == ":":
            integer(rest)
            return int(rest)
        if kind == "#":
            return rest == b"t"
        if kind == "_":
            return None
        if kind == ",":
            return number(rest)
        return text(rest, STRING)

    def string(self, kind: str, rest: bytes, level: int) -> Any:
        if rest == b"-1":
            return None
        if rest == b"?":
            return self.streamed()
        size = int(rest)
        raw = self.data[self.pos : self.pos + size]
        self.pos += size + 2
        if not level:
            self.length = size
        shown = text(raw[4:] if kind == "=" else raw, STRING)
        return HASH.sub(REDACTED, shown) if shown.startswith("user ") else shown

    def streamed(self) -> str:
        """A streamed string: its pieces up to the empty one."""
        raw = b""
        while (size := int(self.line()[1:])) > 0:
            raw += self.data[self.pos : self.pos + size]
            self.pos += size + 2
        return text(raw, STRING)

    def aggregate(self, kind: str, rest: bytes, level: int) -> Any:
        if rest == b"-1":
            return None
        size = -1 if rest == b"?" else int(rest)
        if not level:
            self.length = size if size >= 0 else None
        paired = kind in "%|"
        items = self.items(size * 2 if paired and size > 0 else size, level)
        hide(items)
        return mapping(items) if paired else items

    def items(self, size: int, level: int) -> list[Any]:
        """So many elements, or those up to the end mark."""
        items: list[Any] = []
        if level >= LEVELS:
            self.pass_over(size)
            return ["…"] if size else items
        while size and self.pos < len(self.data):
            if size < 0 and self.data[self.pos] == 46:
                self.pos += 3
                return items
            if self.budget <= 0:
                items.append("…")
                break
            items.append(self.value(level + 1))
            size -= 1
        return items

    def pass_over(self, size: int) -> None:
        """Leave elements out that are too deep to show."""
        while size > 0 and self.pos < len(self.data):
            end = Replies().scan(self.data, self.pos)
            self.pos = end if end >= 0 else len(self.data)
            size -= 1


def hide(items: list[Any]) -> None:
    """Hide, in place, what follows the name of a secret, and the secrets of a command (SLOWLOG)."""
    if items and isinstance(items[0], str):
        for at in secrets([str(item).encode("utf-8", "replace") for item in items]):
            items[at] = REDACTED
    for at in range(len(items) - 1):
        if isinstance(items[at], str) and items[at].lower() in PAIRED and items[at + 1]:
            items[at + 1] = REDACTED


def mapping(items: list[Any]) -> Any:
    """A map as an object if its keys are strings, else as a list of pairs."""
    pairs = list(zip(items[::2], items[1::2], strict=False))
    if all(isinstance(key, str) for key, _ in pairs):
        return dict(pairs)
    return [list(pair) for pair in pairs]


def number(rest: bytes) -> float | str:
    """A double; JSON has no infinity."""
    value = float(rest)
    return value if abs(value) < float("inf") else rest.decode()
