"""The programs that watch sockets, set up as the user wants them and loaded."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, Protocol

from kshark.api import PluginError
from kshark.backends import _capabilities, _cgroups, _libbpf, _netns, _tracefs
from kshark.backends._libbpf import BpfError, Object
from kshark.bpf import program
from kshark.limits import KIB, PORTS, SOCKET_COMMS, SOCKET_GROUPS, SOCKET_PIDS, SOCKET_SPACES

LEAST_RING: Final = 256 * KIB
"""Bytes: a few of the longest records."""
MOST_PAYLOAD: Final = 64 * KIB
"""PAYLOAD of bpf/call.h."""
COMM: Final = 16
"""TASK_COMM_LEN: a name with the NUL after it."""


class Wanted(NamedTuple):
    """What the user asks for; nothing in a list means all."""

    ports: Sequence[int] = ()
    pids: Sequence[int] = ()
    comms: Sequence[str] = ()
    netns: Sequence[str] = ()
    cgroups: Sequence[str] = ()
    payload: int = 16 * KIB
    ring_bytes: int = LEAST_RING

    def check(self) -> None:
        """`PluginError` for what cannot be."""
        for name, values, most, bound in (
            ("ports", self.ports, PORTS, 65_536),
            ("pids", self.pids, SOCKET_PIDS, 1 << 22),
        ):
            if len(values) > most:
                raise PluginError(f"ebpf: at most {most} {name}")
            if not all(0 < value < bound for value in values):
                raise PluginError(f"ebpf: {name} must be between 1 and {bound - 1}")
        for name, texts, most in (
            ("comms", self.comms, SOCKET_COMMS),
            ("netns", self.netns, SOCKET_SPACES),
            ("cgroups", self.cgroups, SOCKET_GROUPS),
        ):
            if len(texts) > most:
                raise PluginError(f"ebpf: at most {most} {name}")
        if not 0 <= self.payload <= MOST_PAYLOAD:
            raise PluginError(f"ebpf: payload must be between 0 and {MOST_PAYLOAD}")
        if not LEAST_RING <= self.ring_bytes <= 1 << 30:
            raise PluginError(f"ebpf: ring_bytes must be between {LEAST_RING} and {1 << 30}")


class Question(NamedTuple):
    """Whether a map says what is wanted (`enum question` of bpf/filter.h), and what is in it."""

    map: str
    keys: frozenset[bytes]


def questions(wanted: Wanted) -> list[Question]:
    """In the order of the enum; `PluginError` for what is not there."""
    spaces = [_netns.identity(name)[1] for name in wanted.netns]
    groups = [_cgroups.number(path) for path in wanted.cgroups]
    comms = [comm.encode()[: COMM - 1].ljust(COMM, b"\0") for comm in wanted.comms]
    return [
        Question("ports", _keys(2, wanted.ports)),
        Question("pids", _keys(4, wanted.pids)),
        Question("comms", frozenset(comms)),
        Question("spaces", _keys(4, spaces)),
        Question("groups", _keys(8, groups)),
    ]


def _keys(width: int, values: Sequence[int]) -> frozenset[bytes]:
    return frozenset(value.to_bytes(width, sys.byteorder) for value in values)


def ask(found: Object, new: Sequence[Question], old: Sequence[Question]) -> None:
    """Have the programs ask `new` in place of `old`, while they run: at no moment less than both want is told."""
    for number, (after, before) in enumerate(zip(new, old, strict=True)):
        table = found.map(after.map)
        for key in after.keys - before.keys:
            table.put(key, b"\1")
        asks = int(bool(after.keys))
        found.map("questions").put(
            number.to_bytes(4, sys.byteorder), asks.to_bytes(4, sys.byteorder)
        )
        for key in before.keys - after.keys:
            table.drop(key)


def load(wanted: Wanted, name: str, only: Collection[str] | None, **constants: int) -> Object:
    """The object called `name`, of which `only` these programs (None: all), loaded and not yet attached."""
    found = Object(
        program(name),
        only=only,
        constants={"own_pid": os.getpid(), **constants},
        sizes={"ring": 1 << (wanted.ring_bytes - 1).bit_length(), "scratches": _libbpf.cpus()},
    )
    try:
        found.load()
        _fill(found, wanted)
    except BaseException:
        found.close()
        raise
    return found


def _fill(found: Object, wanted: Wanted) -> None:
    """Tell the programs what to leave out."""
    ask(found, questions(wanted), questions(Wanted()))
    set_limits(found, wanted.payload, 1)


def open_sockets() -> bytes:
    """Who has which socket at this moment: records for `Owners.begin`."""
    found = Object(program("sockets"))
    try:
        found.load()
        return found.iterate("sockets")
    finally:
        found.close()


class Settled(Protocol):
    """A map that takes values, whoever loaded it."""

    def put(self, key: bytes, value: bytes) -> None: ...


class Running(Protocol):
    """Programs that run, whoever loaded them."""

    def map(self, name: str) -> Settled: ...


def set_limits(found: Running, payload: int, one_in: int, any_opaque: bool = False) -> None:
    """How many bytes of each call are taken, of how many connections one is told (a power of two), and whether
    there are opaque ones.

    May be called while the programs run.
    """
    words = (word.to_bytes(4, sys.byteorder) for word in (payload, one_in, int(any_opaque)))
    found.map("settings").put(bytes(4), b"".join(words))


def wanted_capabilities() -> list[str]:
    """What loading and attaching needs; uid 0 reads tracefs, whatever else it may."""
    wanted = ["cap_bpf", "cap_perfmon"]
    if os.geteuid():
        wanted.append("cap_dac_read_search")
    if not _tracefs.mounted():
        wanted.append("cap_sys_admin")  # to mount tracefs
    return wanted


def explained(error: BpfError) -> str:
    """A refusal as one line that says what to do."""
    denied = error.errno in (errno.EPERM, errno.EACCES)
    if denied and (lacks := _capabilities.lacking(wanted_capabilities())):
        return _capabilities.advice(lacks)
    if error.errno == errno.ENOENT and "tracefs" in str(error.strerror):
        return "this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)"
    return str(error.strerror)
