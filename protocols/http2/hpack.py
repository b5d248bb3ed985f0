"""HPACK (RFC 7541), as somebody decodes it who only listens: `Decoder`, one a side.

A header list is kept as bytes, as `kshark.protocols._fields` says.

An index counts back from the newest entry of the dynamic table. So entries that were seen being added are known
by it, whatever was in the table before: after a join in mid-stream, or a lost block, the table is empty here and
`partial`, and what is older than its oldest entry is unknown, never guessed. For the same reason a table that is
larger than the encoder's own does no harm (nobody refers to what the encoder has forgotten), and one that is
smaller (HPACK_TABLE) only makes old entries unknown. The lengths of the table are those of updates within blocks;
until one is seen it may have any.

``_hpack`` is the compiled twin, equal field by field; this module is its oracle.
"""

from __future__ import annotations

from typing import Final

from kshark import limits
from kshark.protocols._fields import UNKNOWN, field
from kshark.protocols._fields import fields as fields
from kshark.protocols.http2.tables import ENDS, FOUND, NEXT, STATIC

HPACK_TABLE: Final = limits.HPACK_TABLE
HEADER_LIST: Final = limits.HEADER_LIST
DEFAULT: Final = 4096
"""Bytes of the dynamic table until somebody says otherwise (RFC 9113 section 6.5.2)."""
LARGEST: Final = 2**31 - 1
"""No integer of a block is larger."""

# What `Decoder.flags` says of the last block.
BAD: Final = 1
"""It is no HPACK; nothing of it counts, and the table is not known any more."""
PARTLY: Final = 2
"""Names or values are unknown."""
LONG: Final = 4
"""The list is longer than HEADER_LIST, and was cut."""

METHOD: Final = b":method"
PATH: Final = b":path"
STATUS: Final = b":status"
VERBS: Final = {
    name.encode(): name
    for name in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE")
}


class BadBlock(Exception):
    """These bytes are no header block."""


def name_of(entry: bytes) -> bytes | None:
    """The name of one field."""
    size = int.from_bytes(entry[:4])
    return None if size == UNKNOWN else entry[8 : 8 + size]


FIXED: Final = tuple(field(name, value) for name, value in STATIC)
NOBODY: Final = field(None, None)


def unhuff(data: bytes) -> bytes:
    """Decode a Huffman string.

    >>> unhuff(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"))
    b'www.example.com'
    """
    out = bytearray()
    at = 0
    for byte in data:
        step = at << 4 | byte >> 4
        at = NEXT[step]
        if at < 0:
            raise BadBlock
        if FOUND[step] >= 0:
            out.append(FOUND[step])
        step = at << 4 | byte & 15
        at = NEXT[step]
        if at < 0:
            raise BadBlock
        if FOUND[step] >= 0:
            out.append(FOUND[step])
    if not ENDS[at]:
        raise BadBlock
    return bytes(out)


