"""ClientHello and ServerHello: read once, leniently; what is missing or wrong is said in `problem`.

RFC 8446 section 4.1, RFC 5246 section 7.4.1; SSLv2: draft-hickman-netscape-ssl section 2.5 and RFC 5246 appendix E.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from .codes import ALPN, KEY_SHARE, SERVER_NAME, SSL2, SSL3, TLS13, VERSIONS, grease

RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3)."""
FIXED: Final = 4 + 2 + 32
"""Head, version and random, which every hello begins with."""
HOST_NAME: Final = 0


class Hello(msgspec.Struct, gc=False):
    """What a hello says, numbers as they are."""

    version: int = 0  # as in the hello, whatever supported_versions says
    random: bytes = b""
    session: bytes = b""
    ciphers: tuple[int, ...] = ()  # of a server: the one
    compressions: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()  # in order
    problem: str = ""  # what is wrong, "" for nothing
    ssl2: bool = False  # its ciphers have three bytes

    def get(self, kind: int) -> bytes | None:
        """The data of the first extension of that type, None without one."""
        return next((data for number, data in self.extensions if number == kind), None)

    def words(self, kind: int, prefix: int = 2) -> list[int]:
        """The numbers of two bytes that an extension lists, behind a length of `prefix` bytes."""
        data = self.get(kind) or b""
        size = int.from_bytes(data[:prefix], "big")
        return list(_words(data[prefix : prefix + size]))

    @property
    def retry(self) -> bool:
        """Whether it is a HelloRetryRequest."""
        return self.random == RETRY

    @property
    def draft(self) -> bool:
        """Whether a server says an early draft of 1.3, which had neither session id nor compression."""
        return self.version & 0xFF00 == 0x7F00

    @property
    def chosen(self) -> int:
        """The version that a server chose."""
        data = self.get(VERSIONS)
        return int.from_bytes(data, "big") if data and len(data) == 2 else self.version

    @property
    def server_name(self) -> str:
        """SNI, "" without one (RFC 6066 section 3)."""
        for kind, name in _names(self.get(SERVER_NAME) or b""):
            if kind == HOST_NAME:
                return printable(name)
        return ""

    @property
    def alpn(self) -> list[str]:
        """Names of protocols above TLS (RFC 7301), of a server: the one."""
        return [printable(name) for name in self.protocols]

    @property
    def protocols(self) -> list[bytes]:
        """The same as bytes."""
        return [data for _, data in pieces((self.get(ALPN) or b"")[2:], 1)]

    @property
    def shares(self) -> list[int]:
        """Groups of a client's key shares."""
        found, data, at = [], self.get(KEY_SHARE) or b"", 2
        while at + 4 <= len(data):
            found.append(int.from_bytes(data[at : at + 2], "big"))
            at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        return found

    @property
    def share(self) -> int:
        """Group of a server's key share, 0 without one."""
        return int.from_bytes((self.get(KEY_SHARE) or b"")[:2], "big")

    @property
    def offered(self) -> list[int]:
        """Versions that a client can speak."""
        return self.words(VERSIONS, 1) or [self.version]

    @property
    def best(self) -> int:
        """The highest of them."""
        return max((v for v in self.offered if not grease(v)), default=self.version)


class Cut(Exception):
    """The bytes end too early."""


