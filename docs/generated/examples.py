"""An example of a protocol: a conversation, and what a run shows of it.

It stands in ``docs/examples/NAME.txt``, as ``kshark dissect --hex`` reads it; a line ``# over udp`` makes its pieces
datagrams. It goes through an engine with all built-in protocols, which has to find out by itself what it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from generated.markdown import builtins
from kshark import api, talk
from kshark.engine import Engine, EngineSettings
from kshark.redact import redact_targets
from kshark.render import Renderer
from kshark.sinks._lines import Layout, Palette
from kshark.testing.context import context
from kshark.testing.play import PROTO, STEP, MadeFlow
from kshark.wire import END_FIN

FOLDER = Path(__file__).parents[1] / "examples"
WIDTH = 116
"""Characters of a line of JSON; what is longer is broken."""


def example(name: str) -> Iterable[str]:
    """The conversation, its rows and the JSON of one; nothing for a protocol without a conversation."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    entries = run(text, name)
    yield "## Example\n"
    yield "A conversation (`>` the client, `<` the server):\n"
    yield from ("```text", text.rstrip(), "```\n")
    yield "In the terminal:\n"
    yield from ("```text", *lines(entries), "```\n")
    yield f"The first entry of {name} with `--full --sink jsonl:-`, broken into lines:\n"
    yield from ("```json", shown(next(entry for entry in entries if of(name, entry))), "```\n")


def of(name: str, entry: api.Entry) -> bool:
    """Whether this is one of that protocol, or has what an enricher of that name adds."""
    return entry.protocol == name or name in (entry.extra or {})


def run(text: str, name: str) -> list[api.Entry]:
    """The entries of the conversation, as sinks get them."""
    known = builtins()
    specs = known.protocols
    over = "udp" if "# over udp" in text else "tcp"
    engine = Engine(list(specs.values()), EngineSettings(backend="pcap"))
    ports = specs[name].ports if name in specs else ()
    flow = MadeFlow(PROTO[over], server_port=ports[0] if ports else 4_000)
    consumer = engine.open(flow)
    for side, piece in talk.parse(text).pieces:
        flow.last_ns += STEP
        flow.seen[side] += 1
        if isinstance(piece, bytes):
            flow.size[side] += len(piece)
            consumer.chunk(side, piece, flow.last_ns)
        else:
            consumer.gap(side, piece, flow.last_ns)
    consumer.end(END_FIN, flow.last_ns)
    entries = engine.take()
    if name in known.enrichers:
        spec = known.enrichers[name]
        entries = spec.make(spec.options(), context(*specs.values())).enrich(entries)
    entries = redact_targets(entries, specs)
    assert any(of(name, entry) for entry in entries), f"{name}: its example is not recognised"
    return entries


def lines(entries: Iterable[api.Entry]) -> Iterable[str]:
    """Rows as in a pipe, at the time of Greenwich."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        layout = Layout(Palette(False))
        return [line.rstrip() for line in (layout.header(), *map(layout.line, entries))]
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def shown(entry: api.Entry) -> str:
    """The entry with all details, redacted."""
    row = Renderer(builtins().protocols).as_dict(entry, full=True)
    members = (
        f"{json.dumps(name)}: {laid_out(value, '  ', len(name) + 6)}" for name, value in row.items()
    )
    return "{\n  " + ",\n  ".join(members) + "\n}"


def laid_out(value: object, before: str, used: int) -> str:
    """JSON on one line, or a member a line where that is too long."""
    flat = json.dumps(value, ensure_ascii=False)
    if used + len(flat) <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = before + "  "
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(k)}: {laid_out(v, inner, len(inner) + len(k) + 4)}"
            for k, v in value.items()
        ]
    else:
        parts = [laid_out(one, inner, len(inner)) for one in value]
    ends = "{}" if isinstance(value, dict) else "[]"
    return f"{ends[0]}\n{inner}" + f",\n{inner}".join(parts) + f"\n{before}{ends[1]}"