class Decoder:
    """The dynamic table of one side, and what its last block said."""

    __slots__ = (
        "entries",
        "flags",
        "head",
        "partial",
        "room",
        "size",
        "status",
        "target",
        "verb",
    )

    def __init__(self) -> None:
        self.entries: list[bytes] = []  # fields, the newest last
        self.size = 0  # of the entries, by section 4.1
        self.room = DEFAULT  # for entries
        self.partial = False  # there were others before these
        self.reset()

    def reset(self) -> None:
        self.flags = 0
        self.head = b""
        self.verb = self.target = ""
        self.status = 0

    def forget(self) -> None:
        """A block was lost: whatever it added is unknown, and so is the room."""
        self.entries = []
        self.size = 0
        self.room = HPACK_TABLE
        self.partial = True

    def widen(self, room: int) -> None:
        """The peer allows a table of this size; not every encoder says so when it uses it."""
        if room > self.room:
            self.resize(room)

    def resize(self, room: int) -> None:
        """The table has this size from now on; here it has no more than HPACK_TABLE."""
        if room == 0:
            self.partial = False
        elif room > HPACK_TABLE:
            self.partial = True
        self.room = min(room, HPACK_TABLE)
        self.evict(0)

    def decode(self, block: bytes, start: int, end: int) -> int:
        """Decode a whole block, ``block[start:end]``; gives `flags`."""
        self.reset()
        try:
            self.head = b"".join(self.parts(block, start, end))
        except BadBlock:
            self.forget()
            self.flags = BAD
            return BAD
        self.pseudo(self.head)
        return self.flags

    def parts(self, block: bytes, pos: int, end: int) -> list[bytes]:
        """The fields of a block, as far as HEADER_LIST allows."""
        found: list[bytes] = []
        length = 0
        begun = False
        while pos < end:
            byte = block[pos]
            if byte & 0xE0 == 0x20:
                room, pos = integer(block, pos, end, 0x1F)
                if begun:  # section 4.2: only at the beginning
                    raise BadBlock
                self.resize(room)
                continue
            begun = True
            if byte & 0x80:
                index, pos = integer(block, pos, end, 0x7F)
                entry = self.entry(index)
            else:
                mask = 0x3F if byte & 0x40 else 0x0F
                entry, pos = self.literal(block, pos, end, mask)
                if mask == 0x3F:
                    self.add(entry)
            if entry[0] == 0xFF or entry[4] == 0xFF:  # no length known is so large
                self.flags |= PARTLY
            length += len(entry)
            if length > HEADER_LIST:
                self.flags |= LONG
            else:
                found.append(entry)
        return found

    def literal(self, block: bytes, pos: int, end: int, mask: int) -> tuple[bytes, int]:
        """A field that is written out, its name perhaps by index."""
        index, pos = integer(block, pos, end, mask)
        name: bytes | None
        if index:
            name = name_of(self.entry(index))
        else:
            name, pos = string(block, pos, end)
        value, pos = string(block, pos, end)
        return field(name, value), pos

    def entry(self, index: int) -> bytes:
        """The field of that index."""
        if 0 < index <= len(FIXED):
            return FIXED[index - 1]
        back = index - len(FIXED)
        if 0 < back <= len(self.entries):
            return self.entries[-back]
        if index == 0 or not self.partial:
            raise BadBlock
        return NOBODY

    def add(self, entry: bytes) -> None:
        """A new entry of the dynamic table, the old ones make room."""
        size = len(entry) + 24
        if size > self.room:
            if self.room < HPACK_TABLE:  # section 4.4: nothing is left
                self.entries = []
                self.size = 0
                return
            entry = NOBODY  # the encoder has it
            size = len(entry) + 24
        self.evict(size)
        self.entries.append(entry)
        self.size += size

    def evict(self, size: int) -> None:
        """Make room for so many bytes."""
        gone = 0
        while self.size + size > self.room:
            self.size -= len(self.entries[gone]) + 24
            gone += 1
        if gone:
            del self.entries[:gone]

    def pseudo(self, head: bytes) -> None:
        """What a row shows, of the pseudo-headers, which come first (RFC 9113 section 8.3)."""
        for name, value in fields(head):
            if name is None or value is None:
                continue
            if name[:1] != b":":
                return
            if name == METHOD:
                self.verb = VERBS.get(value) or value.decode("latin-1")
            elif name == PATH:
                self.target = value.decode("latin-1")
            elif name == STATUS and len(value) == 3 and value.isdigit():
                self.status = int(value)


def integer(block: bytes, pos: int, end: int, mask: int) -> tuple[int, int]:
    """The integer at `pos`, whose prefix is under `mask` (section 5.1), and the offset after it."""
    value = block[pos] & mask
    pos += 1
    if value < mask:
        return value, pos
    shift = 0
    while pos < end and shift <= 28:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            if value > LARGEST:
                break
            return value, pos
    raise BadBlock


def string(block: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """The string at `pos` (section 5.2), and the offset after it."""
    if pos >= end:
        raise BadBlock
    packed = block[pos] & 0x80
    size, pos = integer(block, pos, end, 0x7F)
    if size > end - pos or size > limits.HEADER_BLOCK:
        raise BadBlock
    raw = block[pos : pos + size]
    return unhuff(raw) if packed else raw, pos + size