class Reader:
    """Fields of a message, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """So many bytes."""
        end = self.at + size
        if end > len(self.data):
            raise Cut
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, prefix: int) -> bytes:
        """Bytes behind their length."""
        return self.take(self.number(prefix))

    def rest(self) -> bytes:
        return self.data[self.at :]


def client_hello(message: bytes) -> Hello:
    """A ClientHello with its head of four bytes; what is there of it, if it is cut."""
    hello, reader = Hello(), Reader(message)
    try:
        _begin(hello, reader)
        hello.ciphers = tuple(_words(reader.vector(2)))
        hello.compressions = reader.vector(1)
        _extensions(hello, reader)
    except Cut:
        hello.problem = "cut"
    return hello


def server_hello(message: bytes) -> Hello:
    """The same of a ServerHello."""
    hello, reader = Hello(), Reader(message)
    try:
        _begin(hello, reader)
        hello.ciphers = (reader.number(2),)
        hello.compressions = b"" if hello.draft else reader.take(1)
        _extensions(hello, reader)
    except Cut:
        hello.problem = "cut"
    return hello


def encrypted_extensions(message: bytes) -> Hello:
    """What a server of TLS 1.3 says beside its hello (RFC 8446 section 4.3.1)."""
    hello, reader = Hello(), Reader(message)
    try:
        reader.take(4)
        _extensions(hello, reader)
    except Cut:
        hello.problem = "cut"
    return hello


def ssl2_hello(message: bytes) -> Hello:
    """A ClientHello as SSLv2 frames it, without the two bytes of length."""
    hello, reader = Hello(ssl2=True), Reader(message)
    try:
        reader.take(1)
        hello.version = reader.number(2)
        ciphers, session, challenge = (reader.number(2) for _ in range(3))
        packed = reader.take(ciphers)
        hello.ciphers = tuple(
            int.from_bytes(packed[at : at + 3], "big") for at in range(0, len(packed) - 2, 3)
        )
        hello.session = reader.take(session)
        hello.random = reader.take(challenge).rjust(32, b"\0")
    except Cut:
        hello.problem = "cut"
    return hello


def ssl2_server_hello(message: bytes) -> Hello:
    """A ServerHello of SSLv2, without its length: the version and what ciphers it leaves."""
    hello, reader = Hello(ssl2=True), Reader(message)
    try:
        reader.take(3)
        hello.version = reader.number(2) or SSL2
        certificate, ciphers, _ = (reader.number(2) for _ in range(3))
        reader.take(certificate)
        packed = reader.take(ciphers)
        hello.ciphers = tuple(
            int.from_bytes(packed[at : at + 3], "big") for at in range(0, len(packed) - 2, 3)
        )
    except Cut:
        hello.problem = "cut"
    return hello


def _begin(hello: Hello, reader: Reader) -> None:
    reader.take(4)
    hello.version = reader.number(2)
    hello.random = reader.take(32)
    if not (SSL3 <= hello.version <= TLS13 or hello.draft):
        hello.problem = "odd version"
    if not hello.draft:
        hello.session = reader.vector(1)


def _extensions(hello: Hello, reader: Reader) -> None:
    if not reader.rest():
        return
    size = reader.number(2)
    block = Reader(reader.rest()[:size])
    found = []
    try:
        while block.rest():
            kind = block.number(2)
            found.append((kind, block.vector(2)))
    finally:
        hello.extensions = tuple(found)
    if reader.at + size != len(reader.data):
        hello.problem = "cut" if reader.at + size > len(reader.data) else "bytes after its end"


def _words(data: bytes) -> Iterator[int]:
    for at in range(0, len(data) - 1, 2):
        yield data[at] << 8 | data[at + 1]


def pieces(data: bytes, prefix: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of vectors in a row; ends where one is cut."""
    at = 0
    while at + prefix <= len(data):
        size = int.from_bytes(data[at : at + prefix], "big")
        at += prefix
        if at + size > len(data):
            return
        yield at, data[at : at + size]
        at += size


def _names(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 + size > len(data):
            return
        yield data[at], data[at + 3 : at + 3 + size]
        at += 3 + size


def printable(name: bytes) -> str:
    r"""A name that may be shown: ASCII as it is, other bytes escaped.

    >>> printable(b"a.example"), printable(b"\xea\xea")
    ('a.example', '\\xea\\xea')
    """
    return "".join(chr(b) if 0x20 < b < 0x7F else f"\\x{b:02x}" for b in name)
