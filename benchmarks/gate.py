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
from statistics import median

from generate import Plan, generate
from measure import kshark, machine, run, table
from traffic.tcp import PCAP_HEADER

ACCEPTED = Path(__file__).with_name("accepted.json")
SHARE = 0.8
TRANSACTIONS = {"http": 40_000, "redis": 80_000}
CASES = {
    "http compiled": ("http", ""),
    "http plain dissector": ("http", "kshark.protocols"),
    "http pure": ("http", "1"),
    "redis compiled": ("redis", ""),
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
    """Transactions while the reference work is done once: the median of the rounds."""
    found = []
    for _ in range(rounds):
        unit = min(reference_work() for _ in range(3))
        cpu = []
        for path in (empty, capture):
            sink = f"jsonl:{path.with_suffix('.ndjson')}"
            cost = run(kshark("run", "--read", str(path), "--sink", sink), {"KSHARK_PURE": pure})
            if cost.code:
                raise SystemExit(f"kshark ended with {cost.code}: {cost.said}")
            cpu.append(cost.cpu)
        found.append(transactions / max(cpu[1] - cpu[0], 1e-3) * unit)
    return median(found)


def scores(rounds: int) -> dict[str, int]:
    """Today's figures."""
    out = {}
    with tempfile.TemporaryDirectory(prefix="kshark-gate-") as name:
        empty = Path(name, "empty.pcap")
        empty.write_bytes(PCAP_HEADER)
        for kind, transactions in TRANSACTIONS.items():
            generate(Plan(kind=kind, transactions=transactions), Path(name, f"{kind}.pcap"))
        for case, (kind, pure) in CASES.items():
            capture = Path(name, f"{kind}.pcap")
            out[case] = round(score(capture, empty, TRANSACTIONS[kind], pure, rounds))
            sys.stderr.write(f"{case}: {out[case]:,}\n")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", action="store_true", help="write the figures as accepted")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    today = scores(args.rounds)
    if args.accept:
        ACCEPTED.write_text(json.dumps({"machine": machine(), "scores": today}, indent=2) + "\n")
        print(f"accepted: {today}")
        return 0
    accepted = json.loads(ACCEPTED.read_text())
    rows = [["", "accepted", "today", "share", ""]]
    failed = False
    for case, figure in today.items():
        before = accepted["scores"].get(case)
        bad = before is not None and figure < SHARE * before
        failed = failed or bad
        share = f"{figure / before:.2f}" if before else "-"
        rows.append([case, f"{before or 0:,}", f"{figure:,}", share, "TOO SLOW" if bad else ""])
    print(f"{machine()}; accepted on {accepted['machine']}\n{table(rows)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
