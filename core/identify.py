"""Which protocol is it? Literal prefixes of all plugins in one table, then probes, then nothing.

Cost does not grow with the number of plugins until the table is silent. Ports decide nothing, except
by ``--assume``; they break ties between probes that are only LIKELY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from kshark.api import ProtocolSpec, Side, Verdict


class Choice(msgspec.Struct, frozen=True):
    """What was decided, why, and whether the sides were the other way round."""

    spec: ProtocolSpec
    reason: str
    flip: bool = False
    certain: bool = False


class View(msgspec.Struct):
    """What is known of a flow so far: the first bytes of each side and its ports."""

    first: tuple[bytes, bytes]  # by side, at most PROBE_BYTES each
    ports: tuple[int, int]
    oriented: bool  # the SYN (or the first datagram) told who asks
    transport: str
    refused: frozenset[str] = frozenset()  # protocols that were tried and failed
    hint: str = ""  # a protocol that breaks ties


class Prefixes:
    """Literal prefixes by length: one dictionary look-up a length."""

    def __init__(self, items: Iterable[tuple[bytes, ProtocolSpec]]) -> None:
        tables: dict[int, dict[bytes, list[ProtocolSpec]]] = {}
        for prefix, spec in items:
            tables.setdefault(len(prefix), {}).setdefault(prefix, []).append(spec)
        self.tables = sorted(tables.items(), reverse=True)  # the longest prefix wins

    def match(self, data: bytes) -> Iterable[ProtocolSpec]:
        """The owners of prefixes of `data`, the longest first."""
        for length, table in self.tables:
            yield from table.get(data[:length], ())

    def hopeful(self, data: bytes) -> bool:
        """Whether more bytes could still make a prefix match."""
        return any(
            length > len(data) and any(prefix.startswith(data) for prefix in table)
            for length, table in self.tables
        )


class Identifier:
    """Decides for one transport; `probe` asks a protocol's probe, and survives it."""

    def __init__(
        self,
        specs: Sequence[ProtocolSpec],
        assume: dict[int, str],
        probe: Callable[[ProtocolSpec, bytes, Side], Verdict],
    ) -> None:
        self.by_name = {spec.name: spec for spec in specs}
        self.assume = assume
        self.probe = probe
        self.probes = [spec for spec in specs if spec.probe is not None]
        self.prefixes = (
            Prefixes((p, spec) for spec in specs for p in spec.magic),
            Prefixes((p, spec) for spec in specs for p in spec.replies),
        )

    def assumed(self, ports: tuple[int, int]) -> Choice | None:
        """The user's word for one of the ports: the server's first."""
        for port in (ports[1], ports[0]):
            spec = self.by_name.get(self.assume.get(port, ""))
            if spec is not None:
                return Choice(spec, f"port {port} assumed")
        return None

    def begins(self, data: bytes) -> bool:
        """Whether the data begin with a literal prefix of either side."""
        return any(spec for table in self.prefixes for spec in table.match(data))

    def decide(self, view: View, last: bool) -> tuple[Choice | None, bool]:
        """A choice, or None and whether more bytes could help. `last`: the window is over."""
        more = False
        for as_side, flip, data in looks(view):
            for spec in self.prefixes[as_side].match(data):
                if spec.name in view.refused:
                    continue
                verdict = self.ask(spec, data, as_side)
                if verdict >= Verdict.LIKELY:
                    return Choice(spec, f"prefix {data[:8]!r}", flip), False
                more = more or verdict == Verdict.MORE
            more = more or self.prefixes[as_side].hopeful(data)
        choice, probing = self.probe_all(view)
        if choice is not None and (last or not probing or choice.certain):
            return choice, False
        return None, more or probing

    def probe_all(self, view: View) -> tuple[Choice | None, bool]:
        """The best verdict of all probes, and whether one of them asks for more."""
        best: Choice | None = None
        best_rank, more = (Verdict.NO, False, False), False
        for spec in self.probes:
            if spec.name in view.refused:
                continue
            for as_side, flip, data in looks(view):
                verdict = self.ask(spec, data, as_side)
                more = more or verdict == Verdict.MORE
                hinted = spec.name == view.hint or bool(set(spec.ports) & set(view.ports))
                rank = (verdict, hinted, not flip)
                if verdict >= Verdict.LIKELY and rank > best_rank:
                    side = "client" if as_side == Side.CLIENT else "server"
                    certain = verdict == Verdict.CERTAIN
                    reason = f"probe of the {side} is {'certain' if certain else 'likely'}"
                    best, best_rank = Choice(spec, reason, flip, certain), rank
        return best, more

    def ask(self, spec: ProtocolSpec, data: bytes, side: Side) -> Verdict:
        """One opinion; a prefix without a probe is certain."""
        return Verdict.CERTAIN if spec.probe is None else self.probe(spec, data, side)


def looks(view: View) -> Iterable[tuple[Side, bool, bytes]]:
    """(as which side, would that flip the flow, bytes): both ways round where the SYN was not seen."""
    client, server = view.first
    if client:
        yield Side.CLIENT, False, client
    if server:
        yield Side.SERVER, False, server
    if not view.oriented:
        if server:
            yield Side.CLIENT, True, server
        if client:
            yield Side.SERVER, True, client
