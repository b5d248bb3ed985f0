"""The command line, and the JSON of an entry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module

import click

from generated.markdown import SCHEMA, prose, schema_rows, table
from kshark import cli
from kshark.entry_json import EndpointJson, EntryJson, RequestJson, ResponseJson
from kshark.render import Renderer

WIDTH = 100
"""Columns of the help texts."""


def cli_page() -> Iterable[str]:
    """`--help` of every command of kshark's own."""
    group = cli.Kshark(
        name="kshark", help=cli.cli.help, epilog=cli.cli.epilog, params=cli.cli.params,
        commands={name: click.Command(name) for name in cli.COMMANDS},
    )  # fmt: skip
    settings = {**cli.cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    top = click.Context(group, info_name="kshark", **settings)
    yield "# Command line\n"
    yield from ("```text", top.get_help(), "```\n")
    for name, module in cli.COMMANDS.items():
        command = getattr(import_module(module), name.replace("-", "_"))
        context = click.Context(command, info_name=name, parent=top, **settings)
        yield f"## kshark {name}\n"
        yield from ("```text", context.get_help(), "```\n")


ENTRY = """\
What `jsonl` writes, one object a line. A missing half is `null`; facts that nobody knows are `null` or left
out. With `full` (`--full`, or `--sink jsonl:-,full=true`) the protocol's own object follows under the protocol's
name: `"http": {"request": {...}, "response": {...}}`, by the tables of [Protocols](protocols.md).
"""


def entry_page() -> Iterable[str]:
    """The JSON of an entry."""
    yield "# Entry (JSON)\n"
    yield ENTRY
    for schema in (EntryJson, EndpointJson, RequestJson, ResponseJson):
        name = schema.__name__.removesuffix("Json").lower()
        if schema is not EntryJson:
            yield f"## {name}\n"
            yield f"{prose(schema.__doc__)}\n"
        yield from table(SCHEMA, schema_rows(schema))
    yield "## JSON Schema\n"
    yield "`kshark schema` prints it, with the objects of every protocol. That of the row alone:\n"
    yield from ("```json", json.dumps(Renderer({}).schema(), indent=2, ensure_ascii=False), "```")
