"""What plugins' dissectors hold in truth, weighed now and then; who keeps what it hears is switched off.

The engine accounts for what a dissector was fed and has not made messages of. One that keeps more than that is
found by walking its objects: of the flows that were fed most, and of some others, after every WEIGH_EVERY
bytes of its protocol. A flow over DISSECTOR_BYTES is dissected no more; after several, none is; and what the others
hold beyond what is accounted for them counts against MEMORY. The modules of a plugin are weighed as well: what
hangs off them is no flow's, and may grow by MODULE_BYTES. Only sizes that C code tells are asked for: no
plugin's code runs here.

Built-ins are not weighed. What only C code can see, or hangs off modules of others, is not found.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Iterable, Sequence, Set
from heapq import nlargest
from itertools import islice
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kshark import limits
from kshark.breaker import ProtocolState
from kshark.flow import Guard
from kshark.layers import Carried, Guarded
from kshark.units import show_size

if TYPE_CHECKING:
    from kshark.engine import Engine

HEAVY: Final = 16
"""Flows weighed in one look: those that were fed most ..."""
OTHERS: Final = 16
"""... and so many of the rest."""
MODULE_LOOKS: Final = 8
"""Every so many looks the modules are weighed, too: they may have many objects."""
STEPS: Final = 20_000
"""Objects visited in one look."""
MODULES: Final = 64
"""Modules of one package that are looked at."""
SAMPLE: Final = 256
"""Items visited of one list or table, which stand for the others."""
SHARED: Final = (
    type,
    Carried,
    Guarded,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    CodeType,
    GetSetDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
"""What belongs to the program and not to one flow."""


class Scales:
    """Those of one engine."""

    def __init__(self, engine: Engine, states: Iterable[ProtocolState]) -> None:
        self.engine = engine
        self.strangers = [state for state in states if state.strict]
        self.weighed: dict[str, int] = {}  # bytes of the protocol at the last look
        self.leaks: dict[str, int] = {}  # flows over the bound
        self.looks: dict[str, int] = {}
        self.modules: dict[str, int] = {}  # what their modules held at first
        self.shared: dict[str, set[int]] = {}  # and what that was, at the last look
        self.excess: dict[str, int] = {}  # bytes that dissectors hold and nobody has accounted for
        self.dissectors = 1  # when that was found

    @property
    def unaccounted(self) -> int:
        """What dissectors hold beyond what is accounted for them, as far as it was weighed."""
        return sum(self.excess.values()) * self.engine.tally.dissectors // self.dissectors

    def look(self) -> None:
        """Weigh the protocols that were fed enough since the last look."""
        for state in self.strangers:
            if state.bytes - self.weighed.get(state.name, 0) >= limits.WEIGH_EVERY:
                self.weighed[state.name] = state.bytes
                if not state.tripped:
                    self.weigh(state)

    def weigh(self, state: ProtocolState) -> None:
        """Weigh some dissectors of a protocol, and its module."""
        flows = [g for g in self.engine.guards if g.proto is state and g.dissector is not None]
        if not flows:
            return
        if self.looks.get(state.name, 0) % MODULE_LOOKS == 0:
            self.shared[state.name] = self.of_modules(state, flows[0].dissector)
        self.looks[state.name] = self.looks.get(state.name, 0) + 1
        walk = Walk(STEPS, self.shared[state.name])
        heavy = nlargest(HEAVY, flows, key=fed)
        excess = sum(self.of_flow(state, guard, walk) for guard in heavy)
        rest = len(flows) - len(heavy)
        if rest > 0:
            sample = flows[:: max(1, len(flows) // OTHERS)]
            excess += rest * sum(self.of_flow(state, g, walk) for g in sample) // len(sample)
        self.excess[state.name] = excess
        self.dissectors = max(1, self.engine.tally.dissectors)

    def of_flow(self, state: ProtocolState, guard: Guard, walk: Walk) -> int:
        """What one dissector holds and is not accounted for; over the bound, it goes."""
        if guard.dissector is None:  # it went meanwhile
            return 0
        size = walk.weigh(guard.dissector)
        if size <= limits.DISSECTOR_BYTES:
            return max(0, size - limits.DISSECTOR_COST - guard.reserved)
        self.over(state, guard, size)
        return 0

    def over(self, state: ProtocolState, guard: Guard, size: int) -> None:
        """One flow pays; the protocol, where it is one of several."""
        engine, name, bound = self.engine, state.name, show_size(limits.DISSECTOR_BYTES)
        engine.ledger.count(engine.ledger.limits, "dissector_bytes")
        engine.broken = True
        leaks = self.leaks[name] = self.leaks.get(name, 0) + 1
        if leaks == 1:
            what = f"its dissector of one flow holds {show_size(size)}, and {bound} is the limit"
            engine.say(f"{name}: {what}; the flow goes on as unknown")
        guard.give_up(f"{name} held over {bound}")
        if leaks >= limits.BREAKER_OFFENCES and not state.tripped:
            self.trip(state, f"its dissectors of {leaks} flows held over {bound} each")

    def of_modules(self, state: ProtocolState, dissector: object) -> set[int]:
        """Weigh what the modules of a dissector's plugin gather, whatever the flow; gives what that is."""
        walk = Walk(STEPS)
        size = walk.weigh(*type(dissector).__dict__.values(), *gathered(dissector))
        grown = size - self.modules.setdefault(state.name, size)
        if grown > limits.MODULE_BYTES and not state.tripped:
            self.trip(state, f"its modules gathered {show_size(grown)} while it ran")
        return walk.seen

    def trip(self, state: ProtocolState, reason: str) -> None:
        state.tripped = f"{state.name} is switched off: {reason}"
        self.engine.switched_off(state)
        self.excess.pop(state.name, None)
        for guard in [g for g in self.engine.guards if g.proto is state]:
            if guard.dissector is not None:
                guard.give_up(state.tripped)


