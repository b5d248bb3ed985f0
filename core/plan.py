"""What a run shall do: the settings of the three places, turned into chosen backends and sinks.

Everything that can be wrong with a user's input is found here, before a socket or a file is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kshark import limits, settings
from kshark.api import BackendSpec, Options, PluginError, ProtocolSpec, SinkSpec
from kshark.breaker import interrupted, ours, within
from kshark.engine import FLOWS
from kshark.faults import told
from kshark.lane import LaneOptions
from kshark.places import Places, RunOptions, strange_variables
from kshark.plugins import DEFAULT_PLUGINS, Registry, load
from kshark.settings import Given, Layer, Use, given_at, nearest, said
from kshark.targets import check_targets

if TYPE_CHECKING:
    from kshark.filter import Filter

AUTO: Final = "auto"
BACKEND_FLAGS: Final = ("follow", "iface", "bpf", "hooks", "netns", "user")
"""Flags of a run that are options of its backends; ``iface`` is the target of a live one."""
SINK_FLAGS: Final = ("full",)
"""Flags of a run that are options of its sinks."""
PROTOCOL_FLAGS: Final = ("proto", "tls_keylog")
"""Flags of a run that are options of protocols: each is ``keylog`` of ``tls``, or the like."""
WORKERS: Final = 256
"""Engine processes at most."""
HELD: Final = frozenset({"redis"})
"""Built-ins that never hand a flow over to another protocol: dissected only if their entries are wanted."""
CARRIERS: Final = frozenset({"http", "http2", "tls"})
"""Built-ins that others come in (`kshark.api.ProtocolSpec.over`): loaded with whatever protocol is asked for."""
SUDO: Final = "run with sudo"
"""What backends say that need privileges."""
SHARED: Final = frozenset({"fanout", "worker"})
"""Options of a backend that several processes can share: their group, and the number of each."""


@dataclass(slots=True)
class Chosen:
    """A backend, sink or enricher that will run, with its options."""

    label: str  # unique; what the ledger and messages call it
    spec: Any
    options: Any
    lane: LaneOptions = field(default_factory=LaneOptions)  # of a sink
    filter: Filter | None = None  # of a sink


@dataclass(slots=True)
class Plan:
    """All decisions of a run."""

    run: RunOptions
    registry: Registry
    backends: list[Chosen] = field(default_factory=list)
    sinks: list[Chosen] = field(default_factory=list)
    enrichers: list[Chosen] = field(default_factory=list)
    assume: dict[int, str] = field(default_factory=dict)
    filter: Filter | None = None  # of all sinks
    only: frozenset[str] = frozenset()  # the protocols to dissect, empty for all
    workers: int = 1
    notes: list[str] = field(default_factory=list)  # what the user should know of the choice
    again: Callable[[], Places] | None = (
        None  # reads the configuration file again, where there is one
    )


# ---------------------------------------------------------------- the plan


def make_plan(where: Places, plugin_files: Sequence[str] = (), *, with_sinks: bool = True) -> Plan:
    """Decide what runs; `PluginError` for whatever is wrong with the user's input."""
    layers = where.run_layers()
    run = settings.resolve(RunOptions, layers, "run")
    backend_uses = _backend_uses(run, layers)
    sink_uses = _sink_uses(run, where, layers) if with_sinks else []
    filtered = run.filter or any(_lane_text(where, use) for use in sink_uses)
    needed = {
        "protocols": builtin_names("protocols") if filtered else _protocols(run),
        "backends": {u.name for u in backend_uses} - {AUTO} or builtin_names("backends"),
        "sinks": {u.name for u in sink_uses},
        "enrichers": builtin_names("enrichers"),
    }
    registry = load(plugin_files, where.plugin_options(), needed=needed)
    configure(registry, where, layers)
    plan = Plan(run, registry)
    plan.notes += [found.line() for found in registry.refused()]
    plan.assume = assumptions(run.assume, registry, given_at(layers, "assume"))
    for name in run.protocol:
        registry.find("protocols", name, given_at(layers, "protocol"))
    _choose_backends(plan, backend_uses, where, layers)
    _choose_sinks(plan, sink_uses, where, layers)
    check_targets(plan.backends, plan.sinks)
    _choose_filters(plan, layers)
    for name, spec in registry.enrichers.items():
        options, _ = _options(spec, "enricher", Use(name, name), where, layers, ())
        plan.enrichers.append(Chosen(name, spec, options))
    origin = said(given_at(layers, "workers"), run.workers)
    plan.workers = _workers(run.workers, plan.backends, origin)
    plan.notes += [*_unused_tables(where, registry), *strange_variables(where.environ)]
    return plan


