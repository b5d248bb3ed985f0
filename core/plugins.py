"""Plugins: found, checked, and either taken over whole or refused with one line that says why.

Three origins, in this order: the built-ins (`DEFAULT_PLUGINS`, by the same hooks as anybody's), files
(``--plugin``, ``KSHARK_PLUGINS``), and the entry points of the group ``kshark``. The first that
registers a name keeps it: no plugin can shadow a built-in, unless the built-in is denied by name; and
a file that somebody names is what he is working on, so it goes before an installed copy of it.

Nothing that a plugin does here ends the program: a failing import, a hook that kshark does not have
or with arguments that it does not give, results of a wrong kind, a name twice; the others go on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from importlib.machinery import PathFinder
from itertools import islice
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Annotated, Any, Final

import pluggy

from kshark import hookspecs, limits
from kshark._spec_checks import check
from kshark.api import (
    BackendSpec,
    Details,
    EnricherSpec,
    Options,
    PluginError,
    ProtocolSpec,
    SinkSpec,
    never,
    option,
)
from kshark.breaker import interrupted, within
from kshark.faults import told
from kshark.settings import nearest

if TYPE_CHECKING:
    import click

GROUP: Final = "kshark"
OURS: Final = Path(__file__).parent
DEFAULT_PLUGINS: Final = (
    "kshark.protocols.dns",
    "kshark.protocols.grpc",
    "kshark.protocols.http",
    "kshark.protocols.http2",
    "kshark.protocols.redis",
    "kshark.protocols.tls",
    "kshark.protocols.websocket",
    "kshark.backends.pcap",
    "kshark.backends.af_packet",
    "kshark.backends.cgroup",
    "kshark.backends.ebpf",
    "kshark.backends.tc",
    "kshark.sinks.alert",
    "kshark.sinks.console",
    "kshark.sinks.jsonl",
    "kshark.sinks.loki",
    "kshark.sinks.metrics",
    "kshark.sinks.pcap",
    "kshark.enrichers.graphql",
    "kshark.enrichers.jsonrpc",
    "kshark.sinks.redis",
    "kshark.sinks.webhook",
)
"""The built-ins. The last part of each is the name that it registers, so that a run may import only
those that it needs (a test holds them to it)."""
UNKNOWN: Final = "kshark.unknown"
"""The built-in of the flows that no other takes (``tcp``, ``udp``, ``icmp``): with every protocol, since
their names are kshark's own and every run meets such flows."""

KINDS: Final[Mapping[str, type[Any]]] = {
    "protocols": ProtocolSpec,
    "backends": BackendSpec,
    "sinks": SinkSpec,
    "enrichers": EnricherSpec,
}
SPECS: Final = 1_000
"""Specs that one hook may return; an endless generator ends here."""


class PluginOptions(Options):
    """``[plugins]`` in the TOML file; ``KSHARK_PLUGINS_FILES``, ``..._ALLOW``, ``..._DENY``."""

    files: Annotated[list[str], option("Plugin files to load, beside those of --plugin")] = []
    allow: Annotated[
        list[str], option("If not empty: entry points whose name matches one of these, no others")
    ] = []
    deny: Annotated[
        list[str], option("Plugins (built-ins too) whose name matches one of these")
    ] = []


@dataclass(slots=True)
class Found:
    """A plugin that was found: where it came from, and what became of it."""

    name: str
    origin: str  # "built-in" | "entry point" | "file"
    source: str  # module or path
    distribution: str = ""
    version: str = ""
    registered: list[str] = field(default_factory=list)  # "protocol http"
    refused: str = ""  # one line, or "" if it was taken over

    def line(self) -> str:
        """What the user is told when it was refused."""
        owner = " ".join(filter(None, (self.distribution, self.version))) or self.source
        return f"plugin {self.name} ({owner}) refused: {self.refused}"


