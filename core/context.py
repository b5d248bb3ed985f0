"""What the application offers one sink or enricher: see `kshark.api.Context`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kshark.api import Details, Entry, Message, ProtocolSpec
from kshark.faults import Faults
from kshark.render import Renderer


class RunContext:
    """`owner` is how messages call the sink; all of a run share the renderer."""

    def __init__(
        self,
        owner: str,
        renderer: Renderer,
        faults: Faults,
        say: Callable[[str], None],
        ledger: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.owner = owner
        self.renderer = renderer
        self.faults = faults
        self.say = say
        self.ledger = ledger
        self.protocols: Mapping[str, ProtocolSpec] = renderer.protocols
        self.missed = 0  # entries that could not be shown, since the sink's lane last asked

    def encode(self, batch: Sequence[Entry], *, full: bool = False) -> bytes:
        return self.renderer.encode(batch, full=full, unshown=self.unshown)

    def details(self, message: Message, protocol: str) -> Details | None:
        return self.renderer.details(message, protocol)

    def unshown(self, entry: Entry, error: Exception) -> None:
        self.missed += 1
        self.faults.blame(
            self.owner, "an entry", error, "entries that cannot be shown are left out"
        )

    def take_missed(self) -> int:
        """How many entries could not be shown since the last call."""
        missed, self.missed = self.missed, 0
        return missed
