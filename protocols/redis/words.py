"""The words of a command and the strings of a reply, from raw bytes that may be cut short."""

from __future__ import annotations

import re

from kshark.api import DissectError

from .resp import PIPE, Replies

TEXT = 256
"""Characters of a key, channel or error text in a row."""
CODE = re.compile(rb"[A-Z][A-Z0-9_]{1,31}")
MOST = 1_024
"""Words of one command that are looked at."""
ESCAPES = {
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
    ord("b"): b"\b",
    ord("a"): b"\a",
}


def text(raw: bytes, most: int = TEXT) -> str:
    r"""Bytes as one printable line; what is no printable UTF-8 is escaped.

    >>> text(b"caf\xc3\xa9 \xff\x00")
    'café \\xff\\x00'
    """
    if len(raw) > most:
        return text(raw[:most], most) + "…"
    try:
        found = raw.decode()
    except UnicodeDecodeError:
        found = raw.decode("utf-8", "backslashreplace")
    return found if found.isprintable() else "".join(map(printable, found))


def printable(char: str) -> str:
    """The character, or its escape where it cannot be shown."""
    return char if char.isprintable() else ascii(char)[1:-1]


def words(head: bytes, most: int) -> list[bytes]:
    """The first words of a command, an array of strings or an inline line; the last may be cut."""
    if head[:1] != b"*":
        return split(head.partition(b"\n")[0], most)
    return strings(head, most)


def strings(head: bytes, most: int) -> list[bytes]:
    """The first strings and numbers of an aggregate, nested ones flattened; the last may be cut."""
    found: list[bytes] = []
    pos = head.find(b"\n") + 1
    while pos and len(found) < most and pos < len(head):
        line = head.find(b"\r\n", pos)
        if line < 0:
            break
        kind, value = head[pos], head[pos + 1 : line]
        pos = line + 2
        if kind in b"$=!" and value.isdigit():
            end = pos + int(value)
            found.append(head[pos:end])
            pos = end + 2
        elif kind in b":+-,(":
            found.append(value)
        elif kind in b"$_*" and value[:1] in (b"-", b""):
            found.append(b"")
    return found


def described(head: bytes) -> int:
    """Where the value begins behind the attributes (RESP3 ``|``) before it; len(head) if cut short."""
    pos = 0
    try:
        while pos < len(head) and head[pos] == PIPE:
            line = head.find(b"\r\n", pos)
            elements, pos = 2 * int(head[pos + 1 : line]), line + 2
            while elements and 0 <= pos < len(head):
                pos = Replies().scan(head, pos)
                elements -= 1
            if pos < 0:
                return len(head)
    except (DissectError, ValueError):
        return len(head)
    return pos


def count(head: bytes) -> int:
    """The number of words of a command."""
    if head[:1] != b"*":
        return len(split(head.partition(b"\n")[0], MOST))
    digits = head[1 : head.find(b"\r\n")]
    return int(digits) if digits.isdigit() else 0


def split(line: bytes, most: int) -> list[bytes]:
    r"""Words of an inline command, as Redis splits it (sdssplitargs): quotes and escapes.

    >>> split(rb'''SET "a b" 'c' "\x00\n"''', 9)
    [b'SET', b'a b', b'c', b'\x00\n']
    """
    found: list[bytes] = []
    pos, size = 0, len(line)
    while len(found) < most:
        while pos < size and line[pos] in b" \t\r\n\v\f":
            pos += 1
        if pos >= size:
            break
        word, pos = one_word(line, pos, size)
        found.append(word)
    return found


def one_word(line: bytes, pos: int, size: int) -> tuple[bytes, int]:
    """The word at `pos` and where it ends."""
    word = bytearray()
    while pos < size and line[pos] not in b" \t\r\n\v\f":
        char = line[pos]
        if char in b"\"'":
            pos = quoted(line, pos + 1, size, char, word)
        else:
            word.append(char)
            pos += 1
    return bytes(word), pos


def quoted(line: bytes, pos: int, size: int, quote: int, word: bytearray) -> int:
    """Add what is between quotes to `word`; gives the offset behind the closing one."""
    while pos < size and line[pos] != quote:
        char = line[pos]
        if char == 0x5C and pos + 1 < size and (quote == 0x22 or line[pos + 1] == quote):
            pos += 1
            char = line[pos]
            digits = line[pos + 1 : pos + 3]
            if quote == 0x22 and char == 0x78 and len(digits) == 2 and hexadecimal(digits):
                word.append(int(digits, 16))
                pos += 3
                continue
            word += ESCAPES.get(char, bytes((char,))) if quote == 0x22 else bytes((char,))
        else:
            word.append(char)
        pos += 1
    return pos + 1


def hexadecimal(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)


def placed(args: list[bytes], key: int) -> str:
    """The first key of a command that has it elsewhere."""
    if key < 0:
        streams = [at for at, word in enumerate(args) if word.upper() == b"STREAMS"]
        key = streams[0] + 1 if streams else len(args)
    elif key > 1 and len(args) > key and args[key - 1] == b"0":
        return ""  # EVAL script 0: no keys
    return text(args[key]) if len(args) > key else ""


def failure(value: bytes) -> tuple[str, str]:
    """The code and the text of an error, simple or bulk."""
    line = value[1:]
    if value[:1] == b"!":
        line = value.partition(b"\n")[2]
    line = line.removesuffix(b"\r\n")
    code = line.split(b" ", 1)[0]
    return (code.decode() if CODE.fullmatch(code) else "ERR"), text(line)