@dataclass(slots=True)
class Registry:
    """Everything that the plugins of this process registered, by name."""

    protocols: dict[str, ProtocolSpec] = field(default_factory=dict)
    backends: dict[str, BackendSpec] = field(default_factory=dict)
    sinks: dict[str, SinkSpec] = field(default_factory=dict)
    enrichers: dict[str, EnricherSpec] = field(default_factory=dict)
    plugins: list[Found] = field(default_factory=list)
    commands: list[tuple[Found, Any]] = field(default_factory=list)  # who, and the hook's function

    @property
    def adds(self) -> dict[str, type[Details]]:
        """The objects that enrichers add to entries, by name; the first enricher of a name has it."""
        found: dict[str, type[Details]] = {}
        for spec in self.enrichers.values():
            found = {**spec.adds, **found}
        return found

    def refused(self) -> list[Found]:
        return [p for p in self.plugins if p.refused and not p.refused.startswith("denied")]

    def packages(self) -> frozenset[str]:
        """The top-level modules of other people's plugins."""
        others = [p for p in self.plugins if p.origin != "built-in"]
        points = {
            p.source.partition(":")[0].partition(".")[0] for p in others if p.origin != "file"
        }
        return frozenset(points | {_module(p.source) for p in others if p.origin == "file"})

    def find(self, kind: str, name: str, origin: str = "") -> Any:
        """The spec of that name in ``protocols``, ``backends`` ...; else `PluginError`."""
        known: Mapping[str, Any] = getattr(self, kind)
        if name in known:
            return known[name]
        one = kind.removesuffix("s")
        builtin = next((p for p in self.plugins if p.name == f"{kind}.{name}" and p.refused), None)
        if builtin is not None:
            text = f"the {one} {name!r} is not there: {builtin.refused}"
        else:
            unloaded = {n for k, n in map(_builtin, DEFAULT_PLUGINS) if k == kind}
            text = f"no {one} {name!r}{nearest(name, {*known, *unloaded})}"
            if self.refused():
                text += " (a plugin was refused: kshark plugins)"
        raise PluginError(f"{origin}: {text}" if origin else text)

    def dissecting(self, name: str, origin: str, layers: bool = False) -> ProtocolSpec:
        """A protocol that has a dissector of its own; else `PluginError`, which says who leads to it.

        `layers`: one that rides in another's exchanges will do.
        """
        spec: ProtocolSpec = self.find("protocols", name, origin)
        if spec.dissector is never and not (layers and spec.layer is not None):
            carriers = " or ".join(spec.over)
            why = f"it comes in {carriers}: say that" if carriers else "it is what nobody dissects"
            raise PluginError(f"{origin}: {name} has no dissector of its own; {why}")
        return spec


def _builtin(module: str) -> tuple[str, str]:
    """``kshark.sinks.jsonl`` -> ``("sinks", "jsonl")``"""
    _, kind, name = module.split(".")
    return kind, name


# ---------------------------------------------------------------- loading


def load(
    files: Iterable[str] = (),
    options: PluginOptions | None = None,
    *,
    needed: Mapping[str, Collection[str]] | None = None,
) -> Registry:
    """Load every plugin that can be found.

    `needed` says which built-ins the caller will use (``{"backends": ["pcap"]}``), so that the
    others need not be imported; None is all. A third party's plugins are always loaded.
    """
    loader = _Loader(options or PluginOptions(), needed)
    loader.builtins()
    loader.files(files)
    loader.entry_points()
    return loader.registry


