"""An answer that takes its time is none that is missing: the dissector is asked before a request is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kshark.given import begun

if TYPE_CHECKING:
    from kshark.api import Side
    from kshark.flow import Guard


def answering(guard: Guard, side: Side, key: int) -> bool:
    """Whether the answer of that key has begun (optional in the contract)."""
    try:
        return guard.running() and bool(guard.call(begun, guard.dissector, side, key))
    except BaseException as error:
        guard.blame(error)
        return False
