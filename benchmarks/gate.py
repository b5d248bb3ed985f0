"""Regression gate: instructions of the processor a transaction, compared with the last accepted figures.

    python benchmarks/gate.py            # 1 where a figure is 10 % over that of benchmarks/accepted.json
    python benchmarks/gate.py --accept   # take today's figures as accepted

Machines differ and drift, so nothing is compared in seconds: cachegrind counts the instructions that kshark
takes for a generated capture, and those of its start-up, by an empty one, are taken off. They come out the same
within a per cent, whatever else runs. Another interpreter takes others: then the gate is wider.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from generate import Plan, generate
from measure import kshark, machine, table
from traffic.tcp import PCAP_HEADER

ACCEPTED: Final = Path(__file__).with_name("accepted.json")
SHARE: Final = 1.1
"""Of the accepted instructions, the most that pass."""
FOREIGN: Final = 1.5
"""The same where the figures were accepted with another interpreter."""
COUNT: Final = [
    *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
]
FOUND: Final = re.compile(r"I +refs: +([\d,]+)")
ATTEMPTS: Final = 4
COMPILED, PLAIN, PURE = "", "kshark.protocols", "1"
CASES: Final = {
    "http compiled": ("http", COMPILED, 4000),
    "http plain dissector": ("http", PLAIN, 2000),
    "http pure": ("http", PURE, 1000),
    "redis compiled": ("redis", COMPILED, 8000),
    "dns compiled": ("dns", COMPILED, 4000),
    "http2 compiled": ("http2", COMPILED, 4000),
    "grpc compiled": ("grpc", COMPILED, 4000),
    "websocket": ("websocket", COMPILED, 2000),
    "tls": ("tls", COMPILED, 500),
}
"""By their names: the kind of traffic, what is not compiled (KSHARK_PURE), and how many transactions."""


def interpreter() -> str:
    """What has a share in the count."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"


def instructions(capture: Path, pure: str) -> int:
    """Of the whole process that reads a capture.

    Once more where a protocol was switched off: fifty times slower than usual, one call in thousands takes too long.
    """
    words = [*COUNT, *kshark("run", "--read", str(capture), "--sink", "jsonl:/dev/null")]
    environ = {**os.environ, "KSHARK_PURE": pure, "PYTHONHASHSEED": "0"}
    for _ in range(ATTEMPTS):
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        found = FOUND.search(done.stderr)
        if not done.returncode and found and "switched off" not in done.stderr:
            return int(found.group(1).replace(",", ""))
    raise SystemExit(f"kshark ended with {done.returncode}: {done.stderr[-2000:]}")


class Course:
    """The captures of all cases, and what was counted so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start_up: dict[str, int] = {}

    def score(self, case: str) -> int:
        """Instructions a transaction."""
        kind, pure, transactions = CASES[case]
        capture = self._folder / f"{kind}-{transactions}.pcap"
        generate(Plan(kind=kind, transactions=transactions), capture)
        found = instructions(capture, pure) - self._started(pure)
        capture.unlink()
        score = round(found / transactions)
        sys.stderr.write(f"{case}: {score:,}\n")
        return score

    def _started(self, pure: str) -> int:
        if pure not in self._start_up:
            empty = self._folder / "empty.pcap"
            empty.write_bytes(PCAP_HEADER)
            self._start_up[pure] = instructions(empty, pure)
        return self._start_up[pure]


def accept(today: dict[str, int]) -> int:
    """Today's figures are the ones to compare with."""
    found = {"machine": machine(), "interpreter": interpreter(), "instructions": today}
    ACCEPTED.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def compare(today: dict[str, int], accepted: dict[str, Any]) -> int:
    """The gate: 1 where a figure is too high."""
    share = SHARE if accepted["interpreter"] == interpreter() else FOREIGN
    rows = [["", "accepted", "today", "share", ""]]
    for case, found in today.items():
        before = accepted["instructions"][case]
        remark = "TOO SLOW" if found > share * before else ""
        rows.append([case, f"{before:,}", f"{found:,}", f"{found / before:.2f}", remark])
    print(
        f"{machine()}; {interpreter()}; accepted with {accepted['interpreter']}: up to {share:.2f} passes"
    )
    print(table(rows))
    return int(any(row[-1] for row in rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", action="store_true", help="write the figures as accepted")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        print("the gate counts by valgrind: sudo apt-get install valgrind", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="kshark-gate-") as name:
        course = Course(Path(name))
        today = {case: course.score(case) for case in CASES}
    return accept(today) if args.accept else compare(today, json.loads(ACCEPTED.read_text()))


if __name__ == "__main__":
    sys.exit(main())
