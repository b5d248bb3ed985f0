"""Calls that failed although their carrier says that all went well: an error in a body of status 200."""

from __future__ import annotations

from kshark.api import Entry, Outcome
from kshark.enrichers._json import shorter


def fail(entry: Entry, why: str) -> None:
    """The entry is an error, and its row says why."""
    half = entry.response if entry.response is not None else entry.request
    assert half is not None
    half.ok = False
    if entry.response is not None:
        half.target = shorter(why)
    if entry.outcome is Outcome.OK:
        entry.outcome = Outcome.ERROR
