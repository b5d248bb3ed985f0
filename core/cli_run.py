"""``kshark run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import click

from kshark.cli import EXITS, common, flags, line_layer
from kshark.places import RunOptions, places
from kshark.plan import Plan, make_plan
from kshark.stderr import say

METAVARS: Final = {
    "backend": "NAME[:TARGET]",
    "sink": "NAME[:TARGET]",
    "read": "FILE",
    "iface": "GLOB",
    "bpf": "EXPR",
    "hooks": "NAME",
    "netns": "PATH|NAME|PID",
    "user": "NAME",
    "protocol": "NAME",
    "filter": "CEL",
    "tls_keylog": "FILE",
    "proto": "FILE|FOLDER",
    "assume": "PORT=NAME",
    "workers": "N|auto",
    "duration": "SECONDS",
    "count": "N",
}


@click.command(epilog=EXITS)
@flags(RunOptions, METAVARS)
@common
@click.option("-q", "--quiet", is_flag=True, help="No opening and closing lines.")
def run(plugins: Sequence[str], config: str, quiet: bool, **values: Any) -> int:
    """Watch API calls, live or in a file, and send them somewhere.

    \b
    kshark run                                         live, as a list
    kshark run --iface 'eth*' --protocol http          some interfaces, one protocol
    kshark run --filter 'http && slow(100)'            calls that took 100 ms; `kshark fields`
    kshark run --bpf 'port 6379' --assume 6379=redis   filtered by the kernel
    kshark run --read a.pcap --sink jsonl:-            a file, as JSON lines
    kshark run --sink console --sink jsonl:out.ndjson,rotate_bytes=1GiB,full

    Options of a backend or sink follow its target after commas, or stand in the table
    [sink.jsonl] of the file --config, or in KSHARK_SINK_JSONL_ROTATE_BYTES; `kshark sinks jsonl`
    lists them. A comma that belongs to a value is written '\\,'.
    """
    where = places(line_layer(RunOptions, values), config)
    plan = make_plan(where, plugins)
    if where.file:
        plan.again = lambda: places(where.line, config)
    if not plan.run.redact:
        plan.notes.append("secrets are not hidden (--no-redact)")
    return execute(plan, quiet)


def execute(plan: Plan, quiet: bool) -> int:
    """Run a plan in this process, or in several."""
    from kshark import session

    def announce() -> None:
        for note in plan.notes:
            say(note)
        if not quiet:
            say(session.start_line(plan))

    started = perf_counter()
    watcher = session.progress if _shows_progress(plan) and not quiet else None
    capture = session.execute(plan, say, watcher, announce)
    if capture.announced and not quiet:
        say(session.summary(capture.snapshot(), perf_counter() - started))
    return capture.code


def _shows_progress(plan: Plan) -> bool:
    """On a terminal that nothing else writes to, for files."""
    if not sys.stderr.isatty() or any(chosen.spec.rank > 0 for chosen in plan.backends):
        return False
    listed = any(getattr(chosen.options, "target", "-") in ("-", "") for chosen in plan.sinks)
    return not (sys.stdout.isatty() and listed)
