"""Which entries of a batch an enricher is given: those that its spec speaks of (`kshark.api.EnricherSpec`).

The plain twin of ``_wanted.pyx``, which looks at a batch in one loop: an entry of no interest costs some nanoseconds.
"""

from __future__ import annotations

from contextlib import suppress

from kshark import _pure
from kshark.api import EnricherSpec, Entry


class Wanted:
    """Finds them."""

    def __init__(
        self,
        protocols: tuple[str, ...],
        marks: tuple[bytes, ...] = (),
        begins: tuple[bytes, ...] = (),
        targets: tuple[str, ...] = (),
    ) -> None:
        self.protocols = frozenset(protocols)
        self.marks = marks
        self.begins = begins
        self.targets = targets
        self.looks = bool(marks or begins or targets)

    def find(self, batch: list[Entry]) -> list[Entry]:
        """The entries that are wanted, in order."""
        protocols = self.protocols
        mine = [e for e in batch if e.protocol in protocols] if protocols else batch
        return [entry for entry in mine if self._marked(entry)] if self.looks else mine[:]

    def _marked(self, entry: Entry) -> bool:
        request = entry.request
        if request is None:
            return False
        body, target = request.body, request.target
        if body and (body.startswith(self.begins) or any(mark in body for mark in self.marks)):
            return True
        return any(part in target for part in self.targets)


def wanted_by(spec: EnricherSpec) -> Wanted | None:
    """What finds the entries of an enricher, None where it wants all."""
    asked = (spec.protocols, spec.marks, spec.begins, spec.targets)
    return _best()(*asked) if any(asked) else None


def _best() -> type[Wanted]:
    """The compiled twin, or the plain one."""
    if not _pure.pure("kshark._wanted"):
        with suppress(ImportError):
            from kshark._wanted import Wanted as Compiled

            return Compiled  # type: ignore[return-value]
    return Wanted
