"""What the flows of an engine share, as their guards use it: protocols, books, finished entries, timers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from kshark import limits
from kshark.api import Endpoint, Entry, Flow, ProtocolSpec, Side, Verdict, never
from kshark.breaker import ProtocolState, interrupted, ours
from kshark.identify import Choice, Identifier, View
from kshark.inner import InnerFlow
from kshark.ledger import Ledger, Tally
from kshark.naming import Addresses, identity
from kshark.pairing import Emitter
from kshark.wire import WireFlow, WireLimits

if TYPE_CHECKING:
    from kshark.clear import Clear
    from kshark.flow import Guard
    from kshark.layers import Carried

TCP = 6
TRANSPORTS = {TCP: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
FLOWS = frozenset(TRANSPORTS.values())
"""Names of the protocols of flows that nobody dissects (`kshark.unknown`)."""
PATIENCE = limits.UNANSWERED
NO = Verdict.NO


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may choose. `only`: names of protocols, empty for all."""

    backend: str = ""
    assume: dict[int, str] = {}
    only: frozenset[str] = frozenset()
    dedupe: bool = True
    keep_packets: bool = False
    limits: WireLimits = WireLimits()


class Shared:
    """See the module. `wanted` are the protocols at work."""

    def __init__(self, wanted: Sequence[ProtocolSpec], settings: EngineSettings) -> None:
        self.settings = settings
        self.assume = settings.assume
        self.backend = settings.backend
        self.keeps = settings.keep_packets
        self.shown = settings.only | FLOWS if settings.only else None
        self.tally = Tally()
        self.ledger = Ledger(self.tally, dict)  # until there is a wire
        self.out: list[Entry] = []
        self.guards: dict[Guard, None] = {}  # of all flows
        self.timers: dict[Guard, int] = {}  # guards with requests that wait, and when to look
        self.clear: Clear | None = None  # from the first block within something on
        self.since = 0  # ns: no flow was forgotten since then
        self.unread: list[tuple[Flow, int]] | None = (
            None  # connections that turned opaque, and when
        )
        self.addresses = Addresses()
        self.carried: dict[str, Carried] = {}  # layers, by the protocol that carries them
        self.specs = {spec.name: spec for spec in wanted}
        self.states = {s.name: ProtocolState(s, not ours(s.layer or s.dissector)) for s in wanted}
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

    # ------------------------------------------------------------ identification

    def transport(self, flow: WireFlow) -> str:
        return TRANSPORTS.get(flow.proto, "other")

    def assumed(self, flow: WireFlow) -> Choice | None:
        if not self.assume or isinstance(flow, InnerFlow):
            return None
        identifier = self.identifiers[self.transport(flow)]
        return identifier.assumed((flow.client_port, flow.server_port))

    def decide(self, view: View, last: bool) -> tuple[Choice | None, bool]:
        identifier = self.identifiers[view.transport]
        return identifier.decide(view, last)

    def begins(self, flow: WireFlow, data: bytes) -> bool:
        """Whether a message of some protocol begins so, by its literal prefix."""
        return self.identifiers[self.transport(flow)].begins(data)

    def named(self, name: str, reason: str) -> Choice | None:
        """The protocol of that name, as a choice."""
        spec = self.specs.get(name)
        return None if spec is None or spec.dissector is never else Choice(spec, reason)

    def state_of(self, spec: ProtocolSpec) -> ProtocolState:
        return self.states[spec.name]

    def probe(self, spec: ProtocolSpec, data: bytes, side: Side) -> Verdict:
        """A protocol's opinion; no, where it fails to have one or is switched off."""
        state, tally = self.states[spec.name], self.tally
        ask = spec.probe
        if ask is None or state.tripped:
            return NO
        state.bytes += len(data)
        tally.feeds += 1
        tally.current = state
        try:
            verdict = ask(data, side)
            if type(verdict) is not Verdict:
                verdict = Verdict(verdict)
        except BaseException as error:
            tally.current = None
            if interrupted(error):
                raise
            self.blame(spec.name, error, "the probe")
            return NO
        tally.current = None
        return verdict

    def blame(self, name: str, error: BaseException, where: str = "the dissector") -> str:
        """What a plugin should not have done; the engine counts it, and gives it in short."""
        raise NotImplementedError

    # ------------------------------------------------------------ entries, timers, books

    def describe(self, flow: WireFlow, flip: bool, protocol: str, reason: str) -> Flow:
        """The flow as entries show it."""
        client = self.addresses.end(flow.client, flow.client_port)
        server = self.addresses.end(flow.server, flow.server_port)
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
            self.backend,
            flow.iface,
            protocol,
            reason,
            began,
        )

    def emitter(
        self, flow: Flow, midstream: bool, source: WireFlow, before: Emitter | None
    ) -> Emitter:
        """Who makes the flow's entries; numbers go on where `before` stopped."""
        kept = source if self.keeps else None
        emitter = Emitter(flow, self.out, self.tally, midstream, kept, self.shown)
        if before is not None:
            emitter.seq = before.seq
            emitter.muted = before.muted
        self.ledger.count(self.ledger.flows, flow.protocol)
        return emitter

    def watch(self, guard: Guard, since: int) -> None:
        """Look at this guard's waiting requests later."""
        self.timers[guard] = since + PATIENCE

    def forget(self, guard: Guard) -> None:
        self.timers.pop(guard, None)
        self.guards.pop(guard, None)
        if self.clear is not None:
            self.clear.closed(guard)

    def turned_opaque(self, flow: WireFlow) -> None:
        """Nobody reads this connection any more, which whoever captures it may want to know."""
        if self.unread is not None and flow.proto == TCP and not isinstance(flow, InnerFlow):
            self.unread.append((self.describe(flow, False, "", ""), flow.last_ns))

    def settle(self, packets: int, reason: str) -> None:
        """The fate of packets of one flow."""
        if not packets:
            return
        self.tally.settled += packets
        if reason:
            self.ledger.count(self.ledger.opaque, reason, packets)
        else:
            self.tally.dissected += packets
