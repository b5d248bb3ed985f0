"""The bases of a dissector, and of a layer, that compiled code feeds without going through Python.

A dissector need not be one: whatever has the methods of `kshark.api.Dissector` is fed by them. A compiled class
that derives from `Feeder` is called at the cost of a C function, and what it finds goes into a `Found` that is
there already, where a list would be made for each call. Beside this file lies ``feeder.pxd``, with which the same
source is compiled; a third party's module in Cython may use it as the built-in protocols do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kshark.api import DissectError, Item, Message


class Found:
    """The messages of one feed, in order. Nearly always there is one, which needs no list.

    >>> from kshark.api import Message
    >>> found = Found()
    >>> found.append(Message(1)); found.append(Message(2))
    >>> len(found), [message.kind for message in found.drain()], len(found)
    (2, [1, 2], 0)
    """

    __slots__ = ("count", "first", "more", "now")

    def __init__(self) -> None:
        self.first: Item | None = None
        self.more: list[Item] = []  # after the first
        self.count = 0
        self.now = 0  # ns: when what is fed came, for who dates messages himself; 0: not said

    def append(self, message: Item) -> None:
        """One more."""
        if self.count:
            self.more.append(message)
        else:
            self.first = message
        self.count += 1

    def only(self) -> Item | None:
        """The one that there is, taken out."""
        message, self.first = self.first, None
        self.count = 0
        return message

    def drain(self) -> list[Item]:
        """All of them, taken out."""
        if not self.count:
            return []
        found = [self.first, *self.more] if self.more else [self.first]
        self.first = None
        if self.more:
            self.more = []
        self.count = 0
        return found  # type: ignore[return-value]  # the first is there, since it was counted

    def __getitem__(self, part: slice) -> list[Item]:
        return [self.first, *self.more][part] if self.first is not None else []

    def __len__(self) -> int:
        return self.count


class Feeder:
    """A dissector by `take`. Who overrides `feed` is fed by that."""

    __slots__ = ()

    def take(self, side: int, data: bytes, found: Found) -> None:
        """As `kshark.api.Dissector.feed`, but what `data` completes goes into `found`."""
        raise NotImplementedError

    def feed(self, side: int, data: bytes) -> Iterable[Item]:
        """The messages that `data` completes."""
        found = Found()
        fault = fault_of(self, side, data, found)
        if fault is None:
            return found.drain()
        if not found.count:
            raise fault
        return before(found.drain(), fault)


class Rider:
    """A `kshark.api.Layer` that is called at the cost of a C function. `now` is when what it is told came, in ns."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0

    def feed(self, side: int, data: bytes) -> Iterable[Message]:
        """The next bytes of one side."""
        raise NotImplementedError

    def gap(self, side: int, missing: int) -> Sequence[Message]:
        """Bytes of one side are lost, -1 where nobody knows how many."""
        raise NotImplementedError

    def end(self, side: int, message: Message) -> Sequence[Message]:
        """The carrier's message of that side is over."""
        raise NotImplementedError

    def slim(self, side: int) -> None:
        """Memory is short: forget the content kept of that side."""
        raise NotImplementedError

    def over(self, side: int) -> Sequence[Message]:
        """That side of a tunnel is over, whose `end` came with its head."""
        return ()


def fault_of(feeder: Feeder, side: int, data: bytes, found: Found) -> DissectError | None:
    """Feed it; the error that follows what it found, which counts all the same."""
    try:
        feeder.take(side, data, found)
    except DissectError as error:
        return error
    return None


def before(found: list[Item], fault: DissectError) -> Iterator[Item]:
    """What was found, then the error."""
    yield from found
    raise fault


def direct(dissector: object) -> Feeder | None:
    """The dissector, where it is fed by `Feeder.take`, and its `feed` is what `Feeder` makes of that."""
    if isinstance(dissector, Feeder) and type(dissector).feed is Feeder.feed:
        return dissector
    return None
