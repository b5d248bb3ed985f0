"""An enricher at work: whatever it does, the entries go on."""

from __future__ import annotations

from collections.abc import Callable

from kshark import limits
from kshark.api import Enricher, Entry
from kshark.breaker import Charge, Post, ours
from kshark.errors import explain
from kshark.faults import others
from kshark.given import Rubbish, sound
from kshark.wanted import Wanted


class Enriching:
    """One enricher of a run. What it fails to do is not done; an entry that it spoils is lost, and counted."""

    def __init__(
        self,
        name: str,
        enricher: Enricher,
        post: Post,
        say: Callable[[str], None],
        make: object = None,
        wanted: Wanted | None = None,
    ) -> None:
        """`wanted` finds the entries that it is given; without it, it is given all."""
        self.wanted = wanted
        self.name = name
        self.enricher = enricher
        self.post = post
        self.say = say
        self.own = ours(make)  # kshark's: what it gives needs no look
        self.charge = Charge(f"enricher {name}", limits.BREAKER_CALL)
        self.errors = 0  # batches that it failed for
        self.dropped = 0  # entries that it dropped
        self.spoilt = 0  # entries that it made unusable

    def apply(self, batch: list[Entry]) -> list[Entry]:
        """The batch as the enricher gives it, or as it was."""
        if self.charge.tripped or not batch:
            return batch
        if self.wanted is None:
            return self._applied(batch)
        chosen = self.wanted.find(batch)
        return merged(batch, chosen, self._applied(chosen)) if chosen else batch

    def _applied(self, batch: list[Entry]) -> list[Entry]:
        try:
            result = self.post.call(self.charge, self._ask, batch)
        except (
            BaseException
        ) as error:  # a stranger's code; the entries are worth more than its names
            if others(error, self.charge):
                raise
            self._blame(explain(error))
            result = batch
        else:
            self.dropped += len(batch) - len(result)
        return result if self.own else self._usable(result)

    def _ask(self, batch: list[Entry]) -> list[Entry]:
        if self.own:
            return self.enricher.enrich(batch)
        result = self.enricher.enrich(batch[:])
        if type(result) is not list or not all(type(entry) is Entry for entry in result):
            raise TypeError("enrich() must return a list of entries")
        if len(result) > len(batch):
            raise Rubbish("enrich() gave more entries than it got")
        return result[:]

    def _usable(self, batch: list[Entry]) -> list[Entry]:
        """Those whose fields are what sinks rely on."""
        kept = [entry for entry in batch if sound(entry)]
        if len(kept) < len(batch):
            self.spoilt += len(batch) - len(kept)
            self._blame("it left entries that cannot be used; they are lost")
        return kept

    def _blame(self, why: str) -> None:
        if not self.errors:
            self.say(f"enricher {self.name} failed, entries go on without it: {why}")
        self.errors += 1


def merged(batch: list[Entry], chosen: list[Entry], result: list[Entry]) -> list[Entry]:
    """The batch with what became of the chosen: changed ones in their places, new ones at the end."""
    if len(result) == len(chosen):
        changed = {id(old): new for old, new in zip(chosen, result, strict=True) if old is not new}
        return [changed.get(id(entry), entry) for entry in batch] if changed else batch
    given, kept = set(map(id, chosen)), set(map(id, result))
    rest = [entry for entry in batch if id(entry) not in given or id(entry) in kept]
    return rest + [entry for entry in result if id(entry) not in given]
