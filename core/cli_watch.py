"""``--watch``: run again whenever one of some files changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import click

from kshark.api import PluginError
from kshark.stderr import say

POLL: Final = 0.2
"""Seconds between two looks at the files: no descriptor, works on every file system."""


def again_and_again(
    paths: Sequence[str],
    once: Callable[[], int],
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Call `once` now and after each change, until interrupted; gives its last exit code."""
    if not paths:
        raise PluginError("--watch needs --plugin FILE: that is what it watches")
    while True:
        before = stamps(paths)
        code = _guarded(once)
        say(f"watching {', '.join(paths)} (Ctrl-C ends it)")
        try:
            while stamps(paths) == before:
                pause(POLL)
        except KeyboardInterrupt:
            return code
        if os.isatty(1):
            click.clear()
        else:
            click.echo("----")


def stamps(paths: Sequence[str]) -> list[tuple[int, int]]:
    """When the files were changed, and their sizes; zeros for one that is just being replaced."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return found


def _guarded(once: Callable[[], int]) -> int:
    """A file that is half written is no reason to stop."""
    try:
        return once()
    except PluginError as error:
        say(str(error))
        return 2
