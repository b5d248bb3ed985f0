"""Everything that is captured of one network namespace: its ring, its links, their numbers.

A ring takes the packets of all links, so links that come and go need nothing done. What a user did not
ask for is refused by the kernel filter, which follows the links; what passes it, since a link is newer
than the filter, is sorted out here by name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol

from kshark.api import Block
from kshark.backends import _bpf
from kshark.backends._links import Change, Link, Links
from kshark.backends._netns import inside, label
from kshark.backends._ring import LEAST_FRAME, Ring, Shape
from kshark.backends._tpacket import Walker
from kshark.limits import DEAD_LINKS, LINKS

ETHERNET, RAW_IP = 1, 101
"""Link types of the blocks (LINKTYPE_*)."""
RECORD: Final = 24
"""Bytes of an index record."""
NUMBERS: Final = 65_536
"""Interface numbers there are: 16 bits of an index record."""
UNWANTED: Final = -1

Key = tuple[int, int]
"""A namespace's place in the list of the user, and a link's index in it."""


def globs(target: str | Sequence[str]) -> tuple[str, ...]:
    """The patterns of a target: ``eth*+wl*`` or a list. None of them means all interfaces."""
    given = target.split("+") if isinstance(target, str) else target
    found = tuple(g.strip() for g in given if g.strip())
    return () if "any" in found or "*" in found else found


class Followed(Protocol):
    """A namespace whose links are followed."""

    @property
    def links(self) -> Links: ...

    @property
    def names(self) -> list[str]: ...


def unmatched(wanted: Sequence[str], spaces: Sequence[Followed]) -> str:
    """What is wrong with the globs: there must be one interface at least, and every one that is named."""
    links = [link.name for space in spaces for link in space.links.known.values()]
    for glob in wanted:
        if not fnmatch.filter(links, glob) and (len(wanted) == 1 or not set(glob) & set("*?[")):
            names = ", ".join(sorted({name for space in spaces for name in space.names}))
            return f"no interface {glob}; there is {names or 'none'}"
    return ""


class Numbers:
    """The interface numbers of a backend (into `Block.ifaces`), over all its namespaces.

    A link keeps its number while it lives. A dead link keeps it for the packets that are still in the
    ring; the oldest dead one's is used again once there are more than `DEAD_LINKS`.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._table: tuple[str, ...] = ()
        self._of: dict[Key, int] = {}
        self._dead: dict[Key, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, by number."""
        if len(self._table) != len(self._names):
            self._table = tuple(self._names)
        return self._table

    def find(self, key: Key) -> int:
        return self._of.get(key, UNWANTED)

    def give(self, key: Key, name: str) -> None:
        """Number link `key`, which is called `name` from now on."""
        number = self._of.get(key, UNWANTED)
        if number != UNWANTED:
            self._dead.pop(key, None)
        elif len(self._dead) > DEAD_LINKS or (self._dead and len(self._names) >= NUMBERS):
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            number = self._of.pop(oldest)
        elif len(self._names) < NUMBERS:
            number = len(self._names)
            self._names.append(name)
        else:
            return
        self._of[key] = number
        self._names[number] = name
        self._table = ()

    def retire(self, key: Key) -> None:
        """Link `key` is gone."""
        if key in self._of:
            self._dead[key] = None


class Plan(NamedTuple):
    """What every tap of a backend is told."""

    globs: tuple[str, ...]
    expression: _bpf.Expression
    shape: Shape
    group: int
    promisc: bool


class Tap:
    """One namespace ("" is our own): opened when made, taking packets after `start`."""

    def __init__(
        self, place: int, netns: str, plan: Plan, numbers: Numbers, note: Callable[[str], None]
    ) -> None:
        self._place, self._plan, self._numbers, self._note = place, plan, numbers, note
        self._prefix = f"{label(netns)}/" if netns else ""
        self._newest = 0
        self._full = False
        with inside(netns):
            self.links = Links()
            try:
                self.ring = Ring(plan.shape, plan.group)
            except BaseException:
                self.links.close()
                raise
        self.walker = Walker(self._number)

    @property
    def names(self) -> list[str]:
        """All interfaces there are, wanted or not."""
        return [self._prefix + link.name for link in self.links.known.values()]

    def wants(self, name: str) -> bool:
        return not self._plan.globs or any(fnmatchcase(name, glob) for glob in self._plan.globs)

    def wanted(self) -> list[Link]:
        return [link for link in self.links.known.values() if self.wants(link.name)]

    def start(self) -> None:
        """Number the links there are, and take packets from now on."""
        for link in self.wanted():
            self._add(link)
            if self._plan.globs and not link.up:
                self._note(f"{self._prefix}{link.name} is down")
        self._filter()

    def read(self, ether: bytearray, plain: bytearray) -> list[Block]:
        """The ring's next block, which is ready, as blocks of one link type each.

        They and the two index buffers are borrowed until `give_back`.
        """
        data = self.ring.take()
        ethers, plains = self.walker.walk(data, ether, plain)
        names = self._numbers.names
        found = []
        for index, count, linktype in ((ether, ethers, ETHERNET), (plain, plains, RAW_IP)):
            if count:
                rows = memoryview(index)[: count * RECORD]
                found.append(Block(data.toreadonly(), rows, count, linktype, names))
        return found

    def give_back(self, blocks: list[Block]) -> None:
        """Done with what `read` gave: a view that somebody kept raises ValueError from now on."""
        for block in blocks:
            try:
                block.data.release()
            except BufferError:
                continue  # exported once more; its bytes will change under whoever did that
        self.ring.give_back()

    def refresh(self) -> None:
        """Take in what has happened to the links."""
        changes = self.links.update()
        for change in changes:
            self._follow(change)
        if changes:
            self.walker.forget()
            self._filter()
        if self.links.overflow and not self._full:
            self._full = True
            self._note(f"over {LINKS} interfaces: the packets of the others are left out")

    def close(self) -> None:
        self.ring.close()
        self.links.close()

    def _follow(self, change: Change) -> None:
        """Number, name and note what a link has become."""
        before, after = change
        had = before is not None and self.wants(before.name)
        has = after is not None and self.wants(after.name)
        if after and has:
            self._add(after)
            if not before or not had:
                self._note(f"{self._prefix}{after.name} appeared")
            elif before.name != after.name:
                self._note(f"{self._prefix}{before.name} is called {after.name} now")
        elif before and had:
            self._numbers.retire((self._place, before.number))
            self._note(f"{self._prefix}{before.name} is gone")
            if not self.wanted():
                self._note(
                    f"no interface {'+'.join(self._plan.globs) or 'at all'} is left: waiting for one"
                )

    def _add(self, link: Link) -> None:
        self._numbers.give((self._place, link.number), self._prefix + link.name)
        if self._plan.promisc:
            self.ring.promiscuous(link.number)

    def _number(self, index: int) -> int:
        """Of a link that the walker does not know: it may be newer than what we have read."""
        if index not in self.links.known:
            self.refresh()
        link = self.links.known.get(index)
        if link is not None and not self.wants(link.name):
            return UNWANTED
        return self._numbers.find((self._place, index))

    def _filter(self) -> None:
        known = self.links.known
        self._newest = max(self._newest, *known, 0)
        wanted = sorted(link.number for link in self.wanted()) if self._plan.globs else None
        self.ring.filter(_bpf.whole(self._plan.expression, wanted, self._newest))


def index_bytes(shape: Shape) -> int:
    """Room for the records of the fullest block there can be."""
    return (shape.block // LEAST_FRAME + 1) * RECORD
