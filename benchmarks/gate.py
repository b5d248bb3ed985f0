"""Regression gate: kshark's speed by this machine's own, compared with the last accepted figures.

    python benchmarks/gate.py            # 1 where a figure is under 80 % of benchmarks/accepted.json
    python benchmarks/gate.py --accept   # take today's figures as accepted

Machines differ and drift, so nothing is compared in seconds: each round runs a fixed piece of work in
the same interpreter (objects, searches, copies) and then kshark on a generated capture, and the score
is how many transactions kshark gets through while that work is done once. Start-up is taken off.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from generate import Plan, generate
from measure import kshark, machine, run, table
from traffic.tcp import PCAP_HEADER

ACCEPTED = Path(__file__).with_name("accepted.json")
SHARE = 0.8
TRANSACTIONS = {"dns": 80_000, "grpc": 20_000, "http": 40_000, "http2": 20_000, "redis": 80_000}
CASES = {
    "http compiled": ("http", ""),
    "http plain dissector": ("http", "kshark.protocols"),
    "http pure": ("http", "1"),
    "redis compiled": ("redis", ""),
    "dns compiled": ("dns", ""),
    "http2 compiled": ("http2", ""),
    "grpc compiled": ("grpc", ""),
}


def reference_work() -> float:
    """CPU seconds of work that stands for what an engine does: about a quarter of a second."""
    head = b"GET /api/orders/t000000042 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" * 8
    began = time.process_time()
    kept: list[tuple[int, bytes]] = []
    table: dict[int, int] = {}
    for number in range(100_000):
        at = head.find(b"\r\n\r\n", number & 255)
        piece = head[at - 20 : at + 4]
        table[number & 1023] = table.get(number & 1023, 0) + len(piece)
        kept.append((at, piece))
        if len(kept) == 256:
            kept.clear()
    block = bytearray(1 << 20)
    for _ in range(200):
        block[:] = bytes(block)
    return time.process_time() - began


def score(capture: Path, empty: Path, transactions: int, pure: str, rounds: int) -> float:
    """Transactions while the reference work is done once: by the best of the rounds, for each part.

    What else runs on the machine only ever adds.
    """
    unit: list[float] = []
    cpu: dict[Path, list[float]] = {empty: [], capture: []}
    for _ in range(rounds):
        for path, costs in cpu.items():
            unit.append(reference_work())
            sink = f"jsonl:{path.with_suffix('.ndjson')}"
            cost = run(kshark("run", "--read", str(path), "--sink", sink), {"KSHARK_PURE": pure})
            path.with_suffix(".ndjson").unlink(missing_ok=True)
            if cost.code:
                raise SystemExit(f"kshark ended with {cost.code}: {cost.said}")
            costs.append(cost.cpu)
    return transactions / max(min(cpu[capture]) - min(cpu[empty]), 1e-3) * min(unit)


class Course:
    """The captures of all cases, and the way to run one."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.empty = folder / "empty.pcap"
        self.empty.write_bytes(PCAP_HEADER)
        for kind, transactions in TRANSACTIONS.items():
            generate(Plan(kind=kind, transactions=transactions), folder / f"{kind}.pcap")

    def score(self, case: str) -> int:
        kind, pure = CASES[case]
        capture = self.folder / f"{kind}.pcap"
        found = round(score(capture, self.empty, TRANSACTIONS[kind], pure, self.rounds))
        sys.stderr.write(f"{case}: {found:,}\n")
        return found


def accept(course: Course) -> int:
    today = {case: course.score(case) for case in CASES}
    ACCEPTED.write_text(json.dumps({"machine": machine(), "scores": today}, indent=2) + "\n")
    print(f"accepted: {today}")
    return 0


def compare(course: Course) -> int:
    """The gate. A figure that is too low is taken once more: the machine may have been busy."""
    accepted = json.loads(ACCEPTED.read_text())
    rows = [["", "accepted", "today", "share", ""]]
    failed = False
    for case, before in accepted["scores"].items():
        today = course.score(case)
        if today < SHARE * before:
            today = max(today, course.score(case))
        bad = today < SHARE * before
        failed = failed or bad
        share = f"{today / before:.2f}"
        rows.append([case, f"{before:,}", f"{today:,}", share, "TOO SLOW" if bad else ""])
    print(f"{machine()}; accepted on {accepted['machine']}\n{table(rows)}")
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", action="store_true", help="write the figures as accepted")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kshark-gate-") as name:
        course = Course(Path(name), args.rounds)
        return accept(course) if args.accept else compare(course)


if __name__ == "__main__":
    sys.exit(main())
