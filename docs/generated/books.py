"""Limits, counters, and the names of secrets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from generated.markdown import code, constants, prose, table
from kshark import limits, secret_names, wire
from kshark.units import show_size


def amount(value: int | float, expression: str) -> str:
    """A limit with its unit, which its expression tells."""
    if "SECOND" in expression:
        seconds = value / limits.SECOND
        return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
    if "IB" in expression:
        return show_size(int(value)).replace(".0 ", " ")
    return f"{value:,}"


def limits_page() -> Iterable[str]:
    """Every bound."""
    yield "# Limits\n"
    yield "Every buffer, table and loop has a bound, for each worker process. None fires silently: see"
    yield "[Counters](counters.md). The names are those of `kshark.limits`.\n"
    rows = [
        [code(name), amount(getattr(limits, name), expression), prose(text)]
        for name, expression, text in constants(limits)
    ]
    yield from table(("name", "value", "meaning, precedents"), rows)


def comments_after(module: Any) -> dict[str, str]:
    """``"name",  # text`` lines of a module's source."""
    return dict(re.findall(r'^\s*"(\w+)",\s*#\s*(.+)$', inspect.getsource(module), re.MULTILINE))


COUNTERS = {
    "packets.received": "packets that the backend handed over",
    "packets.dissected": "packets of flows that a dissector took",
    "packets.opaque": "packets of flows that nobody dissected, by reason",
    "packets.late": "packets of a flow that has ended: the last ACK of a connection, and the like",
    "packets.open": "packets of flows that have not ended yet",
    "packets.dropped": "packets that reached no flow, by reason (below)",
    "stream.chunks": "in-order pieces that flows were given",
    "stream.bytes": "their bytes",
    "flows": "flows by protocol",
    "messages": "messages that dissectors found, by kind",
    "entries": "entries by outcome",
    "limits": "how often a bound fired, by its name",
    "errors": "protocol errors of peers and bugs of plugins, by protocol and text",
    "wire": "events of the wire (below)",
    "backends": "for each backend: packets received, and dropped by reason (`kernel`: kshark was too slow)",
    "sinks": "for each sink: entries, delivered, queued, dropped by reason (`not shown`: it could not render them)",
}


def counters_page() -> Iterable[str]:
    """What the ledger counts."""
    words = comments_after(wire)
    yield "# Counters\n"
    yield "`kshark doctor --json` and the closing line of a run count this ([how to read it](../ledger.md)):\n"
    yield from table(("counter", "meaning"), ([code(n), t] for n, t in COUNTERS.items()))
    yield "## Packets that reached no flow\n"
    drops = [name for name in wire.DROPS if name != "late"]
    yield from table(("reason", "meaning"), ([code(n), words[n]] for n in drops))
    yield "## Events of the wire\n"
    events = [n for n in wire.COUNTERS if n not in (*wire.DROPS, "received", "in_flows")]
    yield from table(("event", "meaning"), ([code(n), words[n]] for n in events))


def secrets_page() -> Iterable[str]:
    """What the redaction classes look for: the lists of `kshark.secret_names`."""
    lists = (
        ("Every name that holds one of these", secret_names.SECRET_PARTS),
        ("... but not these, which turn pages", secret_names.PUBLIC_NAMES),
        ("Fields of a form, of JSON or XML, parameters of a URL", secret_names.SECRET_PARAMETERS),
        ("Headers", secret_names.SECRET_HEADERS),
        ("Headers whose name holds one of these", secret_names.HEADER_PARTS),
    )
    yield from ("# Secret names", "")
    yield "`Redact.BODY`, `Redact.URL` and `Redact.HEADERS` hide the values of these names. Names are compared in lower"
    yield "case and without punctuation. `Redact.VALUE` hides the whole value, whatever it is called."
    yield ""
    yield from table(
        ("where", "names"), [[text, ", ".join(map(code, sorted(names)))] for text, names in lists]
    )
