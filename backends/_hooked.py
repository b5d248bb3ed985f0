"""The links of one network namespace with programs at them: TCX where the kernel has it, else clsact.

Links that come are attached to, links that go are forgotten. On loopback packets are taken
when they come in only, or every one would come twice; when they leave it is told whose they are.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Protocol

from kshark.api import PluginError
from kshark.backends._clsact import Clsact
from kshark.backends._clsact import missing as no_clsact
from kshark.backends._libbpf import Object
from kshark.backends._links import Change, Link, Links
from kshark.backends._netns import inside, label
from kshark.backends._tap import Numbers
from kshark.backends._tcx import Tcx, supported
from kshark.limits import LINKS

LOOPBACK: Final = 772  # ARPHRD_LOOPBACK
FRAMED: Final = (1, LOOPBACK)
"""Hardware whose packets begin with an Ethernet header; of others with IP, or they are left out."""
AUTO, TCX, CLSACT = "auto", "tcx", "clsact"


class Hook(Protocol):
    """A way to attach a program to a link."""

    def attach(self, index: int, ingress: int, egress: int) -> None: ...

    def attached(self, index: int) -> bool: ...

    def detach(self, index: int) -> None: ...

    def close(self) -> None: ...


class Hooked:
    """Namespace number `place` of the user's list, `netns` ("" is our own)."""

    def __init__(
        self,
        place: int,
        netns: str,
        globs: Sequence[str],
        numbers: Numbers,
        note: Callable[[str], None],
    ) -> None:
        self._place, self._netns, self._globs = place, netns, globs
        self._numbers, self._note = numbers, note
        self._prefix = f"{label(netns)}/" if netns else ""
        self._attached: set[int] = set()
        self._full = False
        self._hook: Hook | None = None
        with inside(netns):
            self.links = Links()

    @property
    def names(self) -> list[str]:
        """All interfaces there are, wanted or not."""
        return [self._prefix + link.name for link in self.links.known.values()]

    def wants(self, name: str) -> bool:
        return not self._globs or any(fnmatchcase(name, glob) for glob in self._globs)

    def start(self, programs: Object, how: str) -> str:
        """Attach to the links there are, in the way `how` says; gives the way that was taken."""
        self._programs = programs
        self._numbered = programs.map("links")
        wanted = [link for link in self.links.known.values() if self.wants(link.name)]
        self._hook, way = self._choose(how, wanted)
        refused = [why for link in wanted if (why := self._add(link))]
        if refused and not self._attached:
            raise PluginError(f"tc: {refused[0]}")
        for why in refused:
            self._note(why)
        for link in wanted:
            if self._globs and not link.up:
                self._note(f"{self._prefix}{link.name} is down")
        return way

    def refresh(self) -> None:
        """Take in what has happened to the links."""
        for change in self.links.update():
            self._follow(change)
        if self.links.overflow and not self._full:
            self._full = True
            self._note(f"over {LINKS} interfaces: the packets of the others are left out")

    def check(self) -> None:
        """Attach again where somebody has detached our programs."""
        for index in list(self._attached):
            link = self.links.known.get(index)
            if link is None or self._hook is None or self._hook.attached(index):
                continue
            self._drop(link)
            why = self._add(link) or "they are attached again"
            self._note(f"{self._prefix}{link.name}: somebody detached the programs: {why}")

    def close(self) -> None:
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.close()
        self.links.close()

    def _choose(self, how: str, links: Sequence[Link]) -> tuple[Hook, str]:
        if how != CLSACT and self._has_tcx(links):
            return Tcx(), TCX
        if how == TCX:
            raise PluginError("tc: this kernel has no TCX (Linux 6.6): choose hook=clsact")
        if why := no_clsact():
            raise PluginError(f"tc: {why}")
        hook = Clsact(self._netns)
        if stale := hook.clean():
            self._note(f"{stale} filters of a kshark that did not end properly are removed")
        return hook, CLSACT

    def _has_tcx(self, links: Sequence[Link]) -> bool:
        with inside(self._netns):
            for link in links:
                try:
                    return supported(self._programs.fd("frame"), link.number)
                except OSError as error:
                    if error.errno != errno.ENODEV:
                        raise PluginError(f"tc: {link.name}: {error.strerror}") from None
        return True

    def _follow(self, change: Change) -> None:
        """Attach to, name and note what a link has become."""
        before, after = change
        had = before is not None and self.wants(before.name)
        has = after is not None and self.wants(after.name)
        if after and has:
            why = self._add(after)
            if why:
                self._note(why)
            elif not before or not had:
                self._note(f"{self._prefix}{after.name} appeared")
            elif before.name != after.name:
                self._note(f"{self._prefix}{before.name} is called {after.name} now")
        elif before and had:
            self._drop(before)
            self._note(f"{self._prefix}{before.name} is gone")
            if not any(self.wants(link.name) for link in self.links.known.values()):
                wanted = "+".join(self._globs) or "at all"
                self._note(f"no interface {wanted} is left: waiting for one")

    def _add(self, link: Link) -> str:
        """Number, name and attach to a link; gives why not, where that is worth saying."""
        key = self._place, link.number
        self._numbers.give(key, self._prefix + link.name)
        number = self._numbers.find(key)
        if number < 0 or self._hook is None or link.number in self._attached:
            return ""
        ingress = self._programs.fd("frame" if link.hardware in FRAMED else "bare")
        egress = self._programs.fd("leaving") if link.hardware == LOOPBACK else ingress
        index = link.number.to_bytes(4, sys.byteorder)
        try:
            self._numbered.put(index, number.to_bytes(2, sys.byteorder))
            with inside(self._netns):
                self._hook.attach(link.number, ingress, egress)
        except (OSError, PluginError) as error:
            self._numbered.drop(index)
            if isinstance(error, OSError) and error.errno == errno.ENODEV:
                return ""  # it went while we were at it
            reason = error.strerror if isinstance(error, OSError) else error
            return f"{self._prefix}{link.name} is not captured: {reason}"
        self._attached.add(link.number)
        return ""

    def _drop(self, link: Link) -> None:
        self._numbers.retire((self._place, link.number))
        if link.number in self._attached and self._hook is not None:
            self._attached.discard(link.number)
            self._hook.detach(link.number)
            self._numbered.drop(link.number.to_bytes(4, sys.byteorder))
