"""``kshark dissect``: bytes on standard input, messages on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from kshark import talk
from kshark.api import (
    Details,
    DissectError,
    Inner,
    Kind,
    Message,
    PluginError,
    ProtocolSpec,
    Side,
    Switch,
)
from kshark.cli import DONE, FAILED, WRONG, common, registry
from kshark.stderr import say
from kshark.talk import Piece
from kshark.trial import Mistake, Trial

if TYPE_CHECKING:
    from kshark.explain import Mask, Node

SIDES: Final = {"client": Side.CLIENT, "server": Side.SERVER}
PIECE: Final = 64 * 1024
"""Bytes given to a dissector at once, as segments would be."""
SWITCHES: Final = 16
"""Hand-overs to another protocol that are followed."""

Show = Callable[[ProtocolSpec, Message, Side], None]


@click.command()
@click.option("--protocol", required=True, metavar="NAME", help="Who dissects.")
@click.option(
    "--hex",
    "is_hex",
    is_flag=True,
    help='Input is text: hex digits or "strings"; > and < begin a side.',
)
@click.option("--side", type=click.Choice(list(SIDES)), default="client", help="Who sent them.")
@click.option("--server", is_flag=True, help="The same as --side server.")
@click.option("--full", is_flag=True, help="With the protocol's typed details.")
@click.option("--explain", is_flag=True, help="With every byte: what it is, and where.")
@click.option(
    "--no-redact", is_flag=True, help="Secrets too, which are hidden as in sinks otherwise."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
@click.option(
    "--proto",
    multiple=True,
    metavar="FILE|FOLDER",
    help="Types of gRPC bodies: descriptor set, folder of .proto, or reflect:HOST:PORT.",
)
@click.option(
    "--tls-keylog", metavar="FILE", default="", help="Key log of TLS connections, to decrypt them."
)
@click.option("--watch", is_flag=True, help="Again whenever the file of --plugin changes.")
@common
def dissect(
    protocol: str,
    is_hex: bool,
    side: str,
    server: bool,
    full: bool,
    explain: bool,
    no_redact: bool,
    as_json: bool,
    proto: Sequence[str],
    tls_keylog: str,
    watch: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Feed bytes from standard input to a dissector and show the messages that come out.

    \b
    printf 'PING\\r\\n' | kshark dissect --protocol redis
    printf '> 50494e470d0a\\n< "+PONG\\\\r\\\\n"\\n' | kshark dissect --protocol redis --hex
    kshark dissect --plugin mine.py --protocol mine --hex --explain --watch < case.txt
    """
    if not watch:  # a wrong name is told before anybody waits for input
        registry(plugins, config).dissecting(protocol, "--protocol", layers=True)
    first = Side.SERVER if server else SIDES[side]
    raw = sys.stdin.buffer.read()
    try:
        pieces = pieces_of(raw, first) if is_hex else [(first, raw)]
    except ValueError as error:
        say(str(error))
        return WRONG

    def once() -> int:
        from kshark.places import places
        from kshark.plan import configure
        from kshark.settings import Given

        found = registry(plugins, config)
        given = {"tls_keylog": Given(tls_keylog, "--tls-keylog")} if tls_keylog else {}
        if proto:
            given["proto"] = Given(list(proto), "--proto")
        where = places(given, config)
        configure(found, where, where.run_layers())
        spec = found.dissecting(protocol, "--protocol", layers=True)
        run = _Run(
            found.protocols, as_json=as_json, full=full, explain=explain, redact=not no_redact
        )
        if spec.layer is None:
            return run.play(spec, list(pieces))
        run.only = spec.name
        return run.play(carrier(spec, found.protocols, pieces), list(pieces))

    if not watch:
        return once()
    from kshark.cli_watch import again_and_again

    return again_and_again(plugins, once)


def pieces_of(raw: bytes, side: Side) -> list[Piece]:
    """Text of a conversation, long pieces cut as segments would be."""
    pieces: list[Piece] = []
    for who, piece in talk.parse(raw.decode("utf-8", "replace"), side).pieces:
        if isinstance(piece, int):
            pieces.append((who, piece))
        else:
            pieces += [(who, piece[at : at + PIECE]) for at in range(0, len(piece), PIECE)]
    return pieces


def carrier(
    spec: ProtocolSpec, protocols: Mapping[str, ProtocolSpec], pieces: Sequence[Piece]
) -> ProtocolSpec:
    """Who carries a protocol that has no dissector: as the bytes begin, else the first that it names."""
    known = [protocols[name] for name in spec.over if name in protocols]
    if not known:
        raise PluginError(f"{spec.name} is carried by {', '.join(spec.over)}: no such protocol")
    for one in known:
        for side, begins in ((Side.CLIENT, one.magic), (Side.SERVER, one.replies)):
            first = next((p for who, p in pieces if who == side and isinstance(p, bytes)), b"")
            if first.startswith(begins):
                return one
    return known[0]


