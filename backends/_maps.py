"""Files whose code processes have mapped, from ``/proc/PID/maps``; processes come and go while it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

LINES: Final = 16_384
"""Lines of one process's maps that are looked at; a Java server has 2,000."""

FileKey = tuple[str, int]
"""Device as the kernel writes it (``fd:01``), and inode."""


class Mapped(NamedTuple):
    """A file with code in a process."""

    key: FileKey
    pid: int
    path: str  # as the process names it
    place: str  # address range

    def open_as(self) -> str:
        """A path that leads to this very file, in whatever mount namespace, deleted or not."""
        exact = f"/proc/{self.pid}/map_files/{self.place}"
        if os.path.exists(exact):
            return exact
        return f"/proc/{self.pid}/root{self.path}"


def processes() -> Iterator[int]:
    """All there are, by number."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def mapped(pid: int) -> list[Mapped] | None:
    """The files with code of a process, each once; None where it is gone, or not ours to look at."""
    found: dict[FileKey, Mapped] = {}
    try:
        with open(f"/proc/{pid}/maps", "rb") as lines:
            for number, line in enumerate(lines):
                fields = line.split(None, 5)
                if number >= LINES:
                    break
                if len(fields) < 6 or b"x" not in fields[1] or not fields[5].startswith(b"/"):
                    continue
                key = fields[3].decode(), int(fields[4])
                if key not in found:
                    path = os.fsdecode(fields[5].rstrip(b"\n")).removesuffix(" (deleted)")
                    found[key] = Mapped(key, pid, path, _place(fields[0].decode()))
    except OSError:
        return None
    return list(found.values())


def _place(text: str) -> str:
    """As ``map_files`` has it: without leading zeros."""
    begin, _, end = text.partition("-")
    return f"{int(begin, 16):x}-{int(end, 16):x}"


def comm(pid: int) -> str:
    """The name of a process, "" once it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as reader:
            return reader.read().strip().decode("utf-8", "replace")
    except OSError:
        return ""
