"""Which protocol is it? Literal prefixes of all plugins in one table, then probes, then nothing.

Cost does not grow with the number of plugins until the table is silent. Ports decide nothing, except
by ``--assume``; they break ties between probes that are only LIKELY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kshark.api import ProtocolSpec, Side, Verdict

CLIENT, SERVER = Side.CLIENT, Side.SERVER
MORE, LIKELY, CERTAIN = int(Verdict.MORE), int(Verdict.LIKELY), int(Verdict.CERTAIN)
REASONS = tuple(
    tuple(f"probe of the {side} is {word}" for side in ("client", "server"))
    for word in ("likely", "certain")
)
Look = tuple[Side, bool, bytes]
"""As which side, would that flip the flow, bytes."""


class Choice:
    """What was decided, why, and whether the sides were the other way round."""

    __slots__ = ("certain", "flip", "reason", "spec")

    def __init__(
        self, spec: ProtocolSpec, reason: str, flip: bool = False, certain: bool = False
    ) -> None:
        self.spec = spec
        self.reason = reason
        self.flip = flip
        self.certain = certain


class View:
    """What is known of a flow so far: the first bytes of each side and its ports."""

    __slots__ = ("first", "hint", "oriented", "ports", "refused", "transport")

    def __init__(
        self,
        first: tuple[bytes, bytes],
        ports: tuple[int, int],
        oriented: bool,
        transport: str,
        refused: frozenset[str] = frozenset(),
        hint: str = "",
    ) -> None:
        self.first = first  # by side, at most PROBE_BYTES each
        self.ports = ports
        self.oriented = oriented  # the SYN (or the first datagram) told who asks
        self.transport = transport
        self.refused = refused  # protocols that were tried and failed
        self.hint = hint  # a protocol that breaks ties


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
        seen = looks(view)
        for as_side, flip, data in seen:
            prefixes = self.prefixes[as_side]
            if not prefixes.tables:
                continue
            for spec in prefixes.match(data):
                if spec.name in view.refused:
                    continue
                verdict = self.ask(spec, data, as_side)
                if verdict >= LIKELY:
                    return Choice(spec, f"prefix {data[:8]!r}", flip), False
                more = more or verdict == MORE
            more = more or prefixes.hopeful(data)
        choice, probing = self.probe_all(view, seen)
        if choice is not None and (last or not probing or choice.certain):
            return choice, False
        return None, more or probing

    def probe_all(self, view: View, seen: list[Look]) -> tuple[Choice | None, bool]:
        """The best verdict of all probes, and whether one of them asks for more."""
        best: Choice | None = None
        best_rank, more = 0, False
        for spec in self.probes:
            if view.refused and spec.name in view.refused:
                continue
            for as_side, flip, data in seen:
                verdict = self.ask(spec, data, as_side)
                if verdict == MORE:
                    more = True
                elif verdict >= LIKELY:
                    rank = 4 * verdict + 2 * hinted(spec, view) + (not flip)
                    if rank > best_rank:
                        reason = REASONS[verdict == CERTAIN][as_side]
                        best, best_rank = Choice(spec, reason, flip, verdict == CERTAIN), rank
        return best, more

    def ask(self, spec: ProtocolSpec, data: bytes, side: Side) -> int:
        """One opinion; a prefix without a probe is certain."""
        return CERTAIN if spec.probe is None else self.probe(spec, data, side)


def hinted(spec: ProtocolSpec, view: View) -> bool:
    """Whether one of its ports, or who carries the flow, speaks for this protocol."""
    if spec.name == view.hint:
        return True
    client, server = view.ports
    return client in spec.ports or server in spec.ports


def looks(view: View) -> list[Look]:
    """Both ways round where the SYN was not seen."""
    client, server = view.first
    found: list[Look] = []
    if client:
        found.append((CLIENT, False, client))
    if server:
        found.append((SERVER, False, server))
    if not view.oriented:
        if server:
            found.append((CLIENT, True, server))
        if client:
            found.append((SERVER, True, client))
    return found
