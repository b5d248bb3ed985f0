"""What live capture costs: nginx and wrk in two network namespaces, kshark on the server's interface.

    sudo python benchmarks/live.py                 # every backend
    sudo python benchmarks/live.py --seconds 5 --connections 64 --backend ebpf

Rounds without kshark and with each backend take turns, and the table has the medians of the ratios within one
turn. Both ends and kshark share this machine's processors, so requests/s with capture says what is left for the
server. A request is delivered when its entry has left through the sink, or it is counted as lost with a reason.

Each backend is measured twice: as ``kshark run``, and its reader alone, which takes and forgets (`reader.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from measure import cpu_of, kshark, machine, table, version
from served import BODY, Load, namespaces, needs, nginx, pinned, wrk

SCOPE = {
    "af_packet": ("af_packet:eth0", {"target": "eth0"}),
    "tc": ("tc:eth0", {"target": "eth0"}),
    "cgroup": ("cgroup:,ports=80", {"ports": [80]}),
    "ebpf": ("ebpf:,netns={space}", {"netns": ["{space}"]}),
    "ebpf/bcc": ("ebpf:,hooks=bcc,ports=80", {"hooks": "bcc", "ports": [80]}),
}
"""The backends, told to look at the server's side of this traffic: for ``kshark run``, and as options."""
EVERYWHERE = ("cgroup", "ebpf", "ebpf/bcc")
"""Those that see the sockets of every namespace; `ip netns exec` would hide the cgroups from them."""
STARTED = 2.0
"""Seconds for kshark to open its ring, once it has said what it will do."""
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@dataclass(slots=True)
class Captured:
    """One round with kshark."""

    load: Load
    entries: int
    received: int
    drops: int
    cpu: float
    said: str


@dataclass(slots=True)
class Rounds:
    """What is known of one backend: rounds of kshark, of its reader alone, and ratios to the round without."""

    whole: list[Captured] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    reader: list[dict[str, Any]] = field(default_factory=list)
    reader_left: list[float] = field(default_factory=list)
    added_us: list[float] = field(default_factory=list)
    programs: dict[str, Any] = field(default_factory=dict)


def within(backend: str, server: str) -> list[str]:
    return pinned(2) if backend in EVERYWHERE else ["ip", "netns", "exec", server, *pinned(2)]


