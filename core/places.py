"""Where settings are: the flags of a run as options, the TOML file, the environment, the line.

The TOML file has the tables ``[run]`` (the flags of ``kshark run``), ``[plugins]``,
``[backend.NAME]``, ``[sink.NAME]``, ``[enricher.NAME]`` and ``[protocol.NAME]`` (their options). Which sinks run is
said by ``--sink``, else ``KSHARK_SINK``, else ``sink`` in ``[run]``; or by a list ``[[sink]]`` in
place of the tables ``[sink.NAME]``, each with a ``name``, its options, and a ``target`` where one
sink is used twice. A list ``[[alert]]`` has rules that run beside them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from kshark import settings
from kshark.api import Options, PluginError, option
from kshark.plugins import PluginOptions
from kshark.settings import Given, Layer, Use, nearest, said

TABLES: Final = ("run", "plugins", "backend", "sink", "enricher", "protocol", "alert")
RULE: Final = ("name", "when")
"""What every ``[[alert]]`` has."""
OTHERS: Final = ("CONFIG", "CORPORA", "DEBUG", "PLUGINS", "PURE", "TRACE_PLUGINS")
"""Variables of kshark that are no flags of a run."""


class RunOptions(Options):
    """The flags of ``kshark run``; ``[run]`` in the TOML file, ``KSHARK_<FLAG>`` outside."""

    backend: Annotated[
        list[str], option("Where packets come from: NAME[:TARGET][,key=value]", unit="words")
    ] = []
    sink: Annotated[
        list[str], option("Where entries go: NAME[:TARGET][,key=value]", unit="words")
    ] = []
    read: Annotated[list[str], option("Capture file, - for stdin", unit="words")] = []
    follow: Annotated[bool, option("Go on reading as the file grows")] = False
    iface: Annotated[list[str], option("Interfaces, with globs; all by default")] = []
    bpf: Annotated[str, option("Packet filter for the kernel, a tcpdump expression")] = ""
    hooks: Annotated[
        str,
        option(
            "Where eBPF hooks calls: fentry, kprobe, socket, tracepoint or bcc; the best by default"
        ),
    ] = ""
    netns: Annotated[list[str], option("Network namespaces: path, name or pid")] = []
    user: Annotated[str, option("Become this user once the sockets are open")] = ""
    protocol: Annotated[list[str], option("Dissect these protocols only")] = []
    filter: Annotated[
        str, option("Entries for which this holds alone: http && response.status >= 500")
    ] = ""
    tls_keylog: Annotated[
        str, option("Key log (SSLKEYLOGFILE) of TLS connections, to decrypt them")
    ] = ""
    proto: Annotated[
        list[str],
        option(
            "Types of gRPC bodies: descriptor set, folder of .proto, reflect:HOST:PORT, or reflect (all servers seen)",
            unit="words",
        ),
    ] = []
    assume: Annotated[list[str], option("Take what this port carries for that protocol")] = []
    workers: Annotated[str, option("Engine processes: a number, or auto for one a core")] = "1"
    duration: Annotated[
        float, msgspec.Meta(ge=0), option("Stop after this time: 30s, 5m", unit="seconds")
    ] = 0.0
    count: Annotated[int, msgspec.Meta(ge=0), option("Stop after so many entries")] = 0
    full: Annotated[bool, option("Details and bodies, in the sinks that can")] = False
    redact: Annotated[bool, option("Hide secrets before any sink")] = True
    dedupe: Annotated[bool, option("Count a packet seen on two interfaces once")] = True


@dataclass(slots=True)
class Places:
    """The three places, unread: the file's tables, the environment, the line."""

    tables: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    line: Layer = field(default_factory=dict)

    def run_layers(self) -> list[Layer]:
        known = settings.fields(RunOptions)
        names = {settings.variable(f.key): f.key for f in known}
        environ = {k: Given(self.environ[n], n) for n, k in names.items() if n in self.environ}
        return [self._table("run"), environ, self.line]

    def plugin_options(self) -> PluginOptions:
        known = settings.fields(PluginOptions)
        environ = settings.from_environment(self.environ, ("plugins",), known)
        if "KSHARK_PLUGINS" in self.environ:
            paths = self.environ["KSHARK_PLUGINS"].split(os.pathsep)
            environ["files"] = Given([p for p in paths if p], "KSHARK_PLUGINS")
        return settings.resolve(PluginOptions, [self._table("plugins"), environ], "plugins")

    def _table(self, name: str) -> Layer:
        return settings.from_table(self.tables.get(name, {}), f"{self.file} [{name}]")

    def of(self, kind: str, use: Use) -> Layer:
        """The table of a backend, sink, enricher or protocol."""
        tables = self.tables.get(kind, {})
        place = f"{self.file} [{kind}.{use.name}]"
        if isinstance(tables, dict):
            return settings.from_table(tables.get(use.name, {}), place)
        for table in tables:
            if table["name"] == use.name and use.target in ("", str(table.get("target", ""))):
                break
        else:
            table = next((t for t in tables if t["name"] == use.name and "target" not in t), {})
        place = f"{self.file} [[{kind}]] {use.name}"
        return settings.from_table({k: v for k, v in table.items() if k != "name"}, place)

    def listed(self) -> list[Use]:
        """The sinks of ``[[sink]]``."""
        tables = self.tables.get("sink", {})
        uses = []
        for table in tables if isinstance(tables, list) else ():
            origin = f"{self.file} [[sink]] {table['name']}"
            target = table.get("target", "")
            given = {"target": Given(target, origin)} if target else {}
            uses.append(Use(table["name"], origin, given))
        return uses

    def alerts(self) -> list[Use]:
        """The alerts of ``[[alert]]``: each is a sink ``alert``, whose filter is called ``when``."""
        uses = []
        for table in self.tables.get("alert", ()):
            origin = f"{self.file} [[alert]] {table['name']}"
            keys = {"name": "target", "when": "filter"}
            given = {keys.get(k, k): Given(v, f"{origin} {k}") for k, v in table.items()}
            uses.append(Use("alert", origin, given))
        return uses