def configure(registry: Registry, where: Places, layers: Sequence[Layer]) -> None:
    """Protocols that have options are given them."""
    for name, spec in list(registry.protocols.items()):
        if spec.options is not None and spec.configure is not None:
            options, _ = _options(spec, "protocol", Use(name, name), where, layers, PROTOCOL_FLAGS)
            with within(limits.PLUGIN_LOAD):
                registry.protocols[name] = _configured(spec, options)


def _configured(spec: ProtocolSpec, options: Options) -> ProtocolSpec:
    try:
        made = spec.configure(options)  # type: ignore[misc]
    except PluginError:
        raise
    except BaseException as error:  # a plugin's own code
        if interrupted(error):
            raise
        raise PluginError(f"protocol {spec.name}: configure() raised {told(error)}") from error
    if not isinstance(made, ProtocolSpec) or made.name != spec.name:
        raise PluginError(f"protocol {spec.name}: configure() gave no ProtocolSpec of that name")
    return made


def builtin_names(kind: str) -> set[str]:
    """The names that the built-ins of a kind register, imported or not."""
    parts = (module.split(".") for module in DEFAULT_PLUGINS)
    return {name for _, k, name in parts if k == kind}


def _backend_uses(run: RunOptions, layers: Sequence[Layer]) -> list[Use]:
    uses = [settings.parse_use(text, given_at(layers, "backend")) for text in run.backend]
    for path in run.read:
        origin = said(given_at(layers, "read"), path)
        uses.append(Use("pcap", origin, {"target": Given(path, origin)}))
    return uses or [Use(AUTO, "--backend auto")]


def renewed(plan: Plan, where: Places) -> list[Options]:
    """The options of the plan's backends as they are given now; `PluginError` for whatever is wrong."""
    layers = where.run_layers()
    uses = _backend_uses(settings.resolve(RunOptions, layers, "run"), layers)
    pairs = list(zip(plan.backends, uses, strict=False))
    same = all(use.name in (AUTO, chosen.spec.name) for chosen, use in pairs)
    if not same or len(uses) != len(plan.backends):
        raise PluginError("which backends run cannot change while they do")
    found = []
    for chosen, use in pairs:
        named = Use(chosen.spec.name, use.origin, use.given)
        options, _ = _options(chosen.spec, "backend", named, where, layers, BACKEND_FLAGS)
        found.append(options)
    return found


def _protocols(run: RunOptions) -> set[str]:
    return {*run.protocol, *CARRIERS} if run.protocol else builtin_names("protocols")


def _sink_uses(run: RunOptions, where: Places, layers: Sequence[Layer]) -> list[Use]:
    uses = [settings.parse_use(text, given_at(layers, "sink")) for text in run.sink]
    return (uses or where.listed() or [Use("console", "the default sink")]) + where.alerts()


def _workers(text: str, backends: Sequence[Chosen], origin: str) -> int:
    """How many processes; with auto, one where the backends cannot be shared."""
    if text != AUTO and (not text.isdecimal() or not 1 <= int(text) <= WORKERS):
        raise PluginError(f"{origin}: must be a number from 1 to {WORKERS}, or auto")
    alone = [c.label for c in backends if not set(c.spec.options.__struct_fields__) >= SHARED]
    if text == AUTO:
        return 1 if alone else min(len(os.sched_getaffinity(0)), WORKERS)
    if alone and int(text) > 1:
        raise PluginError(f"{origin}: {alone[0]} is read by one process alone")
    return int(text)


def assumptions(texts: Iterable[str], registry: Registry, at: str = "--assume") -> dict[int, str]:
    """``6380=redis`` for a port and its protocol, checked."""
    found = {}
    for text in texts:
        origin = said(at, text)
        port, equals, name = text.partition("=")
        if not equals or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise PluginError(f"{origin}: must be PORT=NAME, as in 6380=redis")
        registry.dissecting(name, origin)
        found[int(port)] = name
    return found


# ---------------------------------------------------------------- backends


def _choose_backends(
    plan: Plan, uses: Sequence[Use], where: Places, layers: Sequence[Layer]
) -> None:
    accepted: set[str] = set()
    for use in uses:
        spec = _backend(plan, use, layers)
        named = Use(spec.name, use.origin, use.given)
        options, taken = _options(spec, "backend", named, where, layers, BACKEND_FLAGS)
        accepted |= taken
        _add(plan.backends, spec, options, named.target)
    _refuse_flags(layers, BACKEND_FLAGS, accepted, "backend", plan.backends)


def _backend(plan: Plan, use: Use, layers: Sequence[Layer]) -> BackendSpec:
    if use.name == AUTO:
        asked = [flag for flag in BACKEND_FLAGS if any(flag in layer for layer in layers)]
        return _best(plan, asked)
    spec: BackendSpec = plan.registry.find("backends", use.name, use.origin)
    if why := unavailable(spec):
        raise PluginError(f"backend {spec.name}: {why}")
    return spec