def capture(spaces: tuple[str, str], backend: str, args: argparse.Namespace) -> Captured:
    """kshark while wrk runs; ended by SIGINT, as a user would."""
    server, client = spaces
    target = SCOPE[backend][0].format(space=server)
    argv = [*within(backend, server), *kshark("run", "--backend", target)]
    process = subprocess.Popen(
        [*argv, "--sink", "jsonl:/dev/null"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        while "; protocols" not in (process.stderr.readline() or "; protocols"):
            pass
        time.sleep(STARTED)
        load = wrk(client, args)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        with process.stderr:
            said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    return Captured(load, *counts(said), cpu_of(usage), said.strip().splitlines()[-1])


def drain(
    spaces: tuple[str, str], backend: str, args: argparse.Namespace
) -> tuple[Load, dict[str, Any]]:
    """The backend's reader alone while wrk runs."""
    server, client = spaces
    options = json.dumps(SCOPE[backend][1]).replace("{space}", server)
    script = str(Path(__file__).with_name("reader.py"))
    name = backend.partition("/")[0]
    argv = [*within(backend, server), sys.executable, script, name, options]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        if "open" not in process.stderr.readline():
            raise SystemExit(f"the reader of {backend} did not start: {process.stderr.read()}")
        load = wrk(client, args)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    return load, json.loads(said)


def counts(said: str) -> tuple[int, int, int]:
    """Entries delivered, packets received, packets dropped by the kernel, of the closing line."""

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        return int(found.group(1).replace(",", "")) if found else 0

    lost = re.findall(r"([\d,]+) lost \((?:af_packet|[^:]*): [^)]*\)", said)
    return (
        number(r"jsonl ([\d,]+)"),
        number(r"([\d,]+) packets"),
        sum(int(n.replace(",", "")) for n in lost),
    )


@contextlib.contextmanager
def program_times() -> Iterator[None]:
    """The kernel takes the time of BPF programs within this; it makes them slower, so not in the other rounds."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def measure(args: argparse.Namespace) -> tuple[list[float], dict[str, Rounds]]:
    """The rounds, by turns: requests/s without, and all of each backend."""
    free: list[float] = []
    found = {name: Rounds() for name in args.backend}
    with namespaces() as spaces, nginx(spaces[0], args.workers):
        wrk(spaces[1], argparse.Namespace(**{**vars(args), "seconds": 1}))
        for number in range(args.rounds):
            free.append(wrk(spaces[1], args).rate)
            for name, rounds in found.items():
                rounds.whole.append(capture(spaces, name, args))
                rounds.left.append(rounds.whole[-1].load.rate / free[-1])
                load, reader = drain(spaces, name, args)
                rounds.reader.append(reader)
                rounds.reader_left.append(load.rate / free[-1])
                rounds.added_us.append(added_us(free[-1], load, reader["events"]))
                said = f"round {number + 1}: {free[-1]:,.0f}/s; {name}: {rounds.whole[-1].said}\n"
                sys.stderr.write(said)
        with program_times():
            for name, rounds in found.items():
                rounds.programs = drain(spaces, name, args)[1]["programs"]
    return free, found


def added_us(free: float, load: Load, events: int) -> float:
    """What an event costs in all, where the load fills every processor: the kernel's part, caches, and the reader."""
    processors = min(len(os.sched_getaffinity(0)), 3)  # as many as `pinned` uses
    return processors * (1 / load.rate - 1 / free) * 1e6 * load.requests / max(events, 1)


def summed(rounds: Rounds, args: argparse.Namespace) -> dict[str, float]:
    """The figures of one backend."""
    whole, reader = rounds.whole, rounds.reader
    made = max(sum(w.load.requests for w in whole), 1)
    runs = sum(p["runs"] for p in rounds.programs.values())
    return {
        "left": median(rounds.left),
        "reader_left": median(rounds.reader_left),
        "requests": sum(w.load.requests for w in whole),
        "entries": sum(w.entries for w in whole),
        "received": sum(w.received for w in whole),
        "drops": sum(w.drops for w in whole),
        "cpu": median(w.cpu / args.seconds for w in whole),
        "cpu_us": sum(w.cpu for w in whole) / made * 1e6,
        "added_us": median(rounds.added_us),
        "events_s": median(r["events"] / r["wall_s"] for r in reader),
        "event_us": median(r["cpu_s"] / max(r["events"], 1) * 1e6 for r in reader),
        "reader_lost": sum(r["lost"] for r in reader),
        "program_ns": sum(p["ns"] for p in rounds.programs.values()) / max(runs, 1),
        "open_ms": median(r["open_s"] for r in reader) * 1e3,
        "memory_mb": median(r["after"] for r in reader) / 1e6,
        "loader_mb": median(r["after"] - r["before"] for r in reader) / 1e6,
    }


def lines(found: dict[str, dict[str, float]]) -> list[list[str]]:
    """The table: a column a backend."""

    def row(name: str, form: str, key: str, scale: float = 1) -> list[str]:
        return [name, *(format(one[key] * scale, form) for one in found.values()), ""]

    return [
        ["", *found, ""],
        row("requests/s left with kshark, %", ".0f", "left", 100),
        row("requests/s left, reader alone, %", ".0f", "reader_left", 100),
        row("requests made under kshark", ",.0f", "requests"),
        row("entries delivered", ",.0f", "entries"),
        row("events received", ",.0f", "received"),
        row("events lost", ",.0f", "drops"),
        row("kshark CPU, cores", ".2f", "cpu"),
        row("kshark CPU, us a request", ".1f", "cpu_us"),
        row("reader alone: events/s", ",.0f", "events_s"),
        row("reader alone: CPU, us an event", ".2f", "event_us"),
        row("reader alone: us an event in all, at saturation", ".2f", "added_us"),
        row("reader alone: events lost", ",.0f", "reader_lost"),
        row("programs: ns a run, in the kernel", ".0f", "program_ns"),
        row("start-up: ms until it captures", ".0f", "open_ms"),
        row("memory: MB of the process", ".0f", "memory_mb"),
        row("memory: MB by opening it", ".1f", "loader_mb"),
    ]


def show(
    args: argparse.Namespace, free: list[float], found: dict[str, Rounds]
) -> dict[str, dict[str, float]]:
    print(f"machine: {machine()}; nginx {version('nginx')}, wrk {version('wrk')}")
    print(
        f"load: wrk -t1 -c{args.connections}, {args.seconds} s a round, {args.rounds} rounds without and with each "
        f"by turns; nginx with {args.workers} worker(s), {len(BODY)} bytes of body"
    )
    print(
        f"requests/s without kshark: {median(free):,.0f} ({min(free):,.0f} to {max(free):,.0f})\n"
    )
    figures = {name: summed(rounds, args) for name, rounds in found.items()}
    print(table(lines(figures)))
    for name, rounds in found.items():
        if rounds.programs:
            each = sorted(rounds.programs.items(), key=lambda one: -one[1]["ns"])[:6]
            runs = ", ".join(f"{what} {p['ns'] / p['runs']:.0f} ns" for what, p in each)
            print(f"\n{name}: {runs}")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1, help="of nginx")
    parser.add_argument("--backend", action="append", choices=list(SCOPE), help="all if none")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.backend = args.backend or list(SCOPE)
    missing = needs()
    if missing:
        sys.stderr.write(f"no live benchmark: {missing}\n")
        return 2
    figures = show(args, *measure(args))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
