"""Where functions of a Go program begin and return, by its ``.gopclntab``, which no linker strips.

A return is where the table of stack depths says that nothing of the frame is left, and the code is a RET (x86-64), or
each RET of the function (arm64, whose instructions are all of one size). So no instruction is ever guessed at: a probe
in the midst of one would break the program. (Go src/runtime/symtab.go, src/cmd/link/internal/ld/pcln.go.)
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from kshark.backends._elf import Elf, ElfError

TABLES: Final = (".gopclntab", ".data.rel.ro.gopclntab")
MAGICS: Final = {0xFFFF_FFF0: "Go 1.18", 0xFFFF_FFF1: "Go 1.20"}
OLD: Final = {0xFFFF_FFFB: "Go 1.2", 0xFFFF_FFFA: "Go 1.16"}
X86, ARM = 62, 183
RET_X86: Final = 0xC3
RET_ARM: Final = b"\xc0\x03\x5f\xd6"
FUNCTIONS: Final = 2_000_000
"""Functions of a program that are looked through; a kubelet has 100,000."""
RANGES: Final = 65_536
"""Ranges of stack depth of one function; those of crypto/tls have 40."""

_header = Struct("<IHBBQQQQQQQQ")
_entry = Struct("<II")
_function = Struct("<IiiIIII")


class Function(NamedTuple):
    """Offsets in the file: where it begins, and where it returns."""

    begins: int
    returns: tuple[int, ...]


def is_go(elf: Elf) -> bool:
    return elf.section(*TABLES, ".go.buildinfo") is not None


def functions(elf: Elf, wanted: tuple[str, ...]) -> dict[str, Function]:
    """The wanted ones that the program has; `ElfError` where its tables cannot be read."""
    section = elf.section(*TABLES)
    if section is None:
        raise ElfError("a Go program without its function table")
    return _Table(elf, section.offset, section.size).find(wanted)


class _Table:
    def __init__(self, elf: Elf, at: int, size: int) -> None:
        self._elf, self._at, self._end = elf, at, at + size
        header = _header.unpack_from(elf.data, at)
        magic, self._quantum, width = header[0], header[2], header[3]
        if magic in OLD:
            raise ElfError("built with a Go before 1.18")
        if magic not in MAGICS or width != 8:
            raise ElfError("built with a Go that is not known here")
        self._count = min(header[4], FUNCTIONS)
        self._text = self._begin_of_text(header[6])
        self._names, self._steps, self._rows = at + header[7], at + header[10], at + header[11]

    def _begin_of_text(self, said: int) -> int:
        """Go 1.26 leaves it out of the header."""
        if said:
            return said
        found = self._elf.symbol("runtime.text")
        section = self._elf.section(".text")
        if found is None and section is not None:
            found = section.address
        if found is None:
            raise ElfError("a Go program without code")
        return found

    def find(self, wanted: tuple[str, ...]) -> dict[str, Function]:
        data, places = self._elf.data, {}
        for name in wanted:
            place = data.find(b"\0" + name.encode() + b"\0", self._names, self._steps)
            if place >= 0:
                places[place + 1 - self._names] = name
        found: dict[str, Function] = {}
        rows = data[self._rows : self._rows + self._count * _entry.size]
        for begins, at in _entry.iter_unpack(rows):
            if len(found) == len(places):
                break
            place = self._rows + at
            named = places.get(int.from_bytes(data[place + 4 : place + 8], "little"))
            if named is not None:
                found[named] = self._function(begins, _function.unpack_from(data, place)[4])
        return found

    def _function(self, begins: int, steps: int) -> Function:
        first = self._text + begins
        start = self._elf.offset(first)
        if start is None:
            raise ElfError("a Go function outside of the program")
        returns, end = [], 0
        for begin, end, depth in self._depths(self._steps + steps):
            if self._elf.machine != X86 or depth or not begin:
                continue
            # More code may follow it at the same depth: that which asks for a larger stack.
            if self._elf.data[start + begin] == RET_X86:
                returns.append(start + begin)
            elif end - begin == 1:
                raise ElfError("a Go program whose tables do not fit its code")
        if self._elf.machine == ARM:
            code = self._elf.data[start : start + end]
            returns = [start + at for at in range(0, len(code), 4) if code[at : at + 4] == RET_ARM]
        if not returns:
            raise ElfError("a Go function without a return")
        return Function(start, tuple(returns))

    def _depths(self, at: int) -> list[tuple[int, int, int]]:
        """Ranges of a function's code and how deep its stack is there."""
        found: list[tuple[int, int, int]] = []
        value, code = -1, 0
        while len(found) < RANGES:
            step, at = self._varint(at)
            if not step and code:
                return found
            value += (step >> 1) ^ -(step & 1)
            length, at = self._varint(at)
            found.append((code, code + length * self._quantum, value))
            code += length * self._quantum
        raise ElfError("a damaged Go program")

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while shift < 64:
            byte = self._elf.data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
        raise ElfError("a damaged Go program")
