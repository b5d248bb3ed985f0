"""Compressed captures: gzip, bzip2, xz and zstd, recognised by their first bytes, not by a name.

All give the same face, that of `bz2.BZ2Decompressor`: ``decompress(data, max_length)``, ``eof``,
``unused_data``, ``needs_input``. What one call gives is bounded, so a bomb costs time, not memory.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

MAGIC: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
LONGEST: Final = max(map(len, MAGIC))
ERRORS: Final = (zlib.error, lzma.LZMAError, OSError, ValueError)
XZ_MEMORY: Final = 256 * 1024 * 1024
"""Bytes that xz may take for its dictionary; xz -9 needs 65 MiB."""
MORSEL: Final = 1_024
"""Bytes given to zstd at once: at most 256 blocks of 128 KiB come out (RFC 8878 section 3.1.1.2)."""


class Decompressor(Protocol):
    """One member (gzip), stream (xz, bzip2) or frame (zstd)."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def kind(head: bytes) -> str:
    """The compression that `head` begins, or ""."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


class Inflate:
    """A gzip member."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self._left = b""
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._zlib.decompress(self._left + data, max(max_length, 0))
        self._left = self._zlib.unconsumed_tail
        self.eof = self._zlib.eof
        self.unused_data = self._zlib.unused_data
        self.needs_input = not self._left and len(out) != max_length
        return out


class Frame:
    """A zstd frame, by the package zstandard."""

    def __init__(self, zstandard: Any) -> None:
        self._error = zstandard.ZstdError
        self._zstd = zstandard.ZstdDecompressor().decompressobj()
        self._left = b""
        self._out = b""
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self._left += data
        pieces, have = [self._out], len(self._out)
        while self._left and not self._zstd.eof and (max_length < 0 or have < max_length):
            piece = self._morsel()
            pieces.append(piece)
            have += len(piece)
        out = b"".join(pieces)
        cut = len(out) if max_length < 0 else max_length
        self._out = out[cut:]
        self.eof = self._zstd.eof and not self._out
        if self.eof:
            self.unused_data, self._left = self._zstd.unused_data + self._left, b""
        self.needs_input = not self._out and not self._left
        return out[:cut]

    def _morsel(self) -> bytes:
        morsel, self._left = self._left[:MORSEL], self._left[MORSEL:]
        try:
            return bytes(self._zstd.decompress(morsel))
        except self._error as error:
            raise ValueError(str(error)) from None


def maker(name: str) -> Callable[[], Decompressor] | None:
    """What makes a decompressor for each member; None where zstd's package is missing."""
    if name == "gzip":
        return Inflate
    if name == "bzip2":
        return bz2.BZ2Decompressor
    if name == "xz":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    try:
        import zstandard
    except ImportError:
        return None
    return lambda: Frame(zstandard)