def _best(plan: Plan, asked: Sequence[str]) -> BackendSpec:
    """The backend of the highest rank that does what is `asked`, and here; and why not those above it."""
    known = [spec for spec in plan.registry.backends.values() if spec.rank > 0]
    refused: list[str] = []
    for spec in sorted(known, key=lambda s: -s.rank):
        why = _unfit(spec, asked, plan.run.workers) or unavailable(spec)
        if not why:
            better = f"; not {', not '.join(refused)}" if refused else ""
            plan.notes.append(f"backend {spec.name} chosen, the best that works here{better}")
            return spec
        refused.append(f"{spec.name}: {why}")
    reasons = "; ".join(refused) or "none is installed"
    if len(refused) > 1 and all(SUDO in why for why in refused):
        reasons = f"{SUDO}; kshark backends says which capabilities are enough"
    raise PluginError(f"no backend can capture here: {reasons}. A file: kshark run --read x.pcap")


def _unfit(spec: BackendSpec, asked: Sequence[str], workers: str) -> str:
    """Why a backend cannot do what the run's flags ask for, or ""."""
    has = {field.key for field in settings.fields(spec.options)}
    lacking = [flag for flag in asked if flag not in _flag_keys(spec, has, asked)]
    if lacking:
        return f"it has no --{lacking[0]}"
    return "" if workers == "1" or has >= SHARED else "it is read by one process alone (--workers)"


def unavailable(spec: BackendSpec) -> str:
    """ "" or one line: why this backend cannot run on this machine."""
    if spec.available is None:
        return ""
    with within(limits.PLUGIN_LOAD):
        try:
            why = spec.available()
        except BaseException as error:  # a plugin's own code
            if interrupted(error):
                raise
            return f"available() raised {told(error)}"
    return why if isinstance(why, str) else f"available() gave {type(why).__name__}, not str"


# ---------------------------------------------------------------- sinks


def _choose_sinks(plan: Plan, uses: Sequence[Use], where: Places, layers: Sequence[Layer]) -> None:
    accepted: set[str] = set()
    for use in uses:
        spec: SinkSpec = plan.registry.find("sinks", use.name, use.origin)
        options, taken = _options(spec, "sink", use, where, layers, SINK_FLAGS)
        accepted |= taken
        _add(plan.sinks, spec, options, use.target)
        plan.sinks[-1].lane = settings.resolve(
            LaneOptions, _lane_layers(where, use), f"sink {spec.name}"
        )
    _refuse_flags(layers, SINK_FLAGS, accepted, "sink", plan.sinks)


def _lane_layers(where: Places, use: Use) -> list[Layer]:
    keys = {f.key for f in settings.fields(LaneOptions)}
    names = {settings.variable("sink", use.name, k): k for k in keys}
    environ = {k: Given(where.environ[n], n) for n, k in names.items() if n in where.environ}
    return [_only(where.of("sink", use), keys), environ, _only(use.given, keys)]


def _lane_text(where: Places, use: Use) -> bool:
    """Whether a sink has a filter of its own."""
    return any("filter" in layer for layer in _lane_layers(where, use))


# ---------------------------------------------------------------- filters


def _choose_filters(plan: Plan, layers: Sequence[Layer]) -> None:
    """Compile the filters, and decide what need not be dissected for them."""
    plan.only = frozenset(plan.run.protocol)
    if plan.run.filter.strip():
        plan.filter = _compiled(plan, plan.run.filter, given_at(layers, "filter"))
    for chosen in plan.sinks:
        if chosen.lane.filter.strip():
            chosen.filter = _compiled(plan, chosen.lane.filter, f"sink {chosen.label} filter")
    curious = [spec.protocols for spec in plan.registry.enrichers.values() if not ours(spec.make)]
    if plan.only or any(not of or HELD & set(of) for of in curious):
        return  # an enricher may learn from what nobody else wants
    spared = HELD - _matched(plan) - set(plan.assume.values())
    if spared & set(plan.registry.protocols):
        plan.only = frozenset(plan.registry.protocols) - spared - FLOWS


def _compiled(plan: Plan, text: str, origin: str) -> Filter:
    from kshark.filter import compile_filter

    known = plan.registry
    return compile_filter(
        text, known.protocols, adds=known.adds, redact=plan.run.redact, origin=origin
    )


def _matched(plan: Plan) -> frozenset[str]:
    """The protocols of entries that some sink may want.

    Flows without a dissector are entries, too: where these may be wanted, or those of a plugin, which
    might take a flow that nobody else claims, all is dissected.
    """
    every = frozenset(plan.registry.protocols)
    found: set[str] = set()
    for own in [chosen.filter for chosen in plan.sinks] or [None]:
        kept = [one.protocols for one in (plan.filter, own) if one is not None]
        found |= every.intersection(*(names for names in kept if names is not None))
    return frozenset(found) if found <= builtin_names("protocols") else every


