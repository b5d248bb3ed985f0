"""``kshark flows``: the conversations of a capture file, or the bytes of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from kshark.cli import DONE, common, registry
from kshark.entry_json import time_text
from kshark.stderr import say
from kshark.streams import Seen, Stream
from kshark.table import show

COLUMNS = ("flow", "id", "transport", "client", "server", "bytes", "protocol", "reason")


@click.command()
@click.argument("capture", metavar="FILE")
@click.option("--flow", default="", metavar="N|ID", help="The bytes of this flow, side by side.")
@click.option("--assume", multiple=True, metavar="PORT=NAME", help="A port's protocol.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def flows(
    capture: str,
    flow: str,
    assume: Sequence[str],
    as_json: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """List the flows of a capture file: who, how much, which protocol and why.

    \b
    kshark flows x.pcap
    kshark flows x.pcap --flow 3                       its bytes, as text
    kshark flows x.pcap --flow 3 | kshark dissect --protocol redis --hex
    """
    from kshark.plan import assumptions
    from kshark.streams import look

    known = registry(plugins, config)
    seen, stream, more = look(capture, known, flow=flow, assume=assumptions(assume, known))
    if stream is not None:
        from kshark import talk

        click.echo(talk.show(stream.pieces, comment=describe(stream, capture)), nl=False)
    elif as_json:
        rows = [_row(one) for one in seen]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    else:
        show(COLUMNS, [_cells(one) for one in seen])
    if more:
        say(f"{more} further flows are not listed")
    return DONE


def describe(stream: Stream, capture: str) -> str:
    """What a reader of its bytes wants to know, as a comment."""
    from pathlib import Path

    seen = stream.seen
    lines = [
        f"flow {seen.number} ({seen.id}) of {Path(capture).name}",
        f"{seen.client} -> {seen.server}, {seen.transport}, {seen.protocol or seen.reason}",
    ]
    if seen.midstream:
        lines.append("its beginning was not captured")
    if stream.left_out:
        lines.append(f"{stream.left_out} bytes after these are left out")
    return "\n".join(lines)


def _row(seen: Seen) -> dict[str, Any]:
    both = ("client", "server")
    return {
        "flow": seen.number,
        "id": seen.id,
        "time": time_text(seen.first_ns),
        "transport": seen.transport,
        "client": seen.client,
        "server": seen.server,
        "bytes": dict(zip(both, seen.bytes, strict=True)),
        "chunks": dict(zip(both, seen.chunks, strict=True)),
        "lost": seen.lost,
        "midstream": seen.midstream,
        "protocol": seen.protocol or None,
        "reason": seen.reason,
    }


def _cells(seen: Seen) -> list[object]:
    size = f"{seen.bytes[0]:,} > {seen.bytes[1]:,} <"
    name = seen.protocol or "-"
    places = (seen.transport, seen.client, seen.server)
    return [seen.number, seen.id, *places, size, name, seen.reason]