class _Run:
    """One pass over the pieces, followed through hand-overs to other protocols."""

    def __init__(
        self,
        protocols: Mapping[str, ProtocolSpec],
        *,
        as_json: bool,
        full: bool,
        explain: bool,
        redact: bool,
    ) -> None:
        from kshark.engine import Engine
        from kshark.render import Renderer

        self.protocols = protocols
        self.carried = Engine(list(protocols.values()), say=say).carried
        self.only = ""  # the protocol whose messages are shown, "" for all
        self.redact = redact
        self.renderer = Renderer(protocols, redact)
        self.as_json = as_json
        self.full = full
        self.explain = explain
        self.shown = 0
        self.streams: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self.given = [0, 0]  # bytes of each side that messages have counted
        self.trial: Trial | None = None
        self.inner: _Run | None = None  # of the flow within

    def play(self, spec: ProtocolSpec, waiting: list[Piece]) -> int:
        """Feed and show; the exit code."""
        total = sum(len(piece) for _, piece in waiting if isinstance(piece, bytes))
        try:
            self._feed(spec, [*waiting])
        except DissectError as error:
            say(f"{spec.name}: {type(error).__name__}: {error}")
            return FAILED
        except Mistake as error:  # in a plugin's own code
            say(f"{spec.name}: a mistake in the dissector: {error}")
            return FAILED
        if total and not self.shown:
            said = {side for side, piece in waiting if piece}
            why = "; an answer waits for its request: give that before it (--hex, > and <)"
            say(
                f"{self.only or spec.name}: no message in {total} bytes{why * (said == {Side.SERVER})}"
            )
            return FAILED
        return DONE

    def _feed(self, spec: ProtocolSpec, waiting: list[Piece]) -> None:
        dissector, switches = self._start(spec), 0
        while waiting:
            side, piece = waiting.pop(0)
            if isinstance(piece, bytes):
                self.streams[side].extend(piece)
                found = dissector.feed(side, piece)
            else:
                found = dissector.gap(side, piece)
            for one in found:
                if isinstance(one, Message):
                    self._show(spec, one, side)
                    continue
                if isinstance(one, Inner):
                    self._within(one)
                    continue
                if one.opaque:
                    say(f"from here on nothing can be read: {one.opaque}")
                    return
                switches += 1
                say(f"hands over to {one.protocol or 'whoever recognises it'}")
                after = self.protocols.get(one.protocol)
                if after is None or switches > SWITCHES:
                    return
                spec, dissector = after, self._start(after, one)
                waiting[:0] = _handed_over(one)
        for one in dissector.close():
            if isinstance(one, Message):
                answers = one.kind in (Kind.RESPONSE, Kind.INTERIM)
                self._show(spec, one, Side.SERVER if answers else Side.CLIENT)

    def _within(self, one: Inner) -> None:
        """Bytes of another protocol, shown as its messages where its name is known."""
        spec = self.protocols.get(one.protocol or one.hint)
        if spec is None:
            say(f"{len(one.data)} bytes of another protocol within")
            return
        if self.inner is None:
            self.inner = _Run(
                self.protocols,
                as_json=self.as_json,
                full=self.full,
                explain=self.explain,
                redact=self.redact,
            )
            self.inner._start(spec)
        self.inner._hear(spec, Side(one.side), one)
        self.shown += 1

    def _hear(self, spec: ProtocolSpec, side: Side, one: Inner) -> None:
        assert self.trial is not None
        found = list(self.trial.gap(side, one.missing)) if one.missing else []
        self.streams[side].extend(one.data)
        for message in [*found, *self.trial.feed(side, one.data)]:
            if isinstance(message, Message):
                self._show(spec, message, side)

    def _start(self, spec: ProtocolSpec, after: Switch | None = None) -> Trial:
        self.streams = (bytearray(), bytearray())
        self.given = [0, 0]
        self.trial = Trial(spec.dissector, self.explain)
        self.trial.introduce(after, self.carried.get(spec.name))
        return self.trial

    # ------------------------------------------------------------ show

    def _show(self, spec: ProtocolSpec, message: Message, side: Side) -> None:
        if self.only and message.protocol != self.only:
            return
        self.shown += 1
        spec = self.protocols.get(message.protocol, spec)
        side = Side(message.side) if message.side >= 0 else side
        if self.as_json:
            self._json(spec, message, side)
            return
        click.echo(_line(message, side, self._target(spec, message)))
        if self.explain:
            self._explain(spec, message, side)
        elif self.full:
            for name, value in self._details(spec, message).items():
                click.echo(f"    {name}: {talk.one_line(str(value))}")

    def _json(self, spec: ProtocolSpec, message: Message, side: Side) -> None:
        import msgspec

        row = {
            "side": side.name.lower(),
            "kind": _kind(message),
            **{k: getattr(message, k) for k in ("verb", "target", "status", "ok", "key", "size")},
            "truncated": message.truncated,
            "cut": message.cut,
            "notes": list(message.notes),
        }
        row["target"] = self._target(spec, message)
        if self.full:
            row["details"] = self._details(spec, message)
        click.echo(msgspec.json.encode(row))

    def _target(self, spec: ProtocolSpec, message: Message) -> str:
        """The target of a row as sinks are given it."""
        if not (self.redact and spec.target_redact):
            return message.target
        from kshark.redact import CLASSES

        return str(CLASSES[spec.target_redact.value](message.target))

    def _details(self, spec: ProtocolSpec, message: Message) -> dict[str, Any]:
        """The typed details as plain values."""
        import msgspec

        found = self._typed(spec, message)
        details: dict[str, Any] = {} if found is None else msgspec.to_builtins(found)
        return details

    def _explain(self, spec: ProtocolSpec, message: Message, side: Side) -> None:
        """The bytes of a message, and what each part of them is."""
        from kshark.explain import Mask, Node, dump, located, tree

        start = self.given[side]
        self.given[side] = end = start + message.size
        raw = bytes(self.streams[side][start:end])
        mask = Mask(raw)
        if self.redact:
            self._hide(mask, spec, message)
        nodes, known = self._fields(spec, raw, side, mask)
        trace = self.trial.trace if self.trial is not None else None
        if trace is not None and not nodes:
            nodes.append(Node("pieces", inner=mask.pieces(trace.take(side, start, end))))
        details = self._typed(spec, message)
        if details is not None:
            own = located(details, b"" if nodes and known else mask.shown)
            if left := [node for node in own if node.name not in known]:
                nodes.append(Node("details", inner=left))
        for line in (*dump(raw, mask), *tree(nodes)):
            click.echo(f"    {line}")

    def _typed(self, spec: ProtocolSpec, message: Message) -> Details | None:
        """The typed details, redacted as sinks are given them."""
        return self.trial.details(spec, message, self.renderer) if self.trial is not None else None

    def _hide(self, mask: Mask, spec: ProtocolSpec, message: Message) -> None:
        """Cover the bytes of what redaction hides."""
        from kshark.grammar.grammar import grammar_of
        from kshark.render import Renderer

        if self._target(spec, message) != message.target:
            mask.cover(message.target)
        open_ = Renderer(self.protocols, redact=False).details(message, spec.name)
        shown = self.renderer.details(message, spec.name)
        if open_ is not None and shown is not None:
            grammar = grammar_of(spec)
            mask.cover_changed(open_, shown, grammar.redact if grammar is not None else ())

    def _fields(
        self, spec: ProtocolSpec, raw: bytes, side: Side, mask: Mask
    ) -> tuple[list[Node], set[str]]:
        """The fields of a grammar's struct with their bytes; and names that need not be told again."""
        from kshark.grammar.grammar import grammar_of

        grammar = grammar_of(spec)
        if grammar is None or not hasattr(grammar.structs[side], "parse_stream"):
            return [], set()
        from kshark.explain import Node
        from kshark.grammar.offsets import explain

        found = explain(grammar.structs[side], raw)
        if self.redact:
            mask.cover_nodes(found, grammar.redact)
        details = grammar.response if side == Side.SERVER else grammar.request
        told = set(details.__struct_fields__) if grammar.derived[side] else set()
        return [Node("fields", inner=found)], told | {node.name for node in found}


def _handed_over(switch: Switch) -> list[Piece]:
    both = ((Side.CLIENT, switch.client), (Side.SERVER, switch.server))
    return [(side, data) for side, data in both if data]


def _line(message: Message, side: Side, target: str) -> str:
    """A message in a line: who, what, how much."""
    marks = [name for name in ("truncated", "cut") if getattr(message, name)]
    parts = [talk.SIGNS[side], _kind(message), message.verb, target]
    parts += [str(message.status) if message.status else "", "" if message.ok else "failed"]
    parts += [f"{message.size} bytes", *message.notes, *marks]
    return " ".join(talk.one_line(part) for part in parts if part)


def _kind(message: Message) -> str:
    return Kind(message.kind).name.lower()