def read_config(path: str, flag: str = "--config") -> dict[str, Any]:
    """The tables of a TOML file named by `flag`; `PluginError` for what is not one of ours."""
    import tomllib

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PluginError(f"{said(flag, path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PluginError(f"{said(flag, path)}: it is no text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"{said(flag, path)}: it is no TOML: {error}") from error
    for name, table in tables.items():
        if name not in TABLES:
            raise PluginError(f"{path}: no table [{name}] in kshark{nearest(name, TABLES)}")
        _check_table(path, name, table)
    return tables


def _check_table(path: str, name: str, table: object) -> None:
    if name == "sink" and isinstance(table, list):
        if not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in table):
            raise PluginError(f"{path}: every [[sink]] needs a name")
    elif name == "alert":
        rules = table if isinstance(table, list) else [None]
        if not all(
            isinstance(t, dict) and all(isinstance(t.get(k), str) for k in RULE) for t in rules
        ):
            raise PluginError(f"{path}: every [[alert]] needs a name and a when")
    elif not isinstance(table, dict):
        raise PluginError(f"{path}: [{name}] must be a table")


def places(line: Layer, config: str = "", environ: Mapping[str, str] | None = None) -> Places:
    """Where settings are: the file named on the line or by ``KSHARK_CONFIG``, the environment."""
    environ = os.environ if environ is None else environ
    flag = "--config" if config else "KSHARK_CONFIG"
    config = config or environ.get("KSHARK_CONFIG", "")
    return Places(read_config(config, flag) if config else {}, config, environ, line)


def strange_variables(environ: Mapping[str, str]) -> list[str]:
    """A note on each variable that is nearly one of ours."""
    known = [settings.variable(f.key) for f in settings.fields(RunOptions)]
    known += [settings.variable(name) for name in OTHERS]
    kinds = tuple(settings.variable(table) + "_" for table in TABLES)
    strange = [n for n in environ if n.startswith("KSHARK_") and not n.startswith(kinds)]
    notes = [(n, nearest(n, known)) for n in strange if n not in known]
    return [f"{n} is no setting{hint}" for n, hint in notes if "did you mean" in hint]
