"""The data of a record as zone files write it (RFC 1035 section 5, RFC 4034, RFC 9460 and others).

What is of an unknown type, or not what its type says, is written as ``\\# length hex`` (RFC 3597 section 5).
"""

from __future__ import annotations

import socket
from base64 import b32hexencode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from kshark import limits
from kshark.api import DissectError

from .codes import PARAMETERS, type_name
from .names import Names
from .rare import RARE

VALUE: Final = limits.DNS_VALUE

FORMS: Final[dict[int, str]] = {
    1: "4",
    2: "n",
    3: "n",
    4: "n",
    5: "n",
    6: "nnLLLLL",
    7: "n",
    8: "n",
    9: "n",
    12: "n",
    13: "ss",
    14: "nn",
    15: "Hn",
    16: "S",
    17: "nn",
    18: "Hn",
    19: "s",
    21: "Hn",
    24: "TBBLttHnb",
    25: "HBBb",
    26: "Hnn",
    28: "6",
    33: "HHHn",
    35: "HHsssn",
    36: "Hn",
    37: "HHBb",
    39: "n",
    43: "HBBx",
    44: "BBx",
    46: "TBBLttHnb",
    47: "nm",
    48: "HBBb",
    49: "b",
    50: "BBHhim",
    51: "BBHh",
    52: "BBBx",
    53: "BBBx",
    56: "S",
    59: "HBBx",
    60: "HBBb",
    61: "b",
    62: "LHm",
    63: "LBBx",
    64: "Hnp",
    65: "Hnp",
    99: "S",
    108: "e",
    109: "e",
    249: "nttHHkk",
    250: "nuHkHHk",
    256: "HHq",
    257: "Baq",
    32768: "HBBx",
    32769: "HBBx",
}
"""What the data of a type are made of, a letter a field (the methods of `Reader`)."""


def rdata(names: Names, kind: int, start: int, end: int) -> str:
    """The data of a record of that type, which lie there in the message."""
    if start == end:
        return ""  # of an update that deletes
    try:
        reader = Reader(names, start, end)
        text = written(reader, kind)
        if text is not None and reader.at == end:
            return shortened(text)
    except (DissectError, ValueError, OverflowError):
        pass
    return shortened(f"\\# {end - start} {names.data[start : min(end, start + VALUE)].hex()}")


def written(reader: Reader, kind: int) -> str | None:
    """The data by their type's form; None where nobody knows it."""
    if kind in RARE:
        return RARE[kind](reader).rstrip()
    form = FORMS.get(kind)
    if form is None:
        return None
    return " ".join(filter(None, [READERS[letter](reader) for letter in form]))


def shortened(text: str) -> str:
    """At most `VALUE` characters."""
    return text if len(text) <= VALUE else text[: VALUE - 1] + "…"


def quoted(raw: bytes) -> str:
    r"""A string between quotation marks.

    >>> print(quoted(b'v=1; "x"\n'))
    "v=1; \"x\"\010"
    """
    if raw.isalnum():
        return f'"{raw.decode("ascii")}"'
    return '"' + "".join(map(_character, raw[:VALUE])) + '"'


def _character(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03}"


