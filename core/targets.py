"""No sink may write to a file that another writes, or that is being read.

Found before anything is opened, since opening may begin the file anew.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kshark import settings
from kshark.api import Options, PluginError

if TYPE_CHECKING:
    from kshark.plan import Chosen

STDOUT: Final = "-"
FILE: Final = "file"
"""The unit of an option that names a file."""

Place = tuple[int, int] | str


def check_targets(backends: Sequence[Chosen], sinks: Sequence[Chosen]) -> None:
    """`PluginError` where two would share a file, or standard output."""
    taken: dict[Place, str] = {}
    for chosen in backends:
        for path in _read(_target(chosen)):
            taken.setdefault(path, f"is what {chosen.label} reads")
    for chosen in sinks:
        target = _target(chosen)
        place = _written(target)
        if place in taken:
            name = "standard output" if target == STDOUT else target
            raise PluginError(f"sink {chosen.label}: {name} {taken[place]}, choose another target")
        if place is not None:
            taken[place] = f"is written by {chosen.label}"


def _target(chosen: Chosen) -> str:
    """The file that a backend reads or a sink writes, "" where it is none."""
    options: type[Options] = type(chosen.options)
    for one in settings.fields(options):
        if one.unit == FILE:
            return str(getattr(chosen.options, one.attribute))
    return ""


def _read(target: str) -> Iterator[Place]:
    if target in ("", STDOUT):
        return
    for path in [target] if os.path.lexists(target) else glob.iglob(target, recursive=True):
        place = _known(path)
        if place is not None:
            yield place


def _written(target: str) -> Place | None:
    if target == STDOUT:
        return _known("/proc/self/fd/1") or STDOUT
    if not target or "\0" in target:
        return None
    return _known(target) if os.path.exists(target) else os.path.realpath(target)


def _known(path: str) -> Place | None:
    """What tells a file from others; None for a device, which may be shared."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    mode = info.st_mode
    return (info.st_dev, info.st_ino) if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) else None
