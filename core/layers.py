"""Protocols that ride in another's exchanges (`kshark.api.Layer`), kept apart from what carries them.

Whatever a layer does costs the exchange its layer, and nothing else: the carrier goes on as if there were none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kshark.api import DissectError, Layer, Message, ProtocolSpec, Side
from kshark.breaker import ProtocolState, interrupted
from kshark.given import Rubbish, checked, gather, said

if TYPE_CHECKING:
    from kshark.engine import Engine

NAMES = 256
"""Content types whose layers are remembered."""


class Carried:
    """The layers over one carrier: called by its dissectors, as `kshark.api.Layers` says."""

    def __init__(self, engine: Engine, specs: Sequence[ProtocolSpec]) -> None:
        self.engine = engine
        self.specs = specs
        self.known: dict[str, tuple[ProtocolSpec, ...]] = {}

    def __call__(self, content_type: str, request: Message) -> Layer | None:
        """A layer for this exchange, of the first protocol that has one."""
        specs = self.known.get(content_type)
        if specs is None:
            specs = self.find(content_type)
        for spec in specs:
            state = self.engine.states[spec.name]
            if not state.tripped:
                layer = Guarded(self.engine, state)
                if layer.begin(spec, request):
                    return layer
        return None

    def find(self, content_type: str) -> tuple[ProtocolSpec, ...]:
        """The protocols of a content type."""
        name = content_type.lower().strip()
        specs = tuple(s for s in self.specs if name.startswith(s.types))
        if len(self.known) < NAMES:
            self.known[content_type] = specs
        return specs


class Guarded:
    """A plugin's layer of one exchange, charged to it; silent once it has failed."""

    __slots__ = ("engine", "layer", "state")

    def __init__(self, engine: Engine, state: ProtocolState) -> None:
        self.engine = engine
        self.state = state
        self.layer: Layer | None = None

    def begin(self, spec: ProtocolSpec, request: Message) -> bool:
        """Ask for the layer; whether there is one."""
        assert spec.layer is not None
        layer, _ = self.call(spec.layer, (request,))
        self.layer = layer
        return layer is not None

    def feed(self, side: Side, data: bytes) -> Sequence[Message]:
        return () if self.layer is None else self.given("feed", (side, data))

    def gap(self, side: Side, missing: int) -> Sequence[Message]:
        return () if self.layer is None else self.given("gap", (side, missing))

    def end(self, side: Side, message: Message) -> Sequence[Message]:
        """What the layer makes of the carrier's message, or that itself."""
        if self.layer is None:
            return (message,)
        found = self.given("end", (side, message))
        return (message,) if self.layer is None else found

    def given(self, name: str, arguments: tuple[Any, ...]) -> Sequence[Message]:
        """What one of its methods gives, looked at."""
        found, whole = self.call(asked, (self.layer, name, arguments))
        if not whole or not found:
            return ()
        try:
            return self.taken(found)
        except Rubbish as error:
            self.failed(error)
            return ()

    def taken(self, found: list[Any]) -> Sequence[Message]:
        """Its messages: a stranger's as copies."""
        name, strict = self.state.name, self.state.strict
        if strict:
            if not all(type(one) is Message for one in found):
                raise Rubbish("its layer gave what is no Message")
            found = [checked(one) for one in found]
            if not all(one.protocol in ("", name) for one in found):
                raise Rubbish("its layer gave a Message of another protocol")
        return found

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, bool]:
        """Call the plugin with the breaker's clock on it instead of the carrier; false where it failed."""
        tally = self.engine.tally
        before, tally.current = tally.current, self.state
        tally.feeds += 1
        try:
            return function(*arguments), True
        except DissectError as error:
            ledger = self.engine.ledger
            ledger.count(ledger.errors, f"{self.state.name}: {said(error)}")
            self.layer = None
        except BaseException as error:
            tally.current = None
            if interrupted(error):
                raise
            self.failed(error)
        finally:
            tally.current = before
            tally.feeds += 1
        return None, False

    def failed(self, error: BaseException) -> None:
        """It does not hear any more of this exchange."""
        self.layer = None
        self.engine.blame(self.state.name, error, "the layer")


def asked(layer: Layer, name: str, arguments: tuple[Any, ...]) -> Iterable[Message]:
    """The messages that a method gives; an error ends them all."""
    found = getattr(layer, name)(*arguments)
    if type(found) is list or type(found) is tuple:
        return found
    given, fault = gather(found)
    if fault is not None:
        raise fault
    return given  # type: ignore[return-value]


def carried(engine: Engine, specs: Sequence[ProtocolSpec]) -> dict[str, Carried]:
    """The layers of each carrier, by its name."""
    names = {name for spec in specs if spec.layer is not None for name in spec.over}
    return {
        name: Carried(engine, [s for s in specs if s.layer is not None and name in s.over])
        for name in names
    }
