"""Compressed streams and files: gzip from the standard library, zstandard from the extra."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

from kshark.api import PluginError

Packing = Literal["none", "gz", "zst"]

GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
COPY: Final = 1 << 20
"""Bytes read at once while a rotated file is packed."""


class Codec(Protocol):
    """A compressor of one stream. What `pack` returns can be read back without what comes later."""

    def pack(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Gzip:
    """One gzip member; RFC 1952 lets a file hold several, so appending is sound."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(GZIP_LEVEL, wbits=31)

    def pack(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._stream.flush()


class Zstd:
    """One zstandard frame; RFC 8878 lets a file hold several."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise PluginError(
                "zst needs the package zstandard: pip install 'kshark[compression]'"
            ) from None
        self._stream = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        self._flush_block = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def pack(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(self._flush_block)

    def end(self) -> bytes:
        return self._stream.flush()


CODECS: Final[dict[str, Callable[[], Codec]]] = {"gz": Gzip, "zst": Zstd}


def packing_of(name: str) -> Packing:
    """What the end of a file's name says.

    >>> packing_of("out.ndjson.gz"), packing_of("out.ndjson")
    ('gz', 'none')
    """
    if name.endswith(".gz"):
        return "gz"
    return "zst" if name.endswith(".zst") else "none"


def pack_file(path: Path, packing: Packing) -> None:
    """Replace a file by its compressed form; the plain one goes when the other is whole."""
    codec = CODECS[packing]()
    packed = path.with_name(f"{path.name}.{packing}")
    partial = packed.with_name(f".{packed.name}.partial")
    try:
        with path.open("rb") as source, partial.open("wb") as out:
            shutil.copymode(path, partial)
            while data := source.read(COPY):
                out.write(codec.pack(data))
            out.write(codec.end())
        os.replace(partial, packed)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    path.unlink()
