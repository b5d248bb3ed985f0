"""kshark and other tools on the same generated capture, in one job: one table.

    python benchmarks/offline.py                       # 100,000 HTTP transactions, 3 rounds
    python benchmarks/offline.py --transactions 500000 # the capture of 1.05 GB

Each round runs every tool once, so that a machine whose speed drifts is fair to all; the table has
the medians. CPU is user and system time of the whole process with its children.
tshark may get a shorter capture of the same kind (``--tshark-transactions``): then rates are compared,
and everybody's start-up, measured on an empty capture, is taken off.
kshark's output is checked for completeness and right pairing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from generate import Plan, Written, generate
from measure import Cost, kshark, machine, middle, run, table, version
from traffic.tcp import PCAP_HEADER
from verify import Report, verify

FIELDS = {
    "http": (
        "frame.time_epoch tcp.stream http.request.method http.request.uri http.response.code http.time"
    ),
    "dns": "frame.time_epoch udp.stream dns.qry.name dns.qry.type dns.flags.rcode dns.time",
    "grpc": (
        "frame.time_epoch tcp.stream http2.streamid http2.headers.path http2.headers.status grpc.message_length"
    ),
    "http2": (
        "frame.time_epoch tcp.stream http2.streamid http2.headers.method http2.headers.path http2.headers.status"
    ),
    "websocket": (
        "frame.time_epoch tcp.stream websocket.opcode websocket.mask websocket.payload_length websocket.payload.text"
    ),
    "tls": (
        "frame.time_epoch tcp.stream tls.handshake.type tls.handshake.extensions_server_name "
        "tls.handshake.ciphersuite tls.alert_message.desc"
    ),
    "redis": "frame.time_epoch tcp.stream resp.string resp.error resp.bulk_string.value resp.integer",
}
HINTS = {
    "grpc": ["-d", "tcp.port==50051,http2", "-d", "tcp.port==8080,http2"],
    "http2": ["-d", "tcp.port==80,http2", "-d", "tcp.port==8080,http2"],
}
"""What tshark must be told to see a protocol."""
SHOWN = {
    "dns": "dns",
    "grpc": "grpc",
    "http": "http",
    "http2": "http2.type == 1",
    "redis": "resp",
    "tls": "tls.handshake",
    "websocket": "websocket",
}
JSON = {"http", "http2", "websocket"}
"""Kinds with bodies of JSON, which tuned tshark need not dissect."""


@dataclass(slots=True)
class Tool:
    """A command to measure."""

    name: str
    argv: Callable[[Path, Path], list[str]]  # of the capture and of a folder for output
    needs: str = ""  # the program, where it may be missing
    environ: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    short: bool = False  # gets the shorter capture
    output: str = ""  # the file that it writes; removed before each run


@dataclass(slots=True)
class Result:
    """One row."""

    name: str
    cost: Cost
    transactions: int
    packets: int
    size: int
    remark: str
    startup: float = 0.0

    @property
    def rate(self) -> float:
        """Transactions a CPU second."""
        return self.transactions / max(self.cost.cpu - self.startup, 1e-9)


def own(name: str, pure: str, remark: str) -> Tool:
    output = f"{name}.ndjson"

    def argv(capture: Path, folder: Path) -> list[str]:
        return kshark("run", "--read", str(capture), "--sink", f"jsonl:{folder / output}")

    environ = {"KSHARK_PURE": pure}
    return Tool(f"kshark {name}", argv, environ=environ, remark=remark, output=output)


def shark(name: str, kind: str, extra: list[str], remark: str) -> Tool:
    fields = [f"-e{name}" for name in FIELDS[kind].split()]

    def argv(capture: Path, folder: Path) -> list[str]:
        return [
            "tshark",
            "-n",
            "-r",
            str(capture),
            *HINTS.get(kind, []),
            *extra,
            "-T",
            "fields",
            *fields,
        ]

    return Tool(f"tshark {name}", argv, "tshark", remark=remark, short=True)


def tools(kind: str) -> list[Tool]:
    """Everything that is compared, kshark first."""
    tuned = ["-Y", SHOWN[kind], *(["--disable-protocol", "json"] if kind in JSON else [])]
    return [
        own("compiled", "", "NDJSON of every transaction"),
        own(
            "plain dissector",
            "kshark.protocols",
            "the dissector in plain Python, the rest compiled",
        ),
        own("pure", "1", "no compiler at all"),
        shark("tuned", kind, tuned, f"-n -T fields, six of them, {' '.join(tuned)}"),
        shark("default", kind, [], "-n -T fields, the same six, every packet"),
        Tool(
            "tcpflow",
            lambda capture, folder: [
                *("tcpflow", "-q", "-r", str(capture), "-o", str(folder / "flows")),
                *("-S", "enable_report=NO"),
            ],
            "tcpflow",
            remark="writes each side of each connection to a file; knows no transactions",
        ),
        Tool(
            "ndpiReader",
            lambda capture, folder: ["ndpiReader", "-q", "-i", str(capture)],
            "ndpiReader",
            remark="names each flow's protocol; reassembles nothing, knows no transactions",
        ),
    ]


@dataclass(slots=True)
class Job:
    """What is measured, and where."""

    kind: str
    rounds: int
    folder: Path
    long: tuple[Path, Written]
    short: tuple[Path, Written]

    def capture(self, tool: Tool) -> tuple[Path, Written]:
        return self.short if tool.short else self.long

    def once(self, tool: Tool) -> Cost:
        """One run; its output stays until the next one of the same tool."""
        if tool.output:
            (self.folder / tool.output).unlink(missing_ok=True)
        capture, _ = self.capture(tool)
        cost = run(tool.argv(capture, self.folder), tool.environ, str(self.folder / "stdout"))
        shutil.rmtree(self.folder / "flows", ignore_errors=True)
        if cost.code:
            sys.stderr.write(f"{tool.name} ended with {cost.code}: {cost.said}\n")
        return cost

    def measure(self, wanted: list[Tool]) -> list[Result]:
        costs: dict[str, list[Cost]] = {tool.name: [] for tool in wanted}
        for number in range(self.rounds):
            for tool in wanted:
                cost = self.once(tool)
                costs[tool.name].append(cost)
                say(f"round {number + 1} of {self.rounds}: {tool.name} {cost.cpu:.2f} s CPU")
        return [self.result(tool, middle(costs[tool.name])) for tool in wanted]

    def result(self, tool: Tool, cost: Cost) -> Result:
        _, made = self.capture(tool)
        startup = 0.0
        if self.short != self.long:
            empty = self.folder / "empty.pcap"
            empty.write_bytes(PCAP_HEADER)
            startup = run(tool.argv(empty, self.folder), tool.environ).cpu
        size = made.transactions, made.packets, made.size
        return Result(tool.name, cost, *size, tool.remark, startup)

    def check(self) -> list[Report]:
        """The timed output, and one more run with all details on the shorter capture."""
        with (self.folder / "compiled.ndjson").open("rb") as lines:
            reports = [verify(lines, self.long[1].transactions)]
        full = self.folder / "full.ndjson"
        run(kshark("run", "--read", str(self.short[0]), "--full", "--sink", f"jsonl:{full}"))
        with full.open("rb") as lines:
            reports.append(verify(lines, self.short[1].transactions))
        return reports


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def make(kind: str, transactions: int, path: Path) -> tuple[Path, Written]:
    """A capture of so many transactions, written afresh."""
    return path, generate(Plan(kind=kind, transactions=transactions), path)


def shown(results: list[Result]) -> str:
    """The table, with ratios to tuned tshark."""
    reference = next((r for r in results if r.name == "tshark tuned"), None)
    rows = [["", "CPU s", "packets/s", "transactions/s", "peak MB", "x tshark tuned", ""]]
    for r in results:
        seconds = max(r.cost.cpu - r.startup, 1e-9)
        ratio = f"{r.rate / reference.rate:.1f}" if reference is not None else "-"
        transactions = f"{r.rate:,.0f}" if "no transactions" not in r.remark else "-"
        packets, peak = f"{r.packets / seconds:,.0f}", f"{r.cost.peak / 1e6:,.0f}"
        row = [r.name, f"{r.cost.cpu:.2f}", packets, transactions, peak, ratio, r.remark]
        if r.cost.code:
            row[2:] = ["-", "-", peak, "-", f"FAILED with {r.cost.code}: {r.cost.said}"]
        rows.append(row)
    return table(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", nargs="?", choices=sorted(FIELDS), default="http")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--tshark-transactions", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="tools whose name has this")
    parser.add_argument("--folder", type=Path, help="for captures and outputs (a temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    wanted = [t for t in tools(args.kind) if not args.only or any(o in t.name for o in args.only)]
    missing = sorted({t.needs for t in wanted if t.needs and not shutil.which(t.needs)})
    wanted = [t for t in wanted if t.needs not in missing]
    with tempfile.TemporaryDirectory(prefix="kshark-bench-", dir=args.folder) as name:
        folder = Path(name)
        long = make(args.kind, args.transactions, folder / "long.pcap")
        count = min(args.transactions, args.tshark_transactions)
        short = long
        if count < args.transactions:
            short = make(args.kind, count, folder / "short.pcap")
        job = Job(args.kind, args.rounds, folder, long, short)
        results = job.measure(wanted)
        reports = job.check() if any(t.name == "kshark compiled" for t in wanted) else []
    tell(args.kind, job, results, missing, reports)
    if args.json:
        figures = {
            "machine": machine(),
            "results": [{**asdict(r), "rate": r.rate} for r in results],
            "complete": [asdict(r) for r in reports],
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(r.problems() for r in reports) or any(r.cost.code for r in results))


def tell(
    kind: str, job: Job, results: list[Result], missing: list[str], reports: list[Report]
) -> None:
    """Everything that a reader needs to judge the figures."""
    programs = ("tshark", "tcpflow", "ndpiReader")
    versions = ", ".join(f"{p} {version(p)}" for p in programs if version(p))
    made = job.long[1]
    print(f"machine: {machine()}; {versions}")
    print(
        f"capture: {kind}, {made.transactions:,} transactions, {made.packets:,} packets, "
        f"{made.size / 1e6:,.0f} MB; median of {job.rounds} interleaved rounds"
    )
    if job.short != job.long:
        print(
            f"tshark: {job.short[1].transactions:,} transactions of the same kind, "
            "so everybody's start-up is taken off the rates"
        )
    print(f"\n{shown(results)}\n")
    for tool in missing:
        print(f"not compared: {tool} is not installed")
    for report in reports:
        print(f"kshark: {report.line()}")


if __name__ == "__main__":
    sys.exit(main())
