"""``kshark verify``: a second opinion on a capture file."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kshark.api import PluginError, ProtocolSpec
from kshark.cli import DONE, FAILED, common, registry
from kshark.stderr import say

if TYPE_CHECKING:
    from kshark._tshark import Table
    from kshark.verify import Comparison, Difference

SHOWN: Final = 20
"""Differences that are printed; ``--json`` gives all."""


@click.command()
@click.argument("capture", metavar="FILE")
@click.option("--against", type=click.Choice(["tshark"]), default="tshark", help="Whose opinion.")
@click.option(
    "--protocol",
    "names",
    multiple=True,
    metavar="NAME",
    help="Compare these [default: all that have a mapping].",
)
@click.option("--map", "mapping", metavar="FILE", default="", help="Fields by name, TOML.")
@click.option("--assume", multiple=True, metavar="PORT=NAME", help="A port's protocol.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def verify(
    capture: str,
    against: str,
    names: Sequence[str],
    mapping: str,
    assume: Sequence[str],
    as_json: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Compare what kshark and tshark make of a file, message by message, and say who is likely wrong.

    \b
    kshark verify x.pcap --protocol http
    kshark verify x.pcap --protocol mine --plugin mine.py --map fields.toml

    A mapping says which of tshark's fields are ours: http, redis and dns have one, a plugin may have one in
    its module (TSHARK = {...}), a file may give others:

    \b
    [mqtt]
    filter = "mqtt"
    request = {present = "mqtt.topic", fields = {target = "mqtt.topic"}}

    Exit codes: 0 both say the same; 1 they differ; 2 what you typed was wrong.
    """
    from kshark.plan import assumptions
    from kshark.verify import compare, entries_of

    known = registry(plugins, config)
    ports = assumptions(assume, known)
    tables = chosen(names, mapping, known.protocols)
    entries = entries_of(capture, known, ports)
    results = [compare(capture, known.protocols[n], table, entries) for n, table in tables.items()]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(results), indent=2))
    else:
        for one in results:
            tell(one)
    return FAILED if any(one.differences for one in results) else DONE


def chosen(
    names: Sequence[str], path: str, protocols: Mapping[str, ProtocolSpec]
) -> dict[str, Table]:
    """The mappings to use, by protocol."""
    from kshark._tshark import BUILT_IN, table_of

    given = from_file(path)
    for name in (*names, *given):
        if name not in protocols:
            from kshark.settings import nearest

            raise PluginError(f"no protocol {name!r}{nearest(name, protocols)}")
    tables: dict[str, Table] = {}
    for name in names or protocols:
        own = getattr(sys.modules.get(_module(protocols[name])), "TSHARK", None)
        if name in given:
            tables[name] = table_of(given[name], path)
        elif own is not None:
            tables[name] = table_of(own, f"TSHARK of {name}")
        elif name in BUILT_IN:
            tables[name] = BUILT_IN[name]
        elif names:
            raise PluginError(f"{name} has no mapping to tshark's fields: give one with --map FILE")
    return tables


def from_file(path: str) -> dict[str, Any]:
    """The tables of a TOML file."""
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PluginError(f"--map {path}: {error}") from None


def _module(spec: ProtocolSpec) -> str:
    """Where the plugin lives: the module of its details, else of its dissector."""
    for thing in (spec.request, spec.details, spec.dissector):
        name = getattr(thing, "__module__", "")
        if name and not name.startswith("kshark.grammar"):
            return name
    return ""


def tell(result: Comparison) -> None:
    """For people: a line for the whole, one for each difference."""
    count = len(result.differences)
    click.echo(f"{result.protocol}: {result.same:,} messages are the same, {count:,} differ")
    for one in result.differences[:SHOWN]:
        click.echo(f"  {line(one)}")
    if count > SHOWN:
        say(f"{count - SHOWN} more differences (--json)")


def line(one: Difference) -> str:
    where = f"frame {one.frame}" if one.frame else one.time
    both = []
    if one.ours:
        both.append(f"kshark {' '.join(one.ours.values())}")
    if one.theirs:
        both.append(f"tshark {' '.join(one.theirs.values())}")
    verdict = "unclear" if one.wrong == "unclear" else f"likely wrong: {one.wrong}"
    return f"{one.what}: {one.flow} {one.half} ({where}): {'; '.join(both)}; {verdict}: {one.why}"
