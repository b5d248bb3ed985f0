"""The ``cgroup`` backend: live packets as the sockets of a cgroup send and get them (cgroup_skb, Linux >= 5.8).

At the root of the version 2 hierarchy these are all sockets of the machine, in whatever network namespace: loopback
and pods of every network plugin. A packet begins at its IP header; which interface it crosses has no name here,
only its way: ``egress``, ``ingress``, or ``lo``. What a machine forwards for others has no socket and is not seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Final

from kshark.api import BackendSpec, PluginError, hookimpl, option
from kshark.backends import _makers
from kshark.backends._libbpf import Object
from kshark.backends._loaded import LEAST_RING, PacketOptions, Wanted, explained
from kshark.backends._packets import Packets
from kshark.backends._tcx import attached

PROGRAMS = ("egress", "ingress")
NAMES: Final = ("egress", "ingress", "lo")
"""In the order of bpf/packet.bpf.c."""


class CgroupOptions(PacketOptions):
    """Options of the ``cgroup`` backend."""

    target: Annotated[
        str | list[str],
        option(
            "Cgroups of the version 2 hierarchy, with all below them, joined by +: "
            "a path, or one below its root (kubepods.slice); the root if empty"
        ),
    ] = ""


class Cgroups:
    """The chosen cgroups."""

    names = NAMES

    def __init__(self, target: str | list[str], note: Callable[[str], None]) -> None:
        self._target, self._note = target, note
        self._links: dict[str, list[int]] = {}
        self._programs: Object | None = None

    def attach(self, programs: Callable[[], Object]) -> None:
        paths = located(self._target)
        self._programs = programs()
        for path in paths:
            try:
                self._attach(self._programs, path)
            except FileNotFoundError:
                raise PluginError(f"cgroup: there is no cgroup {path}") from None
            except OSError as error:
                raise PluginError(f"cgroup: {explained(error)}") from None

    def follow(self) -> None:
        """Cgroups below the chosen ones come and go without us."""

    def check(self) -> None:
        """Attach again where somebody has detached our programs."""
        for path in [p for p, links in self._links.items() if not all(map(attached, links))]:
            programs = self._programs
            if programs is None:
                continue
            for descriptor in self._links.pop(path):
                programs.unlink(descriptor)
            try:
                self._attach(programs, path)
            except FileNotFoundError:
                self._note(f"the cgroup {path} is gone: nothing more is seen of it")
            except OSError as error:
                why = f"{explained(error)}: nothing more is seen of it"
                self._note(f"{path}: the programs were detached: {why}")
            else:
                self._note(f"{path}: the programs were detached: they are attached again")

    def detach(self) -> None:
        self._links.clear()
        if self._programs is not None:
            self._programs.detach()

    def _attach(self, programs: Object, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        links: list[int] = []
        try:
            links.extend(programs.attach_cgroup(name, descriptor) for name in PROGRAMS)
        except OSError:
            for link in links:  # those before the one that is refused
                programs.unlink(link)
            raise
        finally:
            os.close(descriptor)
        self._links[path] = links


def located(target: str | list[str]) -> list[str]:
    """The folders of the chosen cgroups, none of them within another: its packets would come twice."""
    given = target.split("+") if isinstance(target, str) else target
    root = _root()
    found: list[str] = []
    for name in [n for n in given if n] or [root]:
        path = os.path.realpath(os.path.join(root, name))
        if os.path.commonpath([path, root]) != root:
            raise PluginError(f"cgroup: {name} is not in the version 2 hierarchy at {root}")
        for other in found:
            if os.path.commonpath([path, other]) in (path, other):
                raise PluginError(f"cgroup: {other} and {path}: one is within the other")
        found.append(path)
    return found


def _root() -> str:
    if found := _makers.root():
        return found
    raise PluginError("cgroup: no version 2 hierarchy is mounted: mount -t cgroup2 none /mnt")


def unavailable() -> str:
    """Why this backend cannot run here; "" where it can: it does, for a moment."""
    backend = make(CgroupOptions(ring_bytes=LEAST_RING))
    try:
        backend.open()
    except PluginError as error:
        return str(error).removeprefix("cgroup: ")
    backend.release()
    return ""


def make(options: CgroupOptions) -> Packets:
    wanted = Wanted("cgroup", PROGRAMS, options)
    return Packets(wanted, lambda note: Cgroups(options.target, note))


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="cgroup",
            make=make,
            options=CgroupOptions,
            doc="Live packets of all sockets of this machine or of a cgroup, by eBPF programs.",
            available=unavailable,
        )
    ]
