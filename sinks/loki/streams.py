"""Which stream of Loki an entry belongs to: few labels, of few values.

Each set of values is a stream, and Loki is fast with few. What makes them many (a hostile peer invents verbs)
ends in one stream of the value ``other``; what the labels would have said is then in the row's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from kshark import limits
from kshark.api import Entry, PluginError
from kshark.sinks._fields import Read, readers
from kshark.sinks.loki.push import Pairs

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
LABELS: Final = 15
"""Labels of a stream; Loki's default ``max_label_names_per_series``."""
VALUE: Final = 256
"""Characters of a label's value; Loki refuses more than 2,048, and a long one is no label."""
OTHER: Final = "other"


class Stream(NamedTuple):
    """A stream: its labels as the format writes them, and what its rows must say beside."""

    labels: bytes
    metadata: Pairs = ()


class Streams:
    """The streams of a run."""

    def __init__(
        self,
        names: Sequence[str],
        static: Sequence[str],
        write: Callable[[Pairs], bytes],
        say: Callable[[str], None],
    ) -> None:
        self._static = _static(static)
        self._reads: Mapping[str, Read] = readers(names, "sink loki: labels")
        twice = self._static.keys() & self._reads.keys()
        if twice or len(self._static) + len(self._reads) > LABELS:
            why = f"{min(twice)} is given twice" if twice else f"{LABELS} at most"
            raise PluginError(f"sink loki: labels: {why}")
        if not self._static and not self._reads:
            raise PluginError("sink loki: labels: a stream needs one at least")
        for name in self._reads:
            if not NAME.match(name):
                raise PluginError(f"sink loki: labels: {name!r} is no name of a label")
        self._getters = tuple(self._reads.values())
        self._write = write
        self._say = say
        self._known: dict[tuple[str, ...], Stream] = {}
        self.overflowed = 0  # entries that ended in the stream of the others

    def of(self, entry: Entry) -> Stream:
        values = tuple([read(entry) for read in self._getters])
        return self._known.get(values) or self._new(values)

    def _new(self, values: tuple[str, ...]) -> Stream:
        if len(self._known) < limits.LABEL_SETS:
            stream = self._known[values] = Stream(self._labels(values))
            return stream
        if not self.overflowed:
            self._say(
                f"labels have more than {limits.LABEL_SETS} sets of values; the rest are {OTHER!r}"
            )
        self.overflowed += 1
        cut = [(name, v[:VALUE]) for name, v in zip(self._reads, values, strict=True) if v]
        return Stream(self._labels((OTHER,) * len(values)), cut)

    def _labels(self, values: Sequence[str]) -> bytes:
        """A label without a value is none."""
        found = zip(self._reads, (value[:VALUE] for value in values), strict=True)
        return self._write([*self._static.items(), *((n, v) for n, v in found if v)])


def _static(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not NAME.match(name) or not value:
            raise PluginError(f"sink loki: static: {one!r} is not name=value")
        found[name] = value[:VALUE]
    return found
