"""What each sink costs: CPU per entry and memory of `kshark run` on a capture, less those of one that does nothing.

    python benchmarks/sink_costs.py
    python benchmarks/sink_costs.py --transactions 200000 --rounds 5

All sinks take turns in each round, and the least of the rounds counts: what else runs on the machine only adds. Each
reads a short capture, too, and what that takes (start-up, the libraries of the sink) is taken off. The other ends (a
web server that takes what is posted, redis-server) are processes of their own and are not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from generate import Plan, generate
from measure import Cost, kshark, machine, run, table

SHORT = 1_000
"""Entries of the short capture."""
NOTHING = """
from kshark.api import SinkSpec, hookimpl

class Nothing:
    def __init__(self, options, context): pass
    async def open(self): pass
    async def write(self, batch): pass
    async def close(self): pass

@hookimpl
def register_sinks():
    return [SinkSpec(name="nothing", make=Nothing)]
"""
TAKER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Taker).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def process(argv: list[str], port: int) -> Iterator[None]:
    """A server, once it listens."""
    started = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield
    finally:
        started.terminate()
        started.wait()


def sinks(folder: str, web: int, redis: int) -> dict[str, str]:
    """The sinks, as arguments. Captures are old: the clock of Loki does not matter to who takes them."""
    loki = f"loki:http://127.0.0.1:{web}"
    found = {
        "nothing": "nothing",
        "console": "console",
        "jsonl": f"jsonl:{folder}/out.ndjson",
        "jsonl, full": f"jsonl:{folder}/full.ndjson,full",
        "pcap": f"pcap:{folder}/out.pcapng",
        "loki": loki,
        "loki, JSON": f"{loki},format=json",
        "loki, sample=10": f"{loki},sample=10",
        "loki, aggregate=10": f"{loki},aggregate=10",
        "metrics": f"metrics::{free_port()}",
        "alert": "alert:errors,rate=100000/s",
        "webhook": f"webhook:http://127.0.0.1:{web}",
    }
    if redis:
        found["redis"] = f"redis:redis://127.0.0.1:{redis}"
    return found


@dataclass(slots=True)
class Found:
    """The least that the runs of a sink took."""

    cpu: float = math.inf  # seconds, of the capture
    short: float = math.inf  # ... of the short one
    peak: int = 0  # bytes, of the capture

    def per_entry(self, transactions: int) -> float:
        """CPU seconds."""
        return (self.cpu - self.short) / (transactions - SHORT)


def measured(args: argparse.Namespace, folder: str) -> dict[str, Found]:
    """All sinks by turns."""
    long, short, plugin = (Path(folder, name) for name in ("long", "short", "nothing.py"))
    generate(Plan("http", args.transactions), long)
    generate(Plan("http", SHORT), short)
    plugin.write_text(NOTHING)
    web, redis = free_port(), free_port() if shutil.which("redis-server") else 0
    best: dict[str, Found] = {}
    with ExitStack() as servers:
        servers.enter_context(process([sys.executable, "-c", TAKER, str(web)], web))
        if redis:
            argv = ["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
            servers.enter_context(process(argv, redis))
        for _ in range(args.rounds):
            for name, given in sinks(folder, web, redis).items():
                one = best.setdefault(name, Found())
                one.short = min(one.short, ran(short, plugin, given).cpu)
                cost = ran(long, plugin, given)
                if cost.cpu < one.cpu:
                    one.cpu, one.peak = cost.cpu, cost.peak
    return best


def ran(capture: Path, plugin: Path, sink: str) -> Cost:
    cost = run(kshark("run", "--read", str(capture), "--plugin", str(plugin), "--sink", sink))
    if cost.code:
        raise SystemExit(f"{sink}: {cost.said}")
    return cost


def rows(best: dict[str, Found], transactions: int) -> list[list[str]]:
    nothing = best["nothing"]
    base = nothing.per_entry(transactions)
    found = [
        ["", "us/entry", "entries/s", "MB", ""],
        [
            "nothing",
            f"{base * 1e6:.1f}",
            f"{1 / base:,.0f}",
            f"{nothing.peak / 1e6:.0f}",
            "all else",
        ],
    ]
    for name, one in best.items():
        if one is not nothing:
            own = one.per_entry(transactions) - base
            rate = f"{1 / (own + base):,.0f}"
            found.append(
                [name, f"{own * 1e6:.1f}", rate, f"{(one.peak - nothing.peak) / 1e6:+.0f}", ""]
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kshark-sinks-") as folder:
        best = measured(args, folder)
    print(f"machine: {machine()}; {args.transactions:,} entries, the least of {args.rounds} rounds")
    print(table(rows(best, args.transactions)))
    if args.json:
        found = {name: asdict(one) for name, one in best.items()}
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
