"""Control groups: the path of one whose number a program in the kernel has told, and the number of a path.

The number is the inode of its folder. Hosts have hierarchies of version 2, of version 1 (then that of the memory
controller counts), or both; a number of version 1 has the bit `OLD`. See bpf/group.h.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kshark.api import PluginError
from kshark.backends._libbpf import BpfError
from kshark.limits import GROUP_FOLDERS, GROUP_PATHS

OLD: Final = 1 << 63
"""OLD_GROUP of bpf/group.h."""
ROOT: Final = 1
"""The number of the group of all processes. What is mounted in a container may begin with the container's."""
PAUSE: Final = 1.0
"""Seconds between two looks at all folders."""


def hierarchies() -> dict[int, str]:
    """Where version 2 (0) and the memory controller of version 1 (`OLD`) are mounted."""
    found: dict[int, str] = {}
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = (*after.split(" "), "", "")[:3]
        place = before.split(" ")[4]
        if kind == "cgroup2":
            found.setdefault(0, place)
        elif kind == "cgroup" and "memory" in options.split(","):
            found.setdefault(OLD, place)
    return found


@contextlib.contextmanager
def whole() -> Iterator[int]:
    """A descriptor of the group of all processes, of version 2; `BpfError` where it is not mounted."""
    place = hierarchies().get(0, "")
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(error.errno, "no cgroup version 2 hierarchy is mounted") from None
    try:
        if os.fstat(descriptor).st_ino != ROOT:
            raise BpfError(0, f"{place} is not the root of the cgroup version 2 hierarchy")
        yield descriptor
    finally:
        os.close(descriptor)


def number(path: str) -> int:
    """The number of a group, by its path in a hierarchy or in the file system; `PluginError` where there is none."""
    mounted = hierarchies()
    for mark, place in sorted(
        mounted.items(), reverse=True
    ):  # version 1 first: where both are, it is in use
        inside = path.removeprefix(place) if path.startswith(place) else path
        try:
            return os.stat(f"{place}/{inside}").st_ino | mark
        except OSError:
            continue
    places = " or ".join(mounted.values()) or "/sys/fs/cgroup"
    raise PluginError(f"ebpf: cgroups: there is no {path} in {places}")


class Paths:
    """The paths of control groups, by their numbers."""

    def __init__(self) -> None:
        self._mounted = hierarchies()
        self._known: dict[int, str] = {}
        self._looked = -PAUSE

    def find(self, group: int, pid: int) -> str | None:
        """The path of a group that process `pid` is or was in, if anybody still knows it."""
        if (known := self._known.get(group)) is not None:
            return known
        if (place := self._mounted.get(group & OLD)) is None:
            return None
        path = self._of_process(group, pid, place)
        now = time.monotonic()
        if path is None and now - self._looked >= PAUSE:
            self._looked = now
            self._look(group & OLD, place)
            return self._known.get(group)
        if path is not None:
            self._put(group, path)
        return path

    def _of_process(self, group: int, pid: int, place: str) -> str | None:
        """As the process itself says: quick, and of no use once it has ended."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
            for line in lines:
                _, controllers, path = line.split(":", 2)
                wanted = "memory" in controllers.split(",") if group & OLD else not controllers
                if wanted and os.stat(place + path).st_ino == group & ~OLD:
                    return path
        except (OSError, ValueError):
            return None
        return None

    def _look(self, mark: int, place: str) -> None:
        for inode, path in _folders(place):
            self._put(inode | mark, path)

    def _put(self, group: int, path: str) -> None:
        self._known[group] = path
        if len(self._known) > GROUP_PATHS:
            del self._known[next(iter(self._known))]


def _folders(place: str) -> Iterator[tuple[int, str]]:
    """Inode and path of every group below `place`, itself included."""
    waiting = [""]
    for _ in range(GROUP_FOLDERS):
        if not waiting:
            return
        path = waiting.pop()
        try:
            yield os.stat(place + path).st_ino, path or "/"
            with os.scandir(place + path) as found:
                waiting += [
                    f"{path}/{one.name}" for one in found if one.is_dir(follow_symlinks=False)
                ]
        except OSError:
            continue  # it went meanwhile
