"""``kshark doctor``: what this machine allows; with ``--read``, where the packets of a file went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from kshark.cli import EXITS, WRONG, common, registry
from kshark.stderr import say


@click.command(epilog=EXITS)
@click.option("--read", "path", metavar="FILE", help="Account for every packet of this file.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Dissect only these.")
@click.option("--filter", metavar="CEL", default="", help="Only entries for which this holds.")
@click.option("--assume", multiple=True, metavar="PORT=NAME", help="A port's protocol.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def doctor(
    path: str | None,
    protocols: Sequence[str],
    assume: Sequence[str],
    filter: str,
    as_json: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Say what works on this machine and what does not, and how to mend it.

    \b
    kshark doctor                     the compiled core, backends, privileges, plugins
    kshark doctor --read x.pcap       the books of a file: seen, decoded, reassembled,
                                      identified, dissected, paired, delivered, and why not
    """
    from kshark import doctor as diagnosis

    if path is None:
        report = diagnosis.machine(registry(plugins, config))
        return _print(report, as_json, diagnosis.machine_lines)
    books, code = diagnosis.books(path, protocols, assume, filter, plugins, config, say)
    return code if code == WRONG else _print(books, as_json, diagnosis.book_lines) or code


def _print(report: dict[str, Any], as_json: bool, lines: Any) -> int:
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        click.echo("\n".join(lines(report)))
    return 0
