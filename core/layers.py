"""Protocols that ride in another's exchanges (`kshark.api.Layer`), kept apart from what carries them.

Whatever a layer does costs the exchange its layer, and nothing else: the carrier goes on as if there were none.
Beside this file lies ``layers.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from kshark.api import DissectError, Layer, Message, ProtocolSpec, Side
from kshark.breaker import ProtocolState, interrupted
from kshark.feeder import Rider
from kshark.given import Rubbish, checked, gather, said

if TYPE_CHECKING:
    from kshark.engine import Engine

BEGIN, FEED, GAP, END, SLIM, OVER = range(6)
SIDES = (Side.CLIENT, Side.SERVER)
NONE: tuple[Message, ...] = ()
NAMES = 256
"""Content types whose layers are remembered."""
LONGEST = 128
"""Characters of one of them."""


class Carried:
    """The layers over one carrier: called by its dissectors, as `kshark.api.Layers` says."""

    def __init__(self, engine: Engine, specs: Sequence[ProtocolSpec]) -> None:
        self.engine = engine
        self.specs = specs
        self.states = engine.states
        self.known: dict[str, list[ProtocolState]] = {}

    def __call__(self, content_type: str, request: Message) -> Layer | None:
        return self.find_layer(content_type, request)

    def find_layer(self, content_type: str, request: Message) -> Layer | None:
        """A layer for this exchange, of the first protocol that has one."""
        states = self.known.get(content_type)
        if states is None:
            states = self.find(content_type)
        for state in states:
            if not state.tripped:
                layer = Guarded.__new__(Guarded)  # without the call by name of an __init__
                if layer.begin(self.engine, state, request):
                    return layer
        return None

    def find(self, content_type: str) -> list[ProtocolState]:
        """The protocols of a content type."""
        name = content_type.lower().strip()
        states = [self.states[s.name] for s in self.specs if name.startswith(s.types)]
        if len(self.known) < NAMES and len(content_type) <= LONGEST:
            self.known[content_type] = states
        return states


class Guarded(Rider):
    """A plugin's layer of one exchange, charged to it; silent once it has failed."""

    __slots__ = ("dated", "engine", "layer", "overs", "rider", "slims", "state", "tally")

    def begin(self, engine: Engine, state: ProtocolState, request: Message) -> bool:
        """Ask for the layer; whether there is one."""
        self.engine = engine
        self.tally = engine.tally
        self.state = state
        self.layer: Any = None
        self.rider: Rider | None = None  # the layer again, where it is one
        self.now = 0  # ns: when what it is told came, where the carrier knows
        self.dated = self.slims = False  # it wants to know, and to hear when memory is short ...
        self.overs = False  # ... and when a tunnel is over
        self.call(BEGIN, 0, request)
        return self.layer is not None

    def feed(self, side: int, data: bytes) -> Sequence[Message]:
        return NONE if self.layer is None else self.call(FEED, side, data) or NONE

    def gap(self, side: int, missing: int) -> Sequence[Message]:
        return NONE if self.layer is None else self.call(GAP, side, missing) or NONE

    def end(self, side: int, message: Message) -> Sequence[Message]:
        """What the layer makes of the carrier's message, or that itself."""
        if self.layer is None:
            return (message,)
        found = self.call(END, side, message)
        return (message,) if self.layer is None else found or NONE

    def over(self, side: int) -> Sequence[Message]:
        return (
            self.call(OVER, side, None) or NONE if self.layer is not None and self.overs else NONE
        )

    def slim(self, side: int) -> None:
        """Memory is short; who cannot forget hears no more of the exchange."""
        if self.layer is not None and self.slims:
            self.call(SLIM, side, None)
        else:
            self.layer = None

    def call(self, what: int, side: int, told: Any) -> Sequence[Message] | None:
        """Call the plugin with the breaker's clock on it instead of the carrier; None where it failed."""
        tally = self.tally
        before = tally.current
        tally.current = self.state
        tally.feeds += 1
        try:
            if self.rider is not None:
                found = self.ride(self.rider, what, side, told)
            else:
                found = self.ask(what, side, told)
            if type(found) is not list and type(found) is not tuple:
                found = self.whole(found, what)
            return self.taken(found) if self.state.strict else found
        except DissectError as error:
            self.wrong(error)
        except BaseException as error:
            tally.current = None
            if interrupted(error):
                raise
            self.failed(error)
        finally:
            tally.current = before
            tally.feeds += 1
        return None

    def ride(self, rider: Rider, what: int, side: int, told: Any) -> Any:
        """One call of a layer that is compiled, or made as if it were."""
        rider.now = self.now
        if what == FEED:
            return rider.feed(side, told)
        if what == END:
            return rider.end(side, told)
        if what == GAP:
            return rider.gap(side, told)
        if what == OVER:
            return rider.over(side)
        rider.slim(side)
        return NONE

    def ask(self, what: int, side: int, told: Any) -> Any:
        """One call of the plugin's."""
        if what == BEGIN:
            asked = (
                replace(told) if self.state.strict else told
            )  # the carrier's own is given in the end
            self.meet(self.state.spec.layer(asked))  # type: ignore[misc]
            return NONE
        if self.dated:
            self.layer.now = self.now
        if what == FEED:
            return self.layer.feed(SIDES[side], told)
        if what == END:
            return self.layer.end(SIDES[side], told)
        if what == GAP:
            return self.layer.gap(SIDES[side], told)
        if what == OVER:
            return self.layer.over(SIDES[side])
        self.layer.slim(SIDES[side])
        return NONE

    def meet(self, layer: Any) -> None:
        """The layer, if there is one, and what it can."""
        if isinstance(layer, Rider):
            self.rider = layer
            self.slims = self.overs = True
        elif layer is not None:
            self.dated = hasattr(layer, "now")
            self.slims = hasattr(layer, "slim")
            self.overs = hasattr(layer, "over")
        self.layer = layer

    def taken(self, found: Sequence[Any]) -> Sequence[Message]:
        """Its messages, of a stranger: as copies."""
        copies = []
        for one in found:
            if type(one) is not Message:
                raise Rubbish("its layer gave what is no Message")
            copies.append(checked(one))
            if one.protocol not in ("", self.state.name):
                raise Rubbish("its layer gave a Message of another protocol")
        return copies

    def whole(self, found: Iterable[Message], what: int) -> list[Any]:
        """The messages that a generator gives; those before an error count, but in place of the carrier's own."""
        given, fault = gather(found)
        if fault is not None:
            if what == END:
                raise fault
            self.wrong(fault)
        return given

    def wrong(self, error: DissectError) -> None:
        """The content is not what it should be: the layer does not hear any more of it."""
        ledger = self.engine.ledger
        ledger.count(ledger.errors, f"{self.state.name}: {said(error)}")
        self.layer = None

    def failed(self, error: BaseException) -> None:
        """It does not hear any more of this exchange."""
        self.layer = None
        self.engine.blame(self.state.name, error, "the layer")


def carried(engine: Engine, specs: Sequence[ProtocolSpec]) -> dict[str, Carried]:
    """The layers of each carrier, by its name."""
    names = {name for spec in specs if spec.layer is not None for name in spec.over}
    return {
        name: Carried(engine, [s for s in specs if s.layer is not None and name in s.over])
        for name in names
    }
