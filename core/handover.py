"""What a dissector yields that is no message: the flow goes to another one, or has another one within."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from kshark import limits
from kshark.api import Dissector, Inner, Message, Outcome, Switch
from kshark.given import Rubbish, checked, handed
from kshark.inner import InnerFlow
from kshark.pairing import Pairing

if TYPE_CHECKING:
    from kshark.flow import Guard


def other(guard: Guard, item: Switch | Inner, ns: int) -> bool:
    """Take it; true when the flow wants no more bytes."""
    if isinstance(item, Inner):
        guard.consumed(item.side, item.size or len(item.data), ns)
        within(guard, item, ns)
        return False
    return switch(guard, item, ns)


def introduce(guard: Guard, dissector: Dissector, after: Switch | None) -> None:
    """What a new dissector may want to know before it is fed (optional in the contract)."""
    if after is not None and (switched := guard.call(getattr, dissector, "switched", None)):
        own = guard.call(switched, after)
        if own is not None and guard.passed is not None and guard.asked is not None:
            adopt(guard, guard.asked, own)
    layers = guard.engine.carried.get(guard.name())
    if layers is not None and (carry := guard.call(getattr, dissector, "carry", None)):
        guard.call(carry, layers)


def adopt(guard: Guard, asked: Pairing, own: object) -> None:
    """The new dissector answers the request that it was told of, and says how it calls that."""
    if type(own) is not Message:
        raise Rubbish(f"its switched() gave {type(own).__name__}, not Message")
    made, guard.passed = checked(own) if guard.strict else own, None
    asked.inherit(made)
    if not guard.timed:
        guard.timed = True
        guard.engine.watch(guard, made.last_ns)


def switch(guard: Guard, item: Switch, ns: int) -> bool:
    """The dissector hands the flow to another protocol, and perhaps a request that is to be answered there."""
    previous = guard.name()
    if item.request is not None and guard.asked is not None:
        guard.passed = guard.asked.withdraw(item.request)
    over = hand_over(guard, replace(item, request=guard.passed), ns)
    left, guard.passed = guard.passed, None
    if left is not None and guard.emitter is not None:  # nobody answers it
        left.protocol = left.protocol or previous
        guard.emitter.emit(left, None, Outcome.CUT, False)
    return over


def hand_over(guard: Guard, item: Switch, ns: int) -> bool:
    """The flow is another protocol's."""
    engine, previous = guard.engine, guard.name()
    guard.close_pairs(Outcome.UNANSWERED)
    guard.settle("")
    guard.leave()
    guard.switches += 1
    if item.opaque:
        guard.server_name = item.context if isinstance(item.context, str) else ""
        return guard.give_up(item.opaque)
    if guard.switches > limits.SWITCHES:
        engine.ledger.count(engine.ledger.limits, "switches")
        return guard.give_up(f"handed over more than {limits.SWITCHES} times")
    guard.restart()
    pieces = [(0, item.client, ns), (1, item.server, ns)]
    pieces = [(side ^ guard.flip, data, at) for side, data, at in pieces if data]
    choice = engine.named(item.protocol, f"switched from {previous}")
    if choice is not None:
        guard.window.replay(pieces)
        return guard.begin(choice, item)
    if item.protocol:
        return guard.give_up(f"{item.protocol} (switched from {previous}): no dissector")
    return any(guard.chunk(side, data, at) for side, data, at in pieces)


def within(guard: Guard, item: Inner, ns: int) -> None:
    """Bytes of a flow within this one."""
    inner = guard.inner
    if inner is None:
        inner = guard.inner = opened(guard, item, ns)
        if inner is None:
            return
    wire, tally = inner.wire, guard.tally
    assert isinstance(wire, InnerFlow)
    wire.last_ns = ns
    if item.missing:
        inner.gap(item.side, item.missing, ns)
    if item.data:
        wire.size[item.side] += len(item.data)
        inner.chunk(item.side, item.data, ns)
        tally.chunks -= 1  # they are counted already, as what they are wrapped in
        tally.payload -= len(item.data)


def end_inner(guard: Guard, reason: int) -> None:
    """The flow within is over, too."""
    inner, guard.inner = guard.inner, None
    if inner is not None:
        inner.end(reason, inner.wire.last_ns)


def opened(guard: Guard, item: Inner, ns: int) -> Guard | None:
    """The guard of the flow within; None where flows are in each other too deep."""
    engine = guard.engine
    wire = InnerFlow(guard.wire, bool(guard.flip), guard.name(), ns, item.name)
    if wire.depth > limits.INNERS:
        engine.ledger.count(engine.ledger.limits, "inners")
        return None
    inner: Guard = engine.guarded(wire)
    inner.oriented = True
    inner.hint = item.hint
    choice = engine.named(item.protocol, "it says so") if item.protocol else None
    if choice is not None:
        inner.begin(choice)
    return inner


def part(guard: Guard, item: Switch) -> None:
    """The end finds that what came last could not be read: the flow is an entry, with that reason."""
    guard.close_pairs(Outcome.UNANSWERED)
    guard.settle(item.opaque)
    guard.server_name = item.context if isinstance(item.context, str) else ""
    guard.give_up(item.opaque)


def finish(guard: Guard, ns: int) -> None:
    """What only the end of a flow completes."""
    if not guard.running():
        return
    try:
        found, fault = guard.given("close")
        if fault is not None:
            guard.count_error(fault)
        for item in found:
            if isinstance(item, Message):
                guard.route_last(checked(item) if guard.strict else item, ns)
            elif isinstance(last := handed(item), Inner):
                other(guard, last, ns)
            elif isinstance(last, Switch) and last.opaque:
                part(guard, last)
            # Of another Switch nobody is left to take the flow over.
    except BaseException as error:
        guard.blame(error)