def gathered(dissector: object) -> list[object]:
    """What hangs off the modules of the package that a dissector is of."""
    package = str(type(dissector).__dict__.get("__module__")).partition(".")[0]
    if package in ("kshark", "builtins"):
        return []
    own = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == package]
    return [value for m in own[:MODULES] if isinstance(m, ModuleType) for value in vars(m).values()]


def fed(guard: Guard) -> int:
    """Bytes that a flow has brought."""
    return int(guard.wire.bytes(0) + guard.wire.bytes(1))


class Walk:
    """Weighs objects and all that only they lead to, as far as `steps` go. Those that were `seen` count nothing."""

    def __init__(self, steps: int, seen: Set[int] = frozenset()) -> None:
        self.steps = steps
        self.shared = seen
        self.seen: set[int] = set()  # in the last walk

    def weigh(self, *roots: object) -> int:
        """Bytes; of long lists and tables an estimate by SAMPLE of their items."""
        seen = self.seen = set(self.shared)
        waiting: list[tuple[object, int]] = [
            (root, 1) for root in roots
        ]  # and what each stands for
        total = 0
        while waiting and self.steps > 0:
            one, times = waiting.pop()
            if id(one) in seen or issubclass(type(one), SHARED):
                continue
            seen.add(id(one))
            self.steps -= 1
            total += size_of(one) * times
            inner, count = parts(one)
            if len(inner) < count and len({id(part) for part in inner}) > len(inner) // 2:
                times *= count // len(inner)
            waiting += [(part, times) for part in inner]
        return total


def size_of(one: object) -> int:
    """Bytes of an object by itself, as C code tells."""
    for base in type.__dict__["__mro__"].__get__(type(one)):
        method = type.__dict__["__dict__"].__get__(base).get("__sizeof__")
        if type(method) is MethodDescriptorType:
            return int(method(one))
    return 0


def parts(one: Any) -> tuple[Sequence[Any], int]:
    """What an object leads to, or a sample of it; and how much there is. Asks types, since isinstance() asks it."""
    kind = type(one)
    if issubclass(kind, msgspec.Struct):
        return fields(one), 0
    try:
        if issubclass(kind, list):
            count = list.__len__(one)
            return list.__getitem__(one, slice(None, None, max(1, count // SAMPLE))), count
        if issubclass(kind, dict):
            items = islice(dict.items(one), SAMPLE)
            return [part for item in items for part in item], 2 * dict.__len__(one)
        if issubclass(kind, deque):
            return list(islice(deque.__iter__(one), SAMPLE)), deque.__len__(one)
        if issubclass(kind, set):
            return list(islice(set.__iter__(one), SAMPLE)), set.__len__(one)
    except RuntimeError:  # a thread of the plugin changed it
        return (), 0
    return gc.get_referents(one), 0


def fields(struct: msgspec.Struct) -> Sequence[Any]:
    """Those of a struct, of which the garbage collector may know nothing."""
    try:
        return msgspec.structs.astuple(struct)
    except AttributeError:  # one was deleted
        return ()
