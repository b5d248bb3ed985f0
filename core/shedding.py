"""Who pays when memory is short: the flows that hold most, for longest, and how they pay.

What never ends gives way to what moves. A flow pays with what it holds most of: the older half of its requests
that wait are given up; or the bodies of messages under way are not kept; or it is not dissected any more. It
stays in the table, so that its next packets cost nothing.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from kshark.flow import Guard
from kshark.given import Rubbish
from kshark.handover import finish

if TYPE_CHECKING:
    from kshark.engine import Engine

REASON = "memory bound"


def shed(engine: Engine, target: int) -> None:
    """Flows pay until messages under way or waiting take no more than `target` bytes."""
    now, tally = engine.wire.now, engine.tally
    while tally.reserved > target:
        worst = sorted(((weight(g) * age(g, now), g) for g in engine.guards), key=itemgetter(0))
        while worst and tally.reserved > target:
            price, guard = worst.pop()
            if not price:
                return
            pay(guard, now)
            engine.ledger.count(engine.ledger.limits, "shed")


def weight(guard: Guard) -> int:
    """Bytes that a flow holds beside what every flow costs."""
    return guard.reserved + waiting(guard)


def waiting(guard: Guard) -> int:
    """Bytes of its requests without an answer."""
    return sum(p.reserved() for p in (guard.asked, guard.asked_back) if p is not None)


def age(guard: Guard, now: int) -> int:
    """For how many ns the flow has held the oldest of what it holds; at least 1."""
    begun = [
        guard.oldest(),
        *(p.oldest() for p in (guard.asked, guard.asked_back) if p is not None),
    ]
    return max(1, now - min(filter(None, begun), default=guard.wire.first_ns))


def pay(guard: Guard, now: int) -> None:
    """One flow holds less."""
    if waiting(guard) > guard.reserved:
        for pairing in (guard.asked, guard.asked_back):
            if pairing is not None:
                pairing.shed()
    elif not slimmed(guard):
        finish(guard, now)
        guard.give_up(REASON)


def slimmed(guard: Guard) -> bool:
    """Have the dissector forget bodies (optional in the contract); whether that halves what is held."""
    ask = getattr(guard.dissector, "slim", None)
    if ask is None or not guard.running():
        return False
    try:
        left = guard.call(ask)
        if type(left) is not int:
            raise Rubbish(f"slim() gave {type(left).__name__}, not int")
    except BaseException as error:
        guard.blame(error)
        return False
    if left > guard.reserved // 2:
        return False
    guard.spare(max(0, left))
    return True