class _Loader:
    """One pass over the plugins of the three origins."""

    def __init__(
        self, options: PluginOptions, needed: Mapping[str, Collection[str]] | None
    ) -> None:
        self.options = options
        self.needed = needed
        self.registry = Registry()
        self.held: set[tuple[str, str]] = set()  # names of built-ins, imported or not
        self.hooks = pluggy.PluginManager(GROUP)
        self.hooks.add_hookspecs(hookspecs)
        if os.environ.get("KSHARK_TRACE_PLUGINS", "") not in ("", "0"):
            self.hooks.add_hookcall_monitoring(lambda *_: None, _trace)

    def builtins(self) -> None:
        from importlib import import_module

        from kshark import __version__

        for module in DEFAULT_PLUGINS:
            kind, name = _builtin(module)
            found = Found(f"{kind}.{name}", "built-in", module, "kshark", __version__)
            if self._denied(found):
                continue
            self.held.add((kind, name))
            if self.needed is None or name in self.needed.get(kind, ()):
                self._take(found, partial(import_module, module))
        flows = Found("protocols.unknown", "built-in", UNKNOWN, "kshark", __version__)
        if (self.needed is None or "protocols" in self.needed) and not self._denied(flows):
            self._take(flows, partial(import_module, UNKNOWN))

    def entry_points(self) -> None:
        if not _installed():
            return
        from importlib.metadata import entry_points

        for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
            found = Found(point.name, "entry point", point.value)
            if point.dist is not None:
                found.distribution, found.version = point.dist.name, point.dist.version
            if not self._denied(found):
                self._take(found, point.load)

    def files(self, paths: Iterable[str]) -> None:
        typed = list(paths)
        for path in dict.fromkeys([*self.options.files, *typed]):
            if not Path(path).is_file():
                what = f"--plugin {path}" if path in typed else f"plugin file {path}"
                raise PluginError(f"{what}: there is no such file")
            found = Found(Path(path).stem, "file", path)
            if not self._denied(found):
                self._take(found, partial(_import_file, path))

    def _denied(self, found: Found) -> bool:
        rule, allow = "", self.options.allow
        if _matches(found.name, self.options.deny):
            rule = "denied by the plugins' deny list"
        elif allow and found.origin == "entry point" and not _matches(found.name, allow):
            rule = "denied: not in the plugins' allow list"
        if rule:
            found.refused = rule
            self.registry.plugins.append(found)
        return bool(rule)

    def _take(self, found: Found, import_it: Callable[[], object]) -> None:
        """Import a plugin, call its hooks, check the results, take over all of it or nothing."""
        self.registry.plugins.append(found)
        with nullcontext() if found.origin == "built-in" else within(limits.PLUGIN_LOAD):
            self._try(found, import_it)

    def _try(self, found: Found, import_it: Callable[[], object]) -> None:
        plugin: object = None
        try:
            plugin = import_it()
            self._register(plugin, found)
            specs = self._specs(plugin, found)
        except _Refused as error:
            found.refused = str(error)
        except BaseException as error:  # whatever the plugin's own code raises
            if interrupted(error):
                raise
            found.refused = raised(error)
        else:
            self._commit(plugin, found, specs)
            return
        if plugin is not None and self.hooks.is_registered(plugin):
            self.hooks.unregister(plugin)

    def _register(self, plugin: object, found: Found) -> None:
        try:
            self.hooks.register(plugin, f"{found.origin} {found.name} {found.source}")
        except pluggy.PluginValidationError as error:
            raise _Refused(_signature(error)) from error
        except ValueError as error:
            raise _Refused("is the same as a plugin that was loaded before") from error
        callers = self.hooks.get_hookcallers(plugin) or []
        if not callers:
            raise _Refused("registers nothing: it has no function marked with @hookimpl")
        for caller in callers:
            if not caller.has_spec():
                known = [n for n in vars(hookspecs) if n.startswith("register_")]
                raise _Refused(f"there is no hook {caller.name!r}{nearest(caller.name, known)}")

    def _specs(self, plugin: object, found: Found) -> dict[tuple[str, str], Any]:
        others = [p for p in self.hooks.get_plugins() if p is not plugin]
        specs: dict[tuple[str, str], Any] = {}
        implemented = {caller.name for caller in self.hooks.get_hookcallers(plugin) or []}
        for kind, expected in KINDS.items():
            hook = f"register_{kind}"
            caller = self.hooks.subset_hook_caller(hook, others)
            results = caller()
            if not results and hook in implemented:
                raise _Refused(f"{hook} must return a list of specs, not None")
            for result in results:
                for spec in _listed(result, hook):
                    self._check(spec, kind, expected, found)
                    if (kind, spec.name) in specs:
                        raise _Refused(f"registers the {kind[:-1]} {spec.name!r} twice")
                    specs[kind, spec.name] = spec
        return specs

    def _check(self, spec: Any, kind: str, expected: type[Any], found: Found) -> None:
        wrong = check(spec, expected, names=found.origin != "built-in")
        if wrong and found.source != UNKNOWN:
            raise _Refused(f"register_{kind}: {wrong}")
        own = found.origin == "built-in"
        if spec.name in getattr(self.registry, kind) or (
            not own and (kind, spec.name) in self.held
        ):
            owner = next(
                (p for p in self.registry.plugins if f"{kind[:-1]} {spec.name}" in p.registered),
                None,
            )
            if owner is not None and (owner.origin, found.origin) == ("file", "entry point"):
                raise _Refused(
                    f"the {kind[:-1]} {spec.name!r} of the file {owner.source} goes first"
                )
            by = f"by {owner.name}" if owner else "and built in"
            raise _Refused(f"the {kind[:-1]} {spec.name!r} is there already, {by}")

    def _commit(self, plugin: object, found: Found, specs: dict[tuple[str, str], Any]) -> None:
        for (kind, name), spec in specs.items():
            getattr(self.registry, kind)[name] = spec
            found.registered.append(f"{kind[:-1]} {name}")
        for caller in self.hooks.get_hookcallers(plugin) or []:
            if caller.name == "register_commands":
                others = [p for p in self.hooks.get_plugins() if p is not plugin]
                hook = self.hooks.subset_hook_caller("register_commands", others)
                self.registry.commands.append((found, hook))


