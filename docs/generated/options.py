"""Options of runs, backends, sinks, enrichers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from generated.markdown import builtins, code, sentence, spoken, table
from kshark import plugins
from kshark.lane import LaneOptions
from kshark.places import OTHERS, RunOptions
from kshark.settings import Field, fields, variable
from kshark.units import show_size

OPTIONS = """\
# Options

Every option is declared once and may be given in three places. The later wins:

| | of a run | of a sink (or backend) |
|---|---|---|
| 1. the file of `--config`, TOML | `[run]` `iface = ["eth0"]` | `[sink.jsonl]` `rotate_bytes = "1GiB"` |
| 2. the environment | `KSHARK_IFACE=eth0` | `KSHARK_SINK_JSONL_ROTATE_BYTES=1GiB` |
| 3. the command line | `--iface eth0` | `--sink jsonl:out.ndjson,rotate_bytes=1GiB` |

On the line, what follows the colon is the `target`; a comma that belongs to a value is written `\\,`, and a key alone
switches a yes/no option on (`--sink jsonl:-,full`). Sizes may be written `512KiB`, `10MB`, `1GiB`, times `250ms`,
`30s`, `5m`, `1h30m`. A sink that stands in the file alone is used when the line names none.

```toml title="kshark.toml"
[run]
iface = ["eth*", "lo"]
workers = "auto"

[backend.af_packet]
ring_bytes = "256MiB"

[sink.console]

[sink.jsonl]
target = "calls.ndjson"
rotate_bytes = "1GiB"
compress = "gz"

[plugins]
files = ["hello.py"]
deny = ["protocols.redis"]
```
"""

VARIABLES = {
    "CONFIG": "the file of settings, as `--config`",
    "PLUGINS": "plugin files, joined by colons, as `--plugin`",
    "PURE": "`1`: plain Python only; or the name of a package, such as `kshark.protocols`: plain Python for that one",
    "DEBUG": "`1`: show the traceback of what ended a run",
    "TRACE_PLUGINS": "`1`: show each hook of a plugin and what it returned",
}


def option_row(one: Field, *kind: str) -> list[str]:
    """An option as a table's row."""
    default = "" if one.required else shown_default(one)
    return [code(one.key), meaning(one.type, one.unit), default, one.text]


def meaning(kind: Any, unit: str) -> str:
    """The type of an option, or its unit."""
    named = {"bytes": "size", "seconds": "time", "words": "list"}
    return named.get(unit) or spoken(kind).replace("true or false", "yes or no").replace(
        "string", "text"
    )


def shown_default(one: Field) -> str:
    value = one.default
    if value in ("", [], ()) or value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if one.unit == "bytes" and isinstance(value, int) and value:
        return show_size(value).replace(".0 ", " ").replace(" ", "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def option_table(options: Any, *kind: str) -> list[str]:
    return table(
        ("option", "type", "default", "meaning"), (option_row(o, *kind) for o in fields(options))
    )


def options_page() -> Iterable[str]:
    """Options of runs, backends and sinks, and where they are given."""
    assert set(VARIABLES) == set(OTHERS) - {"CORPORA"}, "a variable is not explained"
    registry = builtins()
    yield OPTIONS
    yield "## A run\n"
    yield "Flags of `kshark run`, keys of `[run]`.\n"
    yield from option_table(RunOptions)
    kinds: list[tuple[str, Mapping[str, Any]]] = [
        ("Backend", registry.backends), ("Sink", registry.sinks), ("Enricher", registry.enrichers),
        ("Protocol", {n: s for n, s in registry.protocols.items() if getattr(s, "options", None)}),
    ]  # fmt: skip
    for kind, specs in kinds:
        for name, spec in sorted(specs.items()):
            yield f"## {kind} {name}\n"
            yield f"{sentence(spec.doc)}\n"
            yield from option_table(spec.options, kind.lower(), name)
    yield "## Every sink\n"
    yield from option_table(LaneOptions)
    yield "## Plugins\n"
    yield "Keys of `[plugins]`; `kshark plugins` shows what was found and what was refused.\n"
    yield from option_table(plugins.PluginOptions)
    yield "## Other variables\n"
    yield from table(
        ("variable", "meaning"), ([code(variable(n)), t] for n, t in VARIABLES.items())
    )