class Reader:
    """Reads the fields of one record; `DissectError` where the data end too early."""

    def __init__(self, names: Names, start: int, end: int) -> None:
        self.names = names
        self.at = start
        self.end = end

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.end - self.at:
            raise DissectError("record data end too early")
        self.at += size
        return self.names.data[self.at - size : self.at]

    def rest(self) -> bytes:
        return self.take(self.end - self.at)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def byte(self) -> str:
        return str(self.number(1))

    def word(self) -> str:
        return str(self.number(2))

    def long(self) -> str:
        return str(self.number(4))

    def name(self) -> str:
        """A domain name, which may point to anywhere before."""
        text, self.at = self.names.read(self.at)
        if self.at > self.end:
            raise DissectError("record data end too early")
        return text

    def ipv4(self) -> str:
        return socket.inet_ntop(socket.AF_INET, self.take(4))

    def ipv6(self) -> str:
        return socket.inet_ntop(socket.AF_INET6, self.take(16))

    def string(self) -> str:
        return quoted(self.take(self.number(1)))

    def strings(self) -> str:
        """All that follow, at least one."""
        found = [self.string()]
        while self.at < self.end:
            found.append(self.string())
        return " ".join(found)

    def remaining(self) -> str:
        """The rest, as one string."""
        return quoted(self.rest())

    def tag(self) -> str:
        """Of a CAA record: a word that needs no quotation marks."""
        return self.take(self.number(1)).decode("ascii")

    def hexadecimal(self) -> str:
        return self.rest().hex()

    def base64(self) -> str:
        return b64encode(self.rest()).decode()

    def counted(self) -> str:
        """Bytes with their number in front."""
        raw = self.take(self.number(2))
        return b64encode(raw).decode() if raw else "-"

    def salt(self) -> str:
        return self.take(self.number(1)).hex() or "-"

    def hashed(self) -> str:
        """The next hashed owner of NSEC3."""
        return b32hexencode(self.take(self.number(1))).decode().rstrip("=").lower()

    def covered(self) -> str:
        """The type that a signature covers."""
        return type_name(self.number(2))

    def time(self) -> str:
        return clock(self.number(4))

    def long_time(self) -> str:
        """48 bits of seconds (RFC 8945)."""
        return str(self.number(6))

    def hardware(self) -> str:
        return self.rest().hex("-")

    def types(self) -> str:
        """The bitmap of types of NSEC (RFC 4034 section 4.1.2)."""
        found = []
        while self.at < self.end:
            window, bits = self.number(1), self.take(self.number(1))
            found += [
                type_name(window << 8 | at << 3 | bit)
                for at, byte in enumerate(bits)
                for bit in range(8)
                if byte & 0x80 >> bit
            ]
        return " ".join(found)

    def parameters(self) -> str:
        """Of SVCB and HTTPS (RFC 9460 section 2.1)."""
        found = []
        while self.at < self.end:
            key = self.number(2)
            inner = Reader(self.names, self.at + 2, self.at + 2 + self.number(2))
            self.take(inner.end - inner.at)
            name = PARAMETERS[key] if key < len(PARAMETERS) else f"key{key}"
            value = PARAMETER.get(key, Reader.remaining)(inner) if inner.at < inner.end else ""
            if inner.at != inner.end:
                raise DissectError(f"parameter {name} is too long")
            found.append(f"{name}={value}" if value else name)
        return " ".join(found)

    def listed(self, one: Callable[[Reader], str]) -> str:
        """All that follow, joined by commas."""
        found = []
        while self.at < self.end:
            found.append(one(self))
        return f'"{",".join(found)}"'

    def protocol(self) -> str:
        """One name of ALPN; a comma in it is quoted twice."""
        return quoted(self.take(self.number(1)))[1:-1].replace("\\", "\\\\").replace(",", "\\\\,")

    def key(self) -> str:
        number = self.number(2)
        return PARAMETERS[number] if number < len(PARAMETERS) else f"key{number}"


def clock(seconds: int) -> str:
    """A date as signatures have it.

    >>> clock(1_700_000_000)
    '20231114221320'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")


READERS: Final[dict[str, Callable[[Reader], str]]] = {
    "4": Reader.ipv4,
    "6": Reader.ipv6,
    "B": Reader.byte,
    "H": Reader.word,
    "L": Reader.long,
    "S": Reader.strings,
    "T": Reader.covered,
    "a": Reader.tag,
    "b": Reader.base64,
    "e": Reader.hardware,
    "h": Reader.salt,
    "i": Reader.hashed,
    "k": Reader.counted,
    "m": Reader.types,
    "n": Reader.name,
    "p": Reader.parameters,
    "q": Reader.remaining,
    "s": Reader.string,
    "t": Reader.time,
    "u": Reader.long_time,
    "x": Reader.hexadecimal,
}

PARAMETER: Final[dict[int, Callable[[Reader], str]]] = {
    0: lambda reader: reader.listed(Reader.key),
    1: lambda reader: reader.listed(Reader.protocol),
    3: lambda reader: f'"{reader.word()}"',
    4: lambda reader: reader.listed(Reader.ipv4),
    5: lambda reader: f'"{reader.base64()}"',
    6: lambda reader: reader.listed(Reader.ipv6),
}
"""Parameters that are more than a string, by number."""
