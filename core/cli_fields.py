"""``kshark fields``: the names that a filter may use."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kshark.cli import common, registry
from kshark.cli_lists import Row, as_json, print_rows


@click.command()
@click.argument("protocol", required=False)
@common
@as_json
def fields(protocol: str | None, plugins: Sequence[str], config: str, as_json: bool) -> int:
    """The fields of filters with their types: those of every entry, or those of PROTOCOL.

    \b
    kshark fields                    all of them
    kshark fields http               those of HTTP
    kshark fields | grep -i size     those that speak of sizes
    """
    from kshark.filter.fields import known_fields
    from kshark.plan import builtin_names

    found = registry(plugins, config, needed={"protocols": builtin_names("protocols")})
    if protocol:
        found.find("protocols", protocol)
    rows: list[Row] = [
        {"field": one.name, "type": one.type, "doc": one.doc}
        for one in known_fields(found.protocols).values()
        if not protocol or one.protocol == protocol
    ]
    return print_rows(rows, as_json, ("field", "type", "doc"))
