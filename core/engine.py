"""The engine: packets in, entries out. Synchronous, no I/O, no clock; one an engine process.

    >>> from kshark.engine import Engine
    >>> engine = Engine([])
    >>> engine.finish(), engine.ledger.check()
    ([], [])

It owns what flows share: the identifiers, the books, the list of finished entries, the timers.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType

import msgspec

from kshark import limits, wire
from kshark.api import Block, Endpoint, Entry, Flow, ProtocolSpec, Side, Verdict, never
from kshark.breaker import Charge, ProtocolState, Watch, interrupted, ours
from kshark.clear import Clear
from kshark.faults import kind_of, line
from kshark.flow import Guard
from kshark.identify import Choice, Identifier, View
from kshark.inner import InnerFlow
from kshark.layers import carried
from kshark.leaks import Scales
from kshark.ledger import Ledger, Tally
from kshark.pairing import Emitter
from kshark.shedding import shed
from kshark.wire import Consumer, WireFlow, WireLimits

TRANSPORTS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
FLOWS = frozenset(TRANSPORTS.values())
"""Names of the protocols of flows that nobody dissects (`kshark.unknown`)."""
EVICT_STEP = 16
BYTES = tuple(map(str, range(256)))
"""Each byte of an IPv4 address as text."""
END_STEP = 1_024
"""Flows that end at once when the capture is over."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may choose. `only`: names of protocols, empty for all."""

    backend: str = ""
    assume: dict[int, str] = {}
    only: frozenset[str] = frozenset()
    dedupe: bool = True
    keep_packets: bool = False
    limits: WireLimits = WireLimits()


class Engine:
    """See the module. `say` hears one line for each new kind of trouble."""

    def __init__(
        self,
        specs: Sequence[ProtocolSpec],
        settings: EngineSettings | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        settings = settings or EngineSettings()
        self.settings = settings
        self.say = say
        self.tally = Tally()
        self.guard = guard_class()
        self.out: list[Entry] = []
        self.guards: dict[Guard, None] = {}  # of all flows
        self.since = 0  # ns: no flow was forgotten since then
        self.timers: dict[Guard, int] = {}  # guards with requests that wait, and when to look
        self.blamed: set[tuple[str, str]] = set()
        known = [s for s in specs if s.name not in FLOWS]  # they have no dissector
        wanted = [s for s in known if not settings.only or s.name in needed(settings.only, known)]
        self.shown = settings.only | FLOWS if settings.only else None
        self.specs = {spec.name: spec for spec in wanted}
        self.states = {s.name: ProtocolState(s, not ours(s.layer or s.dissector)) for s in wanted}
        self.carried = carried(self, wanted)
        self.clear: Clear | None = None  # from the first block within something on
        self.broken = False  # a plugin failed, or was switched off
        self.scales = Scales(self, self.states.values())
        self.identifiers = {
            transport: Identifier(
                [
                    v
                    for s in wanted
                    for v in (s, *s.also)
                    if v.transport == transport and v.dissector is not never
                ],
                settings.assume,
                self.probe,
            )
            for transport in ("tcp", "udp", "icmp")
        }
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

    # ------------------------------------------------------------ for guards

    def transport(self, flow: WireFlow) -> str:
        return TRANSPORTS.get(flow.proto, "other")

    def assumed(self, flow: WireFlow) -> Choice | None:
        if not self.settings.assume or isinstance(flow, InnerFlow):
            return None
        identifier = self.identifiers[self.transport(flow)]
        return identifier.assumed((flow.client_port, flow.server_port))

    def decide(self, view: View, last: bool) -> tuple[Choice | None, bool]:
        return self.identifiers[view.transport].decide(view, last)

    def begins(self, flow: WireFlow, data: bytes) -> bool:
        """Whether a message of some protocol begins so, by its literal prefix."""
        return self.identifiers[self.transport(flow)].begins(data)

    def named(self, name: str, reason: str) -> Choice | None:
        """The protocol of that name, as a choice."""
        spec = self.specs.get(name)
        return None if spec is None or spec.dissector is never else Choice(spec, reason)

    def state_of(self, spec: ProtocolSpec) -> ProtocolState:
        return self.states[spec.name]

    def describe(self, flow: WireFlow, flip: bool, protocol: str, reason: str) -> Flow:
        """The flow as entries show it."""
        client = Endpoint(address(flow.client), flow.client_port)
        server = Endpoint(address(flow.server), flow.server_port)
        if isinstance(flow, InnerFlow) and flow.server_name:
            server = Endpoint(server.ip, server.port, flow.server_name)
        if flip:
            client, server = server, client
        began = flow.first_ns
        if isinstance(flow, InnerFlow):
            reason = f"in {flow.carrier}: {reason}"
            began = flow.began_ns
        return Flow(
            identity(flow),
            self.transport(flow),
            client,
            server,
            self.settings.backend,
            flow.iface,
            protocol,
            reason,
            began,
        )

    def emitter(
        self, flow: Flow, midstream: bool, source: WireFlow, before: Emitter | None
    ) -> Emitter:
        """Who makes the flow's entries; numbers go on where `before` stopped."""
        kept = source if self.settings.keep_packets else None
        emitter = Emitter(flow, self.out, self.tally, midstream, kept, self.shown)
        if before is not None:
            emitter.seq = before.seq
            emitter.muted = before.muted
        self.ledger.count(self.ledger.flows, flow.protocol)
        return emitter

    def watch(self, guard: Guard, since: int) -> None:
        """Look at this guard's waiting requests later."""
        self.timers[guard] = since + limits.UNANSWERED

    def forget(self, guard: Guard) -> None:
        self.timers.pop(guard, None)
        self.guards.pop(guard, None)
        if self.clear is not None:
            self.clear.closed(guard)

    def settle(self, packets: int, reason: str) -> None:
        """The fate of packets of one flow."""
        if not packets:
            return
        self.tally.settled += packets
        if reason:
            self.ledger.count(self.ledger.opaque, reason, packets)
        else:
            self.tally.dissected += packets

    def probe(self, spec: ProtocolSpec, data: bytes, side: Side) -> Verdict:
        """A protocol's opinion; no, where it fails to have one or is switched off."""
        state, tally = self.states[spec.name], self.tally
        if spec.probe is None or state.tripped:
            return Verdict.NO
        state.bytes += len(data)
        tally.feeds += 1
        tally.current = state
        try:
            verdict = spec.probe(data, side)
            if type(verdict) is not Verdict:
                verdict = Verdict(verdict)
        except BaseException as error:
            tally.current = None
            if interrupted(error):
                raise
            self.blame(spec.name, error, "the probe")
            return Verdict.NO
        tally.current = None
        return verdict

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


def address(raw: bytes) -> str:
    if len(raw) == 4:
        return f"{BYTES[raw[0]]}.{BYTES[raw[1]]}.{BYTES[raw[2]]}.{BYTES[raw[3]]}"
    return socket.inet_ntop(socket.AF_INET6, raw)


def identity(flow: WireFlow) -> str:
    """16 hex digits, the same in every replay: addresses, ports, protocol, first packet's time."""
    key = b"%b|%b|%d|%d|%d|%d" % (
        flow.client,
        flow.server,
        flow.client_port,
        flow.server_port,
        flow.proto,
        flow.first_ns,
    )
    if isinstance(flow, InnerFlow):
        key += b"|%d" % flow.depth
    return hashlib.blake2b(key, digest_size=8).hexdigest()
