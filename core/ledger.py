"""The books: every packet, message and entry is counted where it enters and where it ends.

``received = dissected + opaque{reason} + late + open + dropped{reason}``, in packets. A loss without a reason is
a bug: `Ledger.check` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kshark import limits
from kshark.feeder import Found
from kshark.wire import DROPS

Snapshot = dict[str, Any]
OTHER = "other reasons"
TEXT = 120


class Tally:
    """Hot counters of one engine, kept as plain attributes so that compiled code adds in place."""

    def __init__(self) -> None:
        self.chunks = 0
        self.payload = 0  # bytes given to consumers
        self.messages = 0
        self.requests = 0
        self.responses = 0
        self.interim = 0
        self.oneway = 0
        self.settled = 0  # packets whose fate is known
        self.dissected = 0  # ... because a dissector took their flow
        self.reserved = 0  # bytes held for unfinished and unanswered messages
        self.dissectors = 0  # at work
        self.ok = 0  # entries, by outcome
        self.error = 0
        self.unanswered = 0
        self.orphan = 0
        self.cut = 0
        self.feeds = 0  # calls into dissectors, for the breaker's clock
        self.current: object = None  # whose dissector runs at this moment
        self.found = Found()  # what the feed at hand has given so far


class Ledger:
    """All counters of one engine, gathered on demand."""

    def __init__(self, tally: Tally, wire: Callable[[], Mapping[str, int]]) -> None:
        self.tally = tally
        self.wire = wire
        self.opaque: dict[str, int] = {}  # packets, by the reason of their flow
        self.flows: dict[str, int] = {}  # flows, by protocol, ended and living
        self.limits: dict[str, int] = {}  # how often a bound fired, by its name
        self.errors: dict[str, int] = {}  # "protocol: what"

    def count(self, table: dict[str, int], name: str, amount: int = 1) -> None:
        """Add to one named counter; a table has REASONS names at most, of TEXT characters."""
        if len(name) > TEXT:
            name = name[:TEXT]
        if name not in table and len(table) >= limits.REASONS:
            name = OTHER
        table[name] = table.get(name, 0) + amount

    def snapshot(self) -> Snapshot:
        """Everything, as nested dictionaries of integers (JSON-able)."""
        wire = dict(self.wire())
        received, in_flows = wire.pop("received", 0), wire.pop("in_flows", 0)
        tally = self.tally
        return {
            "packets": {
                "received": received,
                "dissected": tally.dissected,
                "opaque": dict(self.opaque),
                "late": wire.pop("late", 0),  # the last ACK of a flow that has ended, and the like
                "open": in_flows - tally.settled,
                "dropped": {k: v for k, v in wire.items() if k in DROPS and v},
            },
            "wire": {k: v for k, v in wire.items() if k not in DROPS},
            "stream": {"chunks": tally.chunks, "bytes": tally.payload},
            "flows": dict(self.flows),
            "messages": {
                "all": tally.messages,
                "requests": tally.requests,
                "responses": tally.responses,
                "interim": tally.interim,
                "oneway": tally.oneway,
            },
            "entries": {
                "ok": tally.ok,
                "error": tally.error,
                "unanswered": tally.unanswered,
                "orphan": tally.orphan,
                "cut": tally.cut,
            },
            "limits": dict(self.limits),
            "errors": dict(self.errors),
        }

    def check(self) -> list[str]:
        """What does not balance; empty when the books are in order."""
        return balance(self.snapshot())


def balance(snapshot: Snapshot) -> list[str]:
    """Check one snapshot, or several merged ones."""
    packets = snapshot["packets"]
    ended = packets["dissected"] + sum(packets["opaque"].values()) + packets["open"]
    ended += packets["late"]
    ended += sum(packets["dropped"].values())
    found = []
    if packets["received"] != ended:
        found.append(f"packets: {packets['received']} received, {ended} accounted for")
    if packets["open"] < 0:
        found.append(f"packets: {packets['open']} open")
    messages = snapshot["messages"]
    kinds = ("requests", "responses", "interim", "oneway")
    if messages["all"] != sum(messages[k] for k in kinds):
        found.append(f"messages: {messages}")
    return found


def merge(snapshots: list[Snapshot]) -> Snapshot:
    """Add up the snapshots of several workers."""
    total: Snapshot = {}
    for snapshot in snapshots:
        _add(total, snapshot)
    return total


def _add(total: Snapshot, part: Snapshot) -> None:
    for name, value in part.items():
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
