"""Just enough of ELF: sections, symbols of functions, and where in the file an address is (64 bits, little-endian).

Files are other people's: what does not fit gives `ElfError`, and nothing is read outside the file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Iterator
from struct import Struct, error
from typing import Final, NamedTuple

MAGIC: Final = b"\x7fELF\x02\x01"
SYMTAB, DYNSYM = 2, 11
LOAD: Final = 1  # PT_LOAD
FUNCTION: Final = 2  # STT_FUNC
SECTIONS: Final = 4_096
"""Sections and segments that are looked at; a large program has 40."""
SYMBOLS: Final = 4_000_000
"""Symbols of one table; a browser's has 1,500,000."""

_head = Struct("<16xHHIQQQIHHHHHH")
_section = Struct("<IIQQQQIIQQ")
_segment = Struct("<IIQQQQQQ")
_symbol = Struct("<IBBHQQ")


class ElfError(Exception):
    """It is no ELF file that can be read; the text says why, in a few words."""


class Section(NamedTuple):
    name: str
    kind: int
    address: int
    offset: int
    size: int
    link: int


class Elf:
    """An open file. `close` it."""

    def __init__(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as why:
            raise ElfError(why.strerror or "cannot be opened") from None
        try:
            self.data = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            raise ElfError("cannot be read") from None
        finally:
            os.close(descriptor)
        try:
            if self.data[:6] != MAGIC:
                raise ElfError("no 64-bit program")
            self._read()
        except (error, IndexError, OverflowError):
            self.close()
            raise ElfError("a damaged program") from None
        except ElfError:
            self.close()
            raise

    def _read(self) -> None:
        head = _head.unpack_from(self.data)
        self.machine: int = head[1]
        programs, sections = head[4], head[5]
        self._segments = [
            _segment.unpack_from(self.data, programs + at * _segment.size)
            for at in range(min(head[9], SECTIONS))
        ]
        rows = [
            _section.unpack_from(self.data, sections + at * _section.size)
            for at in range(min(head[11], SECTIONS))
        ]
        names = rows[head[12]][4] if head[12] < len(rows) else 0
        self.sections = [
            Section(self.text(names + row[0]), row[1], row[3], row[4], row[5], row[6])
            for row in rows
        ]

    def text(self, at: int) -> str:
        """The string at an offset, of at most 1,024 bytes."""
        end = self.data.find(b"\0", at, at + 1_024)
        return self.data[at : max(end, at)].decode("utf-8", "replace")

    def section(self, *names: str) -> Section | None:
        return next((one for one in self.sections if one.name in names), None)

    def functions(self, wanted: Collection[str]) -> dict[str, int]:
        """Offsets in the file of the functions of these names, as far as they are defined here."""
        found: dict[str, int] = {}
        for section in self.sections:
            if section.kind in (SYMTAB, DYNSYM) and len(found) < len(wanted):
                for name, address in self._named(section, wanted):
                    if (offset := self.offset(address)) is not None:
                        found.setdefault(name, offset)
        return found

    def _named(
        self, section: Section, wanted: Collection[str], any_kind: bool = False
    ) -> Iterator[tuple[str, int]]:
        """Symbols by the place of their names, so that of a large table no other name is read."""
        if section.link >= len(self.sections):
            return
        places = {at: name for name in wanted for at in self._places(section, name)}
        if not places:
            return
        last = min(section.size // _symbol.size, SYMBOLS)
        table = self.data[section.offset : section.offset + last * _symbol.size]
        usable = len(table) // _symbol.size * _symbol.size
        for place, info, _, index, address, _ in _symbol.iter_unpack(table[:usable]):
            if place in places and index and (any_kind or info & 15 == FUNCTION):
                yield places[place], address

    def symbol(self, name: str) -> int | None:
        """The address of a symbol of any kind in the table for linking."""
        for section in self.sections:
            if section.kind == SYMTAB and section.link < len(self.sections):
                for _, address in self._named(section, [name], any_kind=True):
                    return address
        return None

    def _places(self, section: Section, name: str) -> Iterator[int]:
        """Where the name may be in a table's strings: at the end of a longer one, too."""
        strings = self.sections[section.link]
        begin, end = strings.offset, strings.offset + strings.size
        raw = name.encode() + b"\0"
        at = self.data.find(raw, begin, end)
        while at >= 0:
            yield at - begin
            at = self.data.find(raw, at + 1, end)

    def offset(self, address: int) -> int | None:
        """Where in the file an address of the program is."""
        for kind, _, at, virtual, _, size, _, _ in self._segments:
            if kind == LOAD and virtual <= address < virtual + size:
                return int(address - virtual + at)
        return None

    def close(self) -> None:
        self.data.close()
