"""The configuration is read again while a run goes on: its backends take what may change, or all stays as it is.

What is wrong is one line, and nothing has changed. Which backends run, what sinks and protocols are told stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kshark.api import PluginError
from kshark.places import Places
from kshark.plan import Chosen, Plan, renewed
from kshark.source import Source


def renew(plan: Plan, sources: Sequence[Source], read: Callable[[], Places]) -> str:
    """Read and apply it; gives the line for the user."""
    try:
        found = renewed(plan, read())
        changed = [
            (chosen, source, options)
            for chosen, source, options in zip(plan.backends, sources, found, strict=True)
            if options != chosen.options
        ]
        apply_all(changed)
    except PluginError as error:
        return f"the configuration is not taken, all goes on as before: {error}"
    labels = ", ".join(chosen.label for chosen, _, _ in changed)
    return f"the configuration is read again: {labels or 'nothing new for a backend'}"


def apply_all(changed: Sequence[tuple[Chosen, Source, Any]]) -> None:
    """All of them, or none."""
    done: list[tuple[Chosen, Source, Any]] = []
    try:
        for chosen, source, options in changed:
            before = chosen.options
            apply(chosen, source, options)
            done.append((chosen, source, before))
    except PluginError:
        for chosen, source, before in done:
            apply(chosen, source, before)
        raise


def apply(chosen: Chosen, source: Source, options: Any) -> None:
    """Other options for a backend that runs."""
    take = getattr(source.backend, "renew", None)
    if not callable(take):
        raise PluginError(f"backend {chosen.label}: its options cannot change while it runs")
    if source.own:
        take(options)
    else:
        source.post.call(source.charge, take, options)
    chosen.options = options