def _installed() -> bool:
    """Whether an installed package may have entry points for us.

    importlib.metadata would say so too, but importing it takes longer than the rest of a start; it is
    asked only where this look at the same files finds the group, or does not understand the path.
    """
    if any(hasattr(f, "find_distributions") and f is not PathFinder for f in sys.meta_path):
        return True
    return any(map(_holds_group, sys.path))


def _holds_group(folder: str) -> bool:
    try:
        names = os.listdir(folder or ".")
    except NotADirectoryError:
        return True  # an archive
    except OSError:
        return False
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    if b"[kshark]" in file.read():
                        return True
            except OSError:
                continue
    return False


class _Refused(Exception):
    """Why a plugin is not taken over."""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(result: object, hook: str) -> list[Any]:
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise _Refused(f"{hook} must return a list of specs, not {type(result).__name__}")
    specs = list(islice(result, SPECS + 1))
    if len(specs) > SPECS:
        raise _Refused(f"{hook} returns more than {SPECS} specs")
    return specs


def _signature(error: pluggy.PluginValidationError) -> str:
    """pluggy's five lines about a wrong argument as one."""
    text = str(error)
    hook = text.partition("hook '")[2].partition("'")[0]
    surplus = text.partition("Argument(s) ")[2].partition(" are declared")[0]
    if hook and surplus:
        return f"{hook} takes {surplus}, which this hook does not give"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def raised(error: BaseException) -> str:
    """An exception in one line, with the place in the plugin's own code where it came from."""
    inner = (
        OURS / "grammar" if isinstance(error, PluginError) else None
    )  # of what the plugin gave us
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__", "")).startswith("kshark.")  # api.doc(), say
        and Path(frame.f_code.co_filename).parent != inner
    ]
    text = told(error)
    if isinstance(error, SyntaxError) or not frames or frames[-1][0].startswith("<"):
        return text
    return f"{text} ({Path(frames[-1][0]).name} line {frames[-1][1]})"


def _module(path: str) -> str:
    """The name that a plugin file is imported by."""
    return f"kshark_plugin_{Path(path).stem.replace('.', '_')}"


def _import_file(path: str) -> object:
    from importlib.util import module_from_spec, spec_from_file_location

    name = _module(path)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _Refused("is not a Python file (*.py)")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _trace(outcome: Any, name: str, implementations: Any, arguments: Any) -> None:
    who = ", ".join(i.plugin_name for i in implementations) or "nobody"
    result = outcome.exception or outcome.get_result()
    print(f"kshark: hook {name} of {who} -> {result!r}", file=sys.stderr)


# ---------------------------------------------------------------- commands


def add_commands(registry: Registry, cli: click.Group) -> list[Found]:
    """Let the plugins add their commands to `cli`; kshark's own names stay kshark's. Gives who was refused."""
    refused = []
    for found, hook in registry.commands:
        with within(limits.PLUGIN_LOAD):
            why = _add(found, hook, cli)
        if why:
            found.refused = why
            refused.append(found)
    return refused


def _add(found: Found, hook: Any, cli: click.Group) -> str:
    """ "" or why the commands of one plugin are not taken over."""
    import click

    own = click.Group()
    try:
        hook(cli=own)
    except BaseException as error:
        if interrupted(error):
            raise
        return f"register_commands: {raised(error)}"
    why = ""
    for name, command in own.commands.items():
        if name in cli.commands:
            why = f"the command {name!r} is there already"
        else:
            cli.add_command(command, name)
            found.registered.append(f"command {name}")
    return why
