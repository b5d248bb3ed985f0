"""``kshark fields``: the names that a filter may use."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kshark.cli import common, registry
from kshark.cli_lists import Row, as_json, print_rows


@click.command()
@click.argument("name", required=False, metavar="[PROTOCOL]")
@common
@as_json
def fields(name: str | None, plugins: Sequence[str], config: str, as_json: bool) -> int:
    """The fields of filters with their types: all of them, or those of PROTOCOL.

    What an enricher adds to entries is listed by the name of its object.

    \b
    kshark fields                    all of them
    kshark fields http               those of HTTP
    kshark fields | grep -i size     those that speak of sizes
    """
    from kshark.filter.fields import known_fields
    from kshark.plan import builtin_names

    found = registry(plugins, config, needed={"protocols": builtin_names("protocols")})
    if name and name not in found.adds:
        found.find("protocols", name)
    wanted = name and name.replace("-", "_")
    rows: list[Row] = [
        {"field": one.name, "type": one.type, "doc": one.doc}
        for one in known_fields(found.protocols, found.adds).values()
        if not wanted or one.name.partition(".")[0] == wanted
    ]
    return print_rows(rows, as_json, ("field", "type", "doc"))
