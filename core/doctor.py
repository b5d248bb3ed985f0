"""What this machine allows, and the books of a file, as data and as lines for people."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from kshark.api import BackendSpec, Entry, Options, SinkSpec
from kshark.faults import told
from kshark.places import places
from kshark.plan import Chosen, make_plan, unavailable
from kshark.plugins import Registry
from kshark.settings import Given

Report = dict[str, Any]
CAPABILITIES: Final = {13: "CAP_NET_RAW", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
"""Those that a backend may ask for: numbers of linux/capability.h."""
COMPILED: Final = (
    "kshark.wire.fast",
    "kshark.flow",
    "kshark.pairing",
    "kshark._rows",
    "kshark._framed",
)
"""Modules that are compiled where a compiler was at hand."""


TLS_NAMES: Final = 8
"""Commands that a line of TLS names."""


# ---------------------------------------------------------------- the machine


def machine(registry: Registry) -> Report:
    """What this machine allows."""
    from kshark import __version__, session

    return {
        "kshark": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "compiled": session.compiled(),
        "pure_cost": "" if session.compiled() else session.PURE_COST,
        "uvloop": find_spec("uvloop") is not None,
        "capabilities": capabilities(),
        "backends": {name: unavailable(spec) for name, spec in registry.backends.items()},
        "ways": {name: way(spec) for name, spec in registry.backends.items() if spec.how},
        "tls": coverage(registry),
        "protocols": sorted(registry.protocols),
        "sinks": sorted(registry.sinks),
        "refused": [plugin.line() for plugin in registry.plugins if plugin.refused],
    }


def way(spec: BackendSpec) -> str:
    """In which way a backend would capture here, where it can."""
    try:
        return spec.how() if spec.how and not unavailable(spec) else ""
    except Exception as error:  # a plugin's own code
        return f"how() raised {type(error).__name__}"


def coverage(registry: Registry) -> list[dict[str, Any]]:
    """Processes that may speak TLS, and whether a backend that works here would read it in clear."""
    found: list[dict[str, Any]] = []
    for name, spec in registry.backends.items():
        if spec.coverage is None or unavailable(spec):
            continue
        try:
            found += [{"backend": name, **msgspec.to_builtins(row)} for row in spec.coverage()]
        except Exception as error:
            found.append({"backend": name, "error": told(error)})
    return found


def capabilities() -> dict[str, bool]:
    """The capabilities of this process that capturing may need."""
    held = 0
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    held = int(line.split()[1], 16)
    except OSError:
        return {}
    return {name: bool(held >> bit & 1) for bit, name in CAPABILITIES.items()}


def machine_lines(report: Report) -> Iterator[str]:
    """The same for people: what works, what does not and what to do."""
    yield f"kshark {report['kshark']}, Python {report['python']}, {sys.platform}"
    yield f"kernel     {report['kernel']} {report['machine']}, {report['cores']} cores"
    if report["compiled"]:
        yield "core       compiled"
    else:
        yield f"core       plain Python, {report['pure_cost']}; with gcc: pip install kshark again"
    yield f"loop       {'uvloop' if report['uvloop'] else 'asyncio (pip install uvloop is faster)'}"
    held = [name for name, has in report["capabilities"].items() if has]
    yield f"may        {', '.join(held) or 'nothing that capturing needs'}"
    for name, why in report["backends"].items():
        how = report["ways"].get(name)
        works = f"works here, {how}" if how else "works here"
        yield f"backend    {name}: {why or works}"
    yield from _tls_lines(report["tls"])
    yield f"protocols  {', '.join(report['protocols']) or 'none'}"
    yield f"sinks      {', '.join(report['sinks']) or 'none'}"
    for line in report["refused"]:
        yield f"refused    {line}"


def _tls_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Of TLS: what is read in clear, by library; then each process whose TLS is not."""
    clear: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.get("hooked"):
            clear.setdefault((row["backend"], row["library"]), set()).add(row["comm"])
    for (backend, library), names in sorted(clear.items()):
        shown = ", ".join(sorted(names)[:TLS_NAMES]) + (", ..." if len(names) > TLS_NAMES else "")
        yield f"TLS        {library} is read in clear by {backend}: {shown}"
    for row in rows:
        if "error" in row:
            yield f"TLS        {row['backend']}: cannot say: {row['error']}"
        elif not row["hooked"]:
            what = f"{row['comm']} ({row['pid']})" + (
                f", {row['library']}" if row["library"] else ""
            )
            yield f"TLS        {what} is not read in clear: {row['why']}"


