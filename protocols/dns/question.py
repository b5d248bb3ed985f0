"""What a message asks, and the message itself: the plain twin of ``_question.pyx``, its oracle and its fallback."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from kshark import limits
from kshark.api import DissectError, Message

from .codes import TYPES, type_name
from .names import Names

NAME: Final = limits.DNS_NAME
WAITING: Final = limits.DNS_WAITING
SIX_WORDS: Final = 12
DOT: Final = 0x2E
LOCAL: Final = (b"\x05local", b"\x04arpa")
"""Ends of the names that multicast DNS is asked for (RFC 6762 section 3)."""
LETTERS: Final = bytes((chr(byte).isalnum() and byte < 128) or byte in b"-_" for byte in range(256))
"""Which bytes of a label need no quotation."""


class Question:
    """The question that was read last: what it says, until a message asks something else."""

    __slots__ = ("digest", "local", "raw", "target", "type", "verb")

    def __init__(self) -> None:
        self.raw = b""  # its bytes
        self.type = 0
        self.digest = 0  # 32 bits of name, whatever its case, and type
        self.local = False
        self.verb = ""
        self.target = ""

    def read(self, data: bytes) -> None:
        """The first question of a message, which repeats nothing and so has no pointers."""
        if self.raw and data.startswith(self.raw, SIX_WORDS):
            return
        size = len(data)
        at = SIX_WORDS
        plain = True
        while True:
            if at >= size:
                raise DissectError("question beyond the end of the message")
            length = data[at]
            if length == 0:
                break
            if length > 63:
                raise DissectError(f"question with a label of type {length >> 6}")
            if at + length - SIX_WORDS >= NAME:
                raise DissectError(f"name over {NAME} bytes")
            end = at + length + 1
            if end > size:
                raise DissectError("question beyond the end of the message")
            for one in range(at + 1, end):
                if not LETTERS[data[one]]:
                    plain = False
            at = end
        if at + 5 > size:
            raise DissectError("question beyond the end of the message")
        self.raw = data[SIX_WORDS : at + 5]
        lower = self.raw.lower()
        kind = data[at + 1] << 8 | data[at + 2]
        self.local = lower.endswith(LOCAL, 0, at - SIX_WORDS)
        self.type = kind
        self.digest = crc32(lower) ^ kind << 16  # which has lost the difference between 65 and 97
        self.verb = TYPES.get(kind) or type_name(kind)
        if plain and at > SIX_WORDS:
            self.target = dotted(self.raw, at - SIX_WORDS)
        else:
            self.target = quoted(data)


class Asked:
    """Keys of the questions that wait, by id; of more than WAITING the oldest goes."""

    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def put(self, ident: int, key: int) -> None:
        """One more, or another one of this id."""
        if len(self.keys) >= WAITING and ident not in self.keys:
            del self.keys[next(iter(self.keys))]
        self.keys[ident] = key

    def find(self, ident: int, otherwise: int) -> int:
        """The key of the one that has this id."""
        return self.keys.get(ident, otherwise)

    def answered(self, ident: int, key: int) -> None:
        """The one with this id and key waits no more."""
        if self.keys.get(ident) == key:
            del self.keys[ident]


def dotted(question: bytes, end: int) -> str:
    """Labels of letters, up to `end`, as text: a dot in the place of each length."""
    text = bytearray(question[:end])
    at = 0
    while at < end:
        length = text[at]
        text[at] = DOT
        at += length + 1
    return text[1:].decode("latin-1")


def quoted(data: bytes) -> str:
    """The name of the first question, where it is the root or has odd bytes."""
    return Names(data).read(SIX_WORDS)[0]


def piece(data: bytes, start: int, end: int) -> bytes:
    """Bytes `start` to `end`, both within `data`."""
    return data[start:end]


def message(
    kind: int, verb: str, target: str, status: int, ok: bool, key: int, data: bytes
) -> Message:
    """The message that these bytes are."""
    return Message(kind, verb, target, status, ok, key, len(data), data)