def _only(layer: Layer, keys: Collection[str]) -> dict[str, Given]:
    return {k: v for k, v in layer.items() if k in keys}


# ---------------------------------------------------------------- options of a chosen one


def _options(
    spec: Any,
    kind: str,
    use: Use,
    where: Places,
    run_layers: Sequence[Layer],
    flags: Sequence[str],
) -> tuple[Any, set[str]]:
    """The options from all places, and which of the run's `flags` they took."""
    known = settings.fields(spec.options)
    extra = settings.fields(LaneOptions) if kind == "sink" else ()
    others = [n for n in where.environ if _of_longer_name(n, kind, use.name, where)]
    environ = settings.from_environment(where.environ, (kind, use.name), [*known, *extra], others)
    keys = _flag_keys(spec, {f.key for f in known}, flags)
    lane = {f.key for f in extra}
    layers: list[Layer] = []
    for run_layer, own in zip(run_layers, (where.of(kind, use), environ, use.given), strict=True):
        layers.append(_lowered(run_layer, keys))
        layers.append({k: v for k, v in own.items() if k not in lane})
    return settings.resolve(spec.options, layers, f"{kind} {spec.name}"), set(keys)


def _flag_keys(spec: Any, known: Collection[str], flags: Sequence[str]) -> dict[str, str]:
    """Which option of `spec` each of the run's flags is, where it has one."""
    keys = {flag: flag for flag in flags if flag in known}
    own = {f"{spec.name}_{key}": key for key in known}
    keys |= {flag: own[flag] for flag in flags if flag in own}
    if "iface" in flags and "iface" not in keys and "target" in known and spec.rank > 0:
        keys["iface"] = "target"
    return keys


def _lowered(run_layer: Layer, keys: Mapping[str, str]) -> dict[str, Given]:
    """A layer of the run's flags as one of a backend's or sink's options."""
    known = {f.key: f for f in settings.fields(RunOptions)}
    given = {f: held for f, held in run_layer.items() if f in keys}
    return {
        keys[f]: Given(settings.coerce(known[f], held), held.origin) for f, held in given.items()
    }


def _of_longer_name(name: str, kind: str, own: str, where: Places) -> bool:
    """``KSHARK_SINK_PCAP_RING_SIZE`` may be of the sink ``pcap-ring`` and not of ``pcap``."""
    start = settings.variable(kind, own) + "_"
    longer = {settings.variable(kind, n) for n in _known_names(kind, where)}
    return any(s.startswith(start) and name.startswith(s + "_") for s in longer)


def _known_names(kind: str, where: Places) -> set[str]:
    tables = where.tables.get(kind, {})
    named = set(tables) if isinstance(tables, dict) else {t["name"] for t in tables}
    return named | builtin_names(f"{kind}s")


def _refuse_flags(
    layers: Sequence[Layer],
    flags: Sequence[str],
    accepted: Collection[str],
    kind: str,
    chosen: Sequence[Chosen],
) -> None:
    """A flag on the line that no chosen backend or sink has is a mistake."""
    for flag in flags:
        if flag in layers[-1] and flag not in accepted and layers[-1][flag].value:
            names = ", ".join(dict.fromkeys(c.spec.name for c in chosen))
            raise PluginError(f"--{flag}: the {kind} {names} has no such option")


def _add(chosen: list[Chosen], spec: Any, options: Any, target: str) -> None:
    """Add with a label that is unique: the name, with the target where the name is taken."""
    labels = {c.label for c in chosen}
    label = spec.name
    if label in labels:
        label = f"{spec.name}:{_shown(target)}"
    number = 2
    while label in labels:
        label = f"{spec.name}#{number}"
        number += 1
    chosen.append(Chosen(label, spec, options))


def _shown(target: str) -> str:
    """A target in a message: of an address, whose path and user may be secret, the host alone."""
    scheme, separator, rest = target.partition("://")
    if not separator:
        return target
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def _unused_tables(where: Places, registry: Registry) -> list[str]:
    """Tables of names that nobody registered: not an error, one file may serve many machines."""
    notes = []
    for kind in ("backend", "sink", "enricher", "protocol"):
        known = {*getattr(registry, f"{kind}s"), *builtin_names(f"{kind}s")}
        tables = where.tables.get(kind, {})
        strange = [n for n in tables if n not in known] if isinstance(tables, dict) else []
        notes += [f"{where.file} [{kind}.{n}]: no such {kind}{nearest(n, known)}" for n in strange]
    return notes