# ---------------------------------------------------------------- the books of a file


class _Discard:
    """A sink that takes everything."""

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None: ...

    async def close(self) -> None: ...


def books(
    path: str,
    protocols: Sequence[str],
    assume: Sequence[str],
    filter: str,
    plugins: Sequence[str],
    config: str,
    say: Callable[[str], None],
) -> tuple[Report, int]:
    """Read a file to its end; its ledger, and the exit code."""
    from kshark import session

    line = {"read": Given([path], "--read")}
    if protocols:
        line["protocol"] = Given(tuple(protocols), "--protocol")
    if assume:
        line["assume"] = Given(tuple(assume), "--assume")
    if filter:
        line["filter"] = Given(filter, "--filter")
    plan = make_plan(places(line, config), plugins, with_sinks=False)
    plan.only = frozenset(plan.run.protocol)  # the account is of everything
    for note in plan.notes:
        say(note)
    spec = SinkSpec(name="discard", make=lambda options, context: _Discard(), doc="Nothing")
    plan.sinks = [Chosen("discard", spec, Options())]
    capture = session.execute(plan, say)
    report = capture.snapshot()
    report["wrong"] = capture.check()
    return report, capture.code


def book_lines(report: Report) -> Iterator[str]:
    """The ledger stage by stage: what came in, what went on, and why the rest did not."""
    packets, stream, messages = report["packets"], report["stream"], report["messages"]
    lost = {f"{n}: {k}": v for n, b in report["backends"].items() for k, v in b["dropped"].items()}
    seen = sum(b["received"] for b in report["backends"].values())
    decoded = packets["received"] - sum(packets["dropped"].values())
    yield from _stage("seen", seen, "packets", lost)
    yield from _stage("decoded", decoded, "packets reached a flow", packets["dropped"])
    wire = {k: v for k, v in report["wire"].items() if v}
    yield from _stage("reassembled", stream["bytes"], "bytes in order", wire)
    flows = {k: v for k, v in report["flows"].items() if v}
    yield from _stage("identified", sum(flows.values()), "flows", flows)
    yield from _stage("dissected", packets["dissected"], "packets", packets["opaque"])
    for name, text in (("late", "of flows that had ended"), ("open", "of flows that go on")):
        if packets[name]:
            yield f"             {packets[name]:>14,}    {text}"
    kinds = {k: v for k, v in messages.items() if k != "all" and v}
    yield from _stage("messages", messages["all"], "", kinds)
    entries = {k: v for k, v in report["entries"].items() if v}
    yield from _stage("paired", sum(report["entries"].values()), "entries", entries)
    sink = report["sinks"].get("discard", {"delivered": 0, "dropped": {}})
    refused = {"filtered out": n} if (n := report["delivery"]["filtered"]) else {}
    yield from _stage("delivered", sink["delivered"], "entries", refused | sink["dropped"])
    for table in ("limits", "errors"):
        for name, count in report[table].items():
            yield f"{table:<12} {count:>14,}  {name}"
    yield "the books balance" if not report["wrong"] else f"WRONG: {'; '.join(report['wrong'])}"


def _stage(name: str, count: int, what: str, rest: Mapping[str, int]) -> Iterator[str]:
    yield f"{name:<12} {count:>14,}  {what}".rstrip()
    for reason, number in sorted(rest.items(), key=lambda item: -item[1]):
        yield f"             {number:>14,}    {reason}"
