"""The steps of a plugin's coroutines, charged to it: what it does between two awaits holds everything up.

What they raise is an `Exception`: whatever else a plugin raises would end the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from kshark.api import Entry, Sink, SinkStats
from kshark.breaker import Charge, Post, interrupted
from kshark.faults import Raised, others, told

T = TypeVar("T")


class Steps(Awaitable[T]):
    """Awaits ``function(*arguments)``, each step of it a call that the breaker knows of."""

    def __init__(
        self, post: Post, charge: Charge, function: Callable[..., Awaitable[T]], *arguments: Any
    ) -> None:
        self.post, self.charge = post, charge
        self.function, self.arguments = function, arguments

    def __await__(self) -> Generator[Any, Any, T]:
        call, charge = self.post.call, self.charge
        steps: Any = call(charge, begun, self.function, self.arguments)
        value: BaseException | None = None
        send = steps.send
        while True:
            try:
                waits_for = call(charge, send, value)
            except StopIteration as end:
                result: T = end.value
                return result
            except BaseException as error:
                if isinstance(error, Exception) or error is value or interrupted(error):
                    raise
                raise Raised(told(error)) from error
            try:
                value = yield waits_for
                send = steps.send
            except GeneratorExit:
                call(charge, steps.close)
                raise
            except BaseException as error:
                value, send = error, steps.throw


def begun(function: Callable[..., Awaitable[Any]], arguments: Sequence[Any]) -> Any:
    """The iterator of an awaitable."""
    awaitable = function(*arguments)
    if not isinstance(awaitable, Awaitable):
        name = getattr(function, "__name__", "it")
        raise TypeError(f"{name}() is not a coroutine function (async def)")
    return awaitable.__await__()


class Guest:
    """A stranger's sink, whose steps are charged to it."""

    def __init__(self, sink: Sink, post: Post, charge: Charge) -> None:
        self.sink, self.post, self.charge = sink, post, charge
        self.books = SinkStats()

    @property
    def waits_for_reader(self) -> bool:
        """See `kshark.lane`."""
        return getattr(self.sink, "waits_for_reader", False) is True

    def stats(self) -> SinkStats:
        """Its books, as last read without a fault."""
        ask = getattr(self.sink, "stats", None)
        if ask is not None:
            try:
                self.books = sound_books(self.post.call(self.charge, ask))
            except BaseException as error:  # a stranger's code
                if others(error, self.charge):
                    raise
        return self.books

    async def flush(self) -> None:
        flush = getattr(self.sink, "flush", None)
        if flush is not None:
            await Steps(self.post, self.charge, flush)

    async def open(self) -> None:
        await Steps(self.post, self.charge, self.sink.open)

    async def write(self, batch: Sequence[Entry]) -> None:
        await Steps(self.post, self.charge, self.sink.write, batch)

    async def close(self) -> None:
        await Steps(self.post, self.charge, self.sink.close)


def sound_books(given: Any) -> SinkStats:
    """A copy of a stranger's books; raises for what is none."""
    if type(given) is not SinkStats:
        raise TypeError("stats() must return SinkStats")
    counts = (given.held, given.filtered, *given.dropped.values())
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("stats() must hold whole numbers, not below 0")
    return SinkStats(given.held, given.filtered, {str(k): v for k, v in given.dropped.items()})
