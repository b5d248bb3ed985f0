"""The ``tc`` backend: live packets of chosen interfaces, by programs at both ways of each (Linux >= 5.8).

What it sees of a link is what AF_PACKET sees of it, frames of segmentation offload whole. It is for links rather
than for all: the choice is made where a packet passes, so what is not wanted costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from kshark.api import BackendSpec, PluginError, hookimpl, option
from kshark.backends._hooked import AUTO, Hooked
from kshark.backends._libbpf import Object
from kshark.backends._loaded import PacketOptions, Wanted, missing
from kshark.backends._netns import distinct
from kshark.backends._packets import Packets
from kshark.backends._tap import Numbers, globs, unmatched

PROGRAMS = ("frame", "bare", "leaving")


class TcOptions(PacketOptions):
    """Options of the ``tc`` backend."""

    target: Annotated[
        str | list[str], option("Interfaces by name or glob, joined by + (eth*+lo); all if empty")
    ] = ""
    netns: Annotated[
        list[str],
        option("Network namespaces instead of our own: path, `ip netns` name or process id"),
    ] = []
    hook: Annotated[
        Literal["auto", "tcx", "clsact"],
        option("Where programs are attached: TCX (Linux 6.6), else a clsact qdisc"),
    ] = "auto"


class Spaces:
    """The links of the chosen namespaces."""

    def __init__(self, options: TcOptions, note: Callable[[str], None]) -> None:
        self._options, self._note = options, note
        self._numbers = Numbers()
        self._spaces: list[Hooked] = []

    @property
    def names(self) -> tuple[str, ...]:
        return self._numbers.names

    def attach(self, programs: Callable[[], Object]) -> None:
        wanted = globs(self._options.target)
        for place, netns in enumerate(distinct(self._options.netns)):
            self._spaces.append(Hooked(place, netns, wanted, self._numbers, self._note))
        if why := unmatched(wanted, self._spaces):
            raise PluginError(f"tc: {why}")
        ways = {space.start(programs(), self._options.hook) for space in self._spaces}
        if self._options.hook == AUTO and "clsact" in ways:
            self._note("this kernel has no TCX: programs are attached by clsact")

    def follow(self) -> None:
        for space in self._spaces:
            space.refresh()

    def check(self) -> None:
        for space in self._spaces:
            space.check()

    def detach(self) -> None:
        spaces, self._spaces = self._spaces, []
        for space in spaces:
            space.close()


def make(options: TcOptions) -> Packets:
    wanted = Wanted("tc", PROGRAMS, options)
    return Packets(wanted, lambda note: Spaces(options, note))


@hookimpl
def register_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="tc",
            make=make,
            options=TcOptions,
            doc="Live packets of this machine's network interfaces, by eBPF programs at them.",
            available=lambda: missing(PROGRAMS),
            rank=5,
        )
    ]
