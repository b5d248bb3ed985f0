"""The engine: packets in, entries out. Synchronous, no I/O, no clock; one an engine process.

    >>> from kshark.engine import Engine
    >>> engine = Engine([])
    >>> engine.finish(), engine.ledger.check()
    ([], [])

It drives what flows share (`kshark.shared`): the wire, time, memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType

from kshark import limits, wire
from kshark.api import Block, Entry, ProtocolSpec
from kshark.breaker import Charge, Watch, interrupted
from kshark.clear import Clear
from kshark.faults import kind_of, line
from kshark.flow import Guard
from kshark.layers import carried
from kshark.leaks import Scales
from kshark.ledger import Ledger
from kshark.shared import FLOWS as FLOWS
from kshark.shared import EngineSettings as EngineSettings
from kshark.shared import Shared
from kshark.shedding import shed
from kshark.wire import Consumer, WireFlow

EVICT_STEP = 16
END_STEP = 1_024
"""Flows that end at once when the capture is over."""


class Engine(Shared):
    """See the module. `say` hears one line for each new kind of trouble."""

    def __init__(
        self,
        specs: Sequence[ProtocolSpec],
        settings: EngineSettings | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        settings = settings or EngineSettings()
        known = [s for s in specs if s.name not in FLOWS]  # they have no dissector
        wanted = [s for s in known if not settings.only or s.name in needed(settings.only, known)]
        super().__init__(wanted, settings)
        self.say = say
        self.guard = guard_class()
        self.blamed: set[tuple[str, str]] = set()
        self.carried = carried(self, wanted)
        self.broken = False  # a plugin failed, or was switched off
        self.scales = Scales(self, self.states.values())
        self.wire = wire.load()(self.open, settings.limits, settings.dedupe, settings.keep_packets)
        self.ledger = Ledger(self.tally, self.wire.counters)

    # ------------------------------------------------------------ in

    def feed(self, block: Block) -> list[Entry]:
        """Packets of one block; the entries that they complete."""
        if block.secrets:
            self.tell(block.secrets)
        if block.within:
            self.uncover(block)
        else:
            self.wire.feed(block)
        self.pass_time(self.wire.now)
        if self.scales.strangers:
            self.scales.look()
        if self.memory > self.settings.limits.memory:
            self.shrink()
        return self.take()

    def uncover(self, block: Block) -> None:
        """What connections carry in clear."""
        if self.clear is None:
            self.clear = Clear(self)
        self.clear.feed(block)

    def pass_time(self, now: int) -> None:
        if self.timers:
            self.expire(now)
        if self.clear is not None:
            self.clear.expire(now)

    def tell(self, secrets: Sequence[bytes]) -> None:
        """Key logs that the capture holds."""
        for spec in self.specs.values():
            if spec.secrets is not None:
                self.tell_one(spec, spec.secrets, secrets)

    def tell_one(
        self, spec: ProtocolSpec, learn: Callable[[bytes], None], secrets: Sequence[bytes]
    ) -> None:
        """One protocol learns them, with the breaker's clock on it."""
        tally = self.tally
        tally.feeds += 1
        tally.current = self.states[spec.name]
        try:
            for one in secrets:
                learn(one)
        except BaseException as error:
            tally.current = None
            if interrupted(error):
                raise
            self.blame(spec.name, error, "secrets()")
        tally.current = None

    def tick(self, now_ns: int) -> list[Entry]:
        """Time passes without packets (live): timers run."""
        self.wire.tick(now_ns)
        self.pass_time(now_ns)
        return self.take()

    def finish(self) -> list[Entry]:
        """The capture is over: every flow ends."""
        return [entry for batch in self.ending() for entry in batch]

    def ending(self) -> Iterator[list[Entry]]:
        """The same step by step: what ends makes room for its entries."""
        while self.wire.finish(END_STEP):
            yield self.take()
        if self.clear is not None:
            self.clear.finish()
        yield self.take()

    def take(self) -> list[Entry]:
        """The entries completed since the last call."""
        out = self.out[:]
        self.out.clear()
        return out

    def open(self, flow: WireFlow) -> Consumer:
        """A new flow."""
        if not self.since:
            self.since = flow.first_ns
        guard = self.guarded(flow)
        if self.clear is not None:
            self.clear.opened(guard)
        return guard

    def guarded(self, flow: WireFlow) -> Guard:
        """The guard of a flow, or of one within another."""
        guard = self.guard(self, flow)
        self.guards[guard] = None
        return guard

    def watch_dissectors(self) -> Watch:
        """The breaker's sampler for this engine, not started."""
        return Watch(self.tally, self.switched_off)

    # ------------------------------------------------------------ trouble

    def blame(self, name: str, error: BaseException, where: str = "the dissector") -> str:
        """What a plugin should not have done: counted; said once a protocol and kind. Gives it in short."""
        kind = kind_of(error)
        self.broken = True
        self.ledger.count(self.ledger.errors, f"{name}: {kind} in the plugin")
        if (name, kind) not in self.blamed:
            self.blamed.add((name, kind))
            self.say(line(name, where, error, "the flow goes on as unknown"))
        state = self.states.get(name)
        if state is not None:
            state.errors += 1
            often = state.errors * limits.BREAKER_FAILS >= state.flows
            if state.errors >= limits.BREAKER_ERRORS and often and not state.tripped:
                text = f"{name} is switched off: {state.errors} unexpected exceptions"
                state.tripped = text
                self.switched_off(state)
        return kind

    def switched_off(self, charge: Charge) -> None:
        """A breaker has tripped."""
        self.broken = True
        self.say(charge.tripped)

    # ------------------------------------------------------------ time and memory

    def expire(self, now: int) -> None:
        """Guards whose oldest request has waited too long. Oldest first, so this stops early."""
        due = []
        for guard, when in self.timers.items():
            if when > now:
                break
            due.append(guard)
        for guard in due:
            del self.timers[guard]
            again = guard.expire(now)
            if again:
                self.timers[guard] = again

    @property
    def memory(self) -> int:
        """Bytes accounted: flows and what they hold back, dissectors, messages under way or waiting."""
        dissectors = self.tally.dissectors * limits.DISSECTOR_COST
        return self.wire.memory + self.tally.reserved + dissectors + self.scales.unaccounted

    def shrink(self) -> None:
        """Over the memory bound. Where the messages of a few flows fill half of it these flows pay, and
        stay; else the flows that were idle longest go."""
        self.ledger.count(self.ledger.limits, "memory")
        bound = self.settings.limits.memory
        if self.tally.reserved > bound // 2:
            shed(self, bound * 3 // 8)
        while self.memory > bound and self.wire.flows:
            self.wire.evict(EVICT_STEP)


def needed(only: frozenset[str], known: Sequence[ProtocolSpec]) -> set[str]:
    """Those names, and the protocols in which theirs may come."""
    over = {spec.name: spec.over for spec in known}
    names = set(only) | {spec.name for spec in known if spec.secrets is not None}
    new = set(names)
    while new:
        new = {carrier for name in new for carrier in over.get(name, ())} - names
        names |= new
    return names


def guard_class() -> type[Guard]:
    """The guard of this build: the compiled one, or the plain one with its shortcut."""
    if not isinstance(Guard.chunk, FunctionType):
        return Guard
    from kshark.quick import QuickGuard

    return QuickGuard
