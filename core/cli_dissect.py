"""``kshark dissect``: bytes on standard input, messages on standard output."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import click

from kshark.api import DissectError, Dissector, Message, ProtocolSpec, Side, Switch
from kshark.cli import DONE, FAILED, WRONG, common, registry, say
from kshark.plugins import raised as plugin_error

SIDES: Final = {"client": Side.CLIENT, "server": Side.SERVER}
ARROWS: Final = {">": Side.CLIENT, "<": Side.SERVER}
PIECE: Final = 64 * 1024
"""Bytes given to a dissector at once, as segments would be."""
SWITCHES: Final = 16
"""Hand-overs to another protocol that are followed."""

Piece = tuple[Side, bytes]


@click.command()
@click.option("--protocol", required=True, metavar="NAME", help="Who dissects.")
@click.option("--hex", "is_hex", is_flag=True, help="Input is hex digits; > and < begin a side.")
@click.option("--side", type=click.Choice(list(SIDES)), default="client", help="Who sent them.")
@click.option("--server", is_flag=True, help="The same as --side server.")
@click.option("--full", is_flag=True, help="With the protocol's typed details.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
@common
def dissect(
    protocol: str,
    is_hex: bool,
    side: str,
    server: bool,
    full: bool,
    as_json: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Feed bytes from standard input to a dissector and show the messages that come out.

    \b
    printf 'PING\\r\\n' | kshark dissect --protocol redis
    printf '> 50494e470d0a\\n< 2b504f4e470d0a\\n' | kshark dissect --protocol redis --hex
    """
    spec: ProtocolSpec = registry(plugins, config).find("protocols", protocol, "--protocol")
    first = Side.SERVER if server else SIDES[side]
    raw = sys.stdin.buffer.read()
    try:
        pieces = list(_hex(raw, first)) if is_hex else [(first, raw)]
    except ValueError as error:
        say(str(error))
        return WRONG
    show = _as_json(spec, full) if as_json else _as_text(spec, full)
    return _run(spec, pieces, show, registry(plugins, config).protocols)


def _hex(raw: bytes, side: Side) -> Iterator[Piece]:
    """Lines of hex digits; blanks, colons and ``0x`` between them do not matter."""
    for number, line in enumerate(raw.decode("ascii", "replace").splitlines(), 1):
        text = line.strip()
        if text[:1] in ARROWS:
            side, text = ARROWS[text[0]], text[1:]
        digits = re.sub(r"0x|[\s:,]", "", text)
        if not digits:
            continue
        try:
            yield side, bytes.fromhex(digits)
        except ValueError:
            raise ValueError(f"line {number} is not hex digits: {line.strip()[:40]!r}") from None


def _run(
    spec: ProtocolSpec,
    pieces: Iterable[Piece],
    show: Callable[[Message, Side], None],
    protocols: Any,
) -> int:
    """Feed, show, and follow a hand-over to another protocol."""
    dissector: Dissector = spec.dissector()
    waiting = [(s, data[i : i + PIECE]) for s, data in pieces for i in range(0, len(data), PIECE)]
    switches, shown, total = 0, 0, sum(len(data) for _, data in waiting)
    try:
        while waiting:
            side, data = waiting.pop(0)
            for found in dissector.feed(side, data):
                if isinstance(found, Message):
                    shown += 1
                    show(found, side)
                    continue
                switches += 1
                after = protocols.get(found.protocol)
                say(f"hands over to {found.protocol or 'whoever recognises it'}")
                if after is None or switches > SWITCHES:
                    return DONE
                dissector = after.dissector()
                waiting[:0] = _handed_over(found)
        for found in dissector.close():
            if isinstance(found, Message):
                shown += 1
                show(found, Side(found.side) if found.side >= 0 else Side.CLIENT)
    except DissectError as error:
        say(f"{spec.name}: {type(error).__name__}: {error}")
        return FAILED
    except Exception as error:  # a plugin's own code
        say(f"{spec.name}: a mistake in the dissector: {plugin_error(error)}")
        return FAILED
    if total and not shown:
        say(f"{spec.name}: no message in {total} bytes")
        return FAILED
    return DONE


def _handed_over(switch: Switch) -> list[Piece]:
    both = ((Side.CLIENT, switch.client), (Side.SERVER, switch.server))
    return [(side, data) for side, data in both if data]


def _as_text(spec: ProtocolSpec, full: bool) -> Callable[[Message, Side], None]:
    def show(message: Message, side: Side) -> None:
        arrow = "<" if (message.side if message.side >= 0 else side) else ">"
        marks = [name for name in ("truncated", "cut") if getattr(message, name)]
        parts = [arrow, _kind(message), message.verb, message.target]
        parts += [str(message.status) if message.status else "", "" if message.ok else "failed"]
        parts += [f"{message.size} bytes", *message.notes, *marks]
        click.echo(" ".join(_printable(part) for part in parts if part))
        details = _details(spec, message) if full else {}
        for name, value in details.items():
            click.echo(f"    {name}: {_printable(str(value))}")

    return show


def _as_json(spec: ProtocolSpec, full: bool) -> Callable[[Message, Side], None]:
    import msgspec

    def show(message: Message, side: Side) -> None:
        row = {
            "side": Side(message.side if message.side >= 0 else side).name.lower(),
            "kind": _kind(message),
            **{k: getattr(message, k) for k in ("verb", "target", "status", "ok", "key", "size")},
            "truncated": message.truncated,
            "cut": message.cut,
            "notes": list(message.notes),
        }
        if full:
            row["details"] = _details(spec, message)
        click.echo(msgspec.json.encode(row))

    return show


def _kind(message: Message) -> str:
    from kshark.api import Kind

    return Kind(message.kind).name.lower()


def _details(spec: ProtocolSpec, message: Message) -> dict[str, Any]:
    """The typed details, redacted as everywhere."""
    import msgspec

    from kshark.render import Renderer

    found = Renderer({spec.name: spec}).details(message, spec.name)
    details: dict[str, Any] = {} if found is None else msgspec.to_builtins(found)
    return details


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
