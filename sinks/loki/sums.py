"""Calls that went well, added up: one row for all of a kind in place of one each.

A row says how many they were, their bytes, and how long they took on average and at most. Kinds are bounded: what
comes after `limits.LABEL_SETS` of them within one time is added to one more, whose facts are ``other``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from kshark import limits
from kshark.api import Entry
from kshark.sinks._fields import readers

VALUE: Final = 256
"""Characters of a fact: what a peer says may be long."""
OTHER: Final = "other"


class Sum(msgspec.Struct):
    """What is known of the calls of one kind."""

    calls: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    latency_ns: int = 0  # of all of them
    longest_ns: int = 0
    last_ns: int = 0  # when the last of them was asked

    def add(self, entry: Entry) -> None:
        """All of it or, where a plugin's entry holds what is no number, nothing."""
        latency = entry.latency_ns or 0
        asked = self.request_bytes + (entry.request.size if entry.request else 0)
        answered = self.response_bytes + (entry.response.size if entry.response else 0)
        last = max(self.last_ns, entry.time_ns)
        self.calls += 1
        self.request_bytes, self.response_bytes, self.last_ns = asked, answered, last
        self.latency_ns += latency
        self.longest_ns = max(self.longest_ns, latency)


class Row(NamedTuple):
    """A sum, to be sent."""

    labels: bytes
    ns: int
    line: bytes
    calls: int


class Sums:
    """The sums of this time, by labels of the stream and the facts that are told apart."""

    def __init__(self, group: Sequence[str]) -> None:
        found = readers(group, "sink loki: group")
        self._names = tuple(found)
        self._reads = tuple(found.values())
        self._sums: dict[tuple[bytes, tuple[str, ...]], Sum] = {}
        self.calls = 0  # added up, and not taken yet

    def add(self, labels: bytes, entry: Entry) -> None:
        key = labels, tuple([read(entry)[:VALUE] for read in self._reads])
        one = self._sums.get(key)
        if one is None:
            if len(self._sums) >= limits.LABEL_SETS:
                key = labels, (OTHER,) * len(self._names)
            one = self._sums.setdefault(key, Sum())
        one.add(entry)
        self.calls += 1

    def take(self) -> Iterator[Row]:
        """What was added up; a new time begins."""
        taken, self._sums, self.calls = self._sums, {}, 0
        for (labels, values), one in taken.items():
            if not one.calls:
                continue
            facts = {n: v for n, v in zip(self._names, values, strict=True) if v}
            yield Row(labels, one.last_ns, line(one, facts), one.calls)


def line(one: Sum, facts: dict[str, str]) -> bytes:
    whole = {
        "calls": one.calls,
        **{name: value.encode("utf-8", "replace").decode() for name, value in facts.items()},
        "request_bytes": one.request_bytes,
        "response_bytes": one.response_bytes,
        "latency_ns_mean": one.latency_ns // one.calls,
        "latency_ns_max": one.longest_ns,
    }
    return msgspec.json.encode(whole)
