"""``kshark protocols | backends | sinks | plugins | schema``: what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

import click

from kshark import settings
from kshark.api import BackendSpec, Options, ProtocolSpec
from kshark.cli import DONE, common, registry
from kshark.plugins import GROUP, Registry
from kshark.stderr import say
from kshark.table import show

Row = dict[str, Any]
as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def print_rows(rows: Sequence[Row], wants_json: bool, columns: Sequence[str]) -> int:
    if wants_json:
        _json(rows)
    else:
        show(columns, [[_cell(row.get(c, "")) for c in columns] for row in rows])
    return DONE


def _json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def owner(found: Registry, kind: str, name: str) -> str:
    """The plugin that registered it."""
    return next((p.name for p in found.plugins if f"{kind} {name}" in p.registered), "")


@click.command()
@common
@as_json
def protocols(plugins: Sequence[str], config: str, as_json: bool) -> int:
    """The protocols that are dissected, and how each is recognised."""
    found = registry(plugins, config, needed={"protocols": _all("protocols")})
    rows = [_protocol(found, spec) for spec in found.protocols.values()]
    return print_rows(rows, as_json, ("name", "transport", "recognised", "ports", "plugin", "doc"))


def _all(kind: str) -> set[str]:
    from kshark.plan import builtin_names

    return builtin_names(kind)


def _protocol(found: Registry, spec: ProtocolSpec) -> Row:
    how = [f"{len(spec.magic) + len(spec.replies)} prefixes"] if spec.magic or spec.replies else []
    how += ["probe"] if spec.probe else []
    schemas = {"request": spec.request, "response": spec.response}
    fields = {half: _fields(schema) for half, schema in schemas.items() if schema}
    return {
        "name": spec.name,
        "transport": ", ".join((spec.transport, *(other.transport for other in spec.also))),
        "recognised": how,
        "ports": list(spec.ports),
        "plugin": owner(found, "protocol", spec.name),
        "doc": spec.doc,
        "fields": fields,
    }


def _fields(schema: Any) -> list[str]:
    return list(schema.__struct_encode_fields__)


@click.command()
@click.argument("name", required=False)
@common
@as_json
def backends(name: str | None, plugins: Sequence[str], config: str, as_json: bool) -> int:
    """Where packets can come from, and whether this machine allows it; with NAME, its options."""
    found = registry(plugins, config, needed={"backends": _all("backends")})
    if name:
        return _options("backend", found.find("backends", name), as_json)
    rows = [_backend(found, spec) for spec in found.backends.values()]
    return print_rows(rows, as_json, ("name", "available", "rank", "plugin", "doc"))


def _backend(found: Registry, spec: BackendSpec) -> Row:
    from kshark.plan import unavailable

    return {
        "name": spec.name,
        "available": unavailable(spec) or "yes",
        "rank": spec.rank,
        "plugin": owner(found, "backend", spec.name),
        "doc": spec.doc,
    }


@click.command()
@click.argument("name", required=False)
@common
@as_json
def sinks(name: str | None, plugins: Sequence[str], config: str, as_json: bool) -> int:
    """Where entries can go; with NAME, its options."""
    found = registry(plugins, config, needed={"sinks": _all("sinks")})
    if name:
        return _options("sink", found.find("sinks", name), as_json)
    rows = [
        {"name": s.name, "plugin": owner(found, "sink", s.name), "doc": s.doc}
        for s in found.sinks.values()
    ]
    return print_rows(rows, as_json, ("name", "plugin", "doc"))


def _options(kind: str, spec: Any, wants_json: bool) -> int:
    rows = option_rows(kind, spec.name, spec.options)
    if kind == "sink":
        from kshark.lane import LaneOptions

        rows += option_rows(kind, spec.name, LaneOptions)
    return print_rows(rows, wants_json, ("option", "type", "default", "environment", "doc"))


def option_rows(kind: str, name: str, options: type[Options]) -> list[Row]:
    """The options that a class declares, for people."""
    return [
        {
            "option": one.key,
            "type": one.unit or _type(one.bare),
            "default": "(needed)" if one.required else _default(one.default),
            "environment": settings.variable(kind, name, one.key),
            "doc": one.text,
        }
        for one in settings.fields(options)
    ]


def _type(kind: Any) -> str:
    """``Literal["a", "b"]`` as ``a|b``, a class by its name."""
    if get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in get_args(kind) if choice)
    text = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return text.replace("typing.", "")


def _default(value: object) -> object:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else value


@click.command()
@common
@as_json
def plugins(plugins: Sequence[str], config: str, as_json: bool) -> int:
    """Every plugin that was found, where, what it registered, or why it was refused."""
    from kshark.places import places
    from kshark.plugins import add_commands, load

    found = load(plugins, places({}, config).plugin_options())
    add_commands(found, click.Group())
    rows = [
        {
            "name": p.name,
            "origin": p.origin,
            "source": p.source,
            "distribution": p.distribution or None,
            "version": p.version or None,
            "registers": p.registered,
            "refused": p.refused or None,
        }
        for p in found.plugins
    ]
    for wrong in near_misses():
        say(wrong)
    if as_json:
        return print_rows(rows, True, ())
    for row in rows:
        row["package"] = f"{row['distribution'] or ''} {row['version'] or ''}".strip()
        row["registers"] = f"refused: {row['refused']}" if row["refused"] else row["registers"]
    return print_rows(rows, False, ("name", "origin", "package", "registers", "source"))


def near_misses() -> Iterator[str]:
    """Installed packages whose entry points are in a group that looks like ours: they are not found."""
    from importlib.metadata import distributions

    for distribution in distributions():
        for point in distribution.entry_points:
            group = point.group
            if group != GROUP and group.lower().lstrip("_.-").startswith(GROUP):
                name = distribution.metadata["Name"]
                yield (
                    f"{name}: its entry point {point.name!r} is in the group {group!r} and is not loaded; "
                    f"the group must be exactly {GROUP!r}"
                )


@click.command()
@common
def schema(plugins: Sequence[str], config: str) -> int:
    """The JSON Schema of an entry, generated from the types."""
    from kshark.render import Renderer

    found = registry(plugins, config, needed={"protocols": _all("protocols")})
    _json(Renderer(found.protocols, adds=found.adds).schema())
    return DONE
