"""The hooks that a plugin may implement, each marked with `kshark.api.hookimpl`.

They are called once, at start-up, and what they return is checked before anything is taken over;
nothing in the path of a packet goes through a hook. A hook may be written with fewer arguments than
it is declared with here, so that hooks can grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from kshark.api import BackendSpec, EnricherSpec, ProtocolSpec, SinkSpec

hookspec = pluggy.HookspecMarker("kshark")


@hookspec
def register_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """The protocols that this plugin dissects."""


@hookspec
def register_backends() -> Iterable[BackendSpec]:  # type: ignore[empty-body]
    """The sources of packets that this plugin knows."""


@hookspec
def register_sinks() -> Iterable[SinkSpec]:  # type: ignore[empty-body]
    """The places to which this plugin sends entries."""


@hookspec
def register_enrichers() -> Iterable[EnricherSpec]:  # type: ignore[empty-body]
    """What this plugin adds to entries, or drops of them, before filters and sinks."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `cli`; one that has the name of a command of kshark is refused."""
