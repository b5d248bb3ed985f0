"""Network namespaces: open something in another one, and be back before anything else happens.

A socket stays in the namespace where it was made, so nothing but its making needs to go there. Only the
calling thread moves (`setns(2)`; `os.setns` is newer than the oldest Python that we run on).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kshark.api import PluginError

CLONE_NEWNET: Final = 0x4000_0000
OWN: Final = "/proc/thread-self/ns/net"
NAMED: Final = "/run/netns"
"""Where ``ip netns`` keeps its names."""


def locate(name: str) -> str:
    """The file of a namespace that is given by path, by process id, or by its ``ip netns`` name."""
    if "/" in name:
        return name
    if os.path.exists(f"{NAMED}/{name}"):
        return f"{NAMED}/{name}"
    if name.isdecimal() or name == "self":
        return f"/proc/{name}/ns/net"
    return f"{NAMED}/{name}"


def label(name: str) -> str:
    """What stands before the interface names of a namespace: ``blue`` in ``blue/eth0``."""
    if name.startswith("/proc/") and name.endswith("/ns/net"):
        return name.split("/")[2]
    return Path(name).name


def identity(name: str) -> tuple[int, int]:
    """The same for every way to name one namespace; `PluginError` if there is none."""
    try:
        stat = os.stat(locate(name))
    except OSError as error:
        raise _explained(name, error) from None
    return stat.st_dev, stat.st_ino


def distinct(names: Iterable[str]) -> list[str]:
    """The namespaces, each once however it is named; our own if none is given."""
    found = {identity(name): name for name in reversed(list(names))}
    return list(reversed(found.values())) or [""]


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread in namespace `name`; back in its own at the end, whatever happens. "" stays here."""
    if not name:
        yield
        return
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _enter(locate(name))
        except OSError as error:
            raise _explained(name, error) from None
        try:
            yield
        finally:
            _set(home)
    finally:
        os.close(home)


def _enter(path: str) -> None:
    there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(there)
    finally:
        os.close(there)


def _set(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _explained(name: str, error: OSError) -> PluginError:
    if isinstance(error, FileNotFoundError):
        if name.isdecimal():
            return PluginError(f"netns {name}: there is no process {name}")
        known = sorted(os.listdir(NAMED)) if os.path.isdir(NAMED) else []
        names = f"; there is {', '.join(known)}" if known and "/" not in name else ""
        return PluginError(f"netns {name}: there is no {locate(name)}{names}")
    if isinstance(error, PermissionError):
        return PluginError(
            f"netns {name}: needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a process: run with sudo"
        )
    return PluginError(f"netns {name}: {locate(name)} is no network namespace: {error.strerror}")
