"""Names for addresses: what a client asked DNS for, and then connected to. Compiled as it stands.

Invariant: ``dns`` of an end is the name that the other end asked for, and got this address, before the flow's first
packet and no longer ago than the answer may be kept; else it is None. What one client was told says nothing of another,
an answer that belongs to no question is not believed, and of a flow that began before the capture nothing is said.

A flow is looked at with its entries 0, 1, 2, 4, 8 and so on: once it has its name, or as good as never. Later than with
the first one a name is found where several processes capture, and the one that saw the answer was the slower.
Limits: DNS_ADDRESSES of all clients, DNS_BEFORE answers each.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec

from kshark import limits
from kshark.api import Context, EnricherSpec, Entry, Flow, Message, Options

from .answers import addresses

PROTOCOL = "dns"
HALF = limits.DNS_ADDRESSES // 2
BEFORE = limits.DNS_BEFORE
LONGEST = limits.DNS_KEPT // limits.SECOND
FOLLOWS = limits.DNS_FOLLOWS // limits.SECOND
SECOND = limits.SECOND
FULL = f"dns: over {limits.DNS_ADDRESSES:,} addresses of clients were asked for: the oldest names are forgotten"


class Known:
    """One answer for one address of one client."""

    def __init__(self, name: str, since: int, until: int, before: Known | None) -> None:
        self.name = name
        self.since = since  # ns
        self.until = until
        self.before = before  # the answer that this one replaced


class Namer:
    """A `kshark.api.Enricher`: learns from the entries of DNS, names the servers of all others."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        # by client, then by address as bytes; in two generations: the older one goes when the younger one is full
        self.young: dict[str, dict[bytes, Known]] = {}
        self.old: dict[str, dict[bytes, Known]] = {}
        self.count = 0  # addresses of the younger one
        self.full = False

    def enrich(self, batch: list[Entry]) -> list[Entry]:
        """The same entries."""
        for entry in batch:
            seq = entry.seq
            if entry.protocol == PROTOCOL:
                asked, told = entry.request, entry.response
                if asked is not None and told is not None and told.ok and not entry.swapped:
                    self.learn(entry.flow.client.ip, asked, told)
            elif seq & (seq - 1) == 0 and not entry.midstream:
                self.name(entry.flow)
        return batch

    def learn(self, client: str, asked: Message, told: Message) -> None:
        """What this client was told."""
        found = addresses(told.head)
        if not found:
            return
        name = asked.target.lower()
        since = told.last_ns
        young = self.young.get(client)
        if young is None:
            young = self.young[client] = {}
        for raw, ttl in found:
            kept = FOLLOWS if ttl < FOLLOWS else LONGEST if ttl > LONGEST else ttl
            last = young.get(raw)
            if last is None:
                last = self.before(client, raw)
                self.count += 1
            young[raw] = self.after(last, name, since, since + kept * SECOND)
        if self.count >= HALF:
            if self.old and not self.full:
                self.full = True
                self.say(FULL)
            self.old, self.young, self.count = self.young, {}, 0

    def find(self, client: str, raw: bytes) -> Known | None:
        """The last answer for an address of a client."""
        young = self.young.get(client)
        found = young.get(raw) if young is not None else None
        return found if found is not None else self.before(client, raw)

    def before(self, client: str, raw: bytes) -> Known | None:
        """The same, of the older generation."""
        old = self.old.get(client)
        return old.get(raw) if old is not None else None

    def after(self, old: Known | None, name: str, since: int, until: int) -> Known:
        """The new answer, in front of `old` and what that replaced; one that repeats it prolongs it."""
        if old is not None and old.name == name and old.until >= since:
            old.until = max(old.until, until)
            return old
        new = one = Known(name, since, until, old)
        for _ in range(BEFORE - 1):
            if one.before is None:
                return new
            one = one.before
        one.before = None
        return new

    def name(self, flow: Flow) -> None:
        """The name of the flow's server, where it is known and has none."""
        server = flow.server
        if server.dns is not None:
            return
        if not self.young and not self.old:
            return
        one = self.find(flow.client.ip, packed(server.ip))
        began = flow.began_ns
        while one is not None:
            if one.since <= began:
                if began <= one.until:
                    flow.server = msgspec.structs.replace(server, dns=one.name)
                return
            one = one.before


def packed(ip: str) -> bytes:
    """An address as it stands in answers; nothing where a backend gives something else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    except OSError:
        return b""


def make(options: Options, context: Context) -> Namer:
    return Namer(context.say)


NAMER = EnricherSpec(
    name=PROTOCOL,
    make=make,
    doc="Names for addresses: `dns` of an end is what the other end asked DNS for, and got this address",
)
