"""Is every transaction of a generated capture in kshark's output, once, and with its own answer?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NUMBER = re.compile(r"t(\d{9})")


@dataclass(slots=True)
class Report:
    """What was found; `problems` is empty when all is well."""

    transactions: int
    entries: int = 0
    missing: int = 0
    doubled: int = 0
    unpaired: int = 0  # a half is missing, or the outcome is neither ok nor error
    foreign: int = 0  # entries of a protocol without a number
    flows: int = 0  # connections that were opened and not used, or encrypted, or upgraded
    wrong: int = 0  # an answer of another transaction (full output only)
    checked: int = 0  # answers that were compared
    examples: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        names = ("missing", "doubled", "unpaired", "foreign", "wrong")
        return [f"{getattr(self, n):,} {n}" for n in names if getattr(self, n)]

    def line(self) -> str:
        """In a few words."""
        if self.problems():
            return f"NOT complete: {', '.join(self.problems())}; {self.examples[:2]}"
        pairs = f", {self.checked:,} answers are their own" if self.checked else ""
        return f"all {self.transactions:,} transactions are there, once, and paired{pairs}"


def verify(lines: Iterable[bytes], transactions: int) -> Report:
    """Check NDJSON of `kshark run`; with ``--full`` the answers' numbers too."""
    report = Report(transactions)
    seen = bytearray(transactions)
    left = transactions
    for line in lines:
        report.entries += 1
        entry = json.loads(line)
        asked, answered = entry["request"], entry["response"]
        found = NUMBER.search(asked["target"]) if asked else None
        details = entry.get(entry["protocol"])
        if entry["protocol"] == "http" and answered and answered["status"] == 101:
            report.flows += 1  # an upgrade: what comes after it are the transactions
            continue
        if found is None and entry["protocol"] in (
            "grpc",
            "websocket",
        ):  # the number is in the message
            told = json.dumps(details["request"]) if details else f"t{len(seen) - left:09d}"
            left -= 1
            found = NUMBER.search(told)
        if entry["protocol"] == "tcp":  # of TLS with its name
            report.flows += 1
            continue
        if found is None:
            report.foreign += 1
            report.examples.append(line.decode()[:300])
            continue
        number = int(found.group(1))
        if number >= transactions:
            report.doubled += 1
            continue
        report.doubled += seen[number]
        seen[number] = 1
        one_way = entry["protocol"] == "websocket"
        if (not answered and not one_way) or entry["outcome"] not in ("ok", "error"):
            report.unpaired += 1
            report.examples.append(line.decode()[:300])
        if details is not None and not one_way:
            check_answer(report, number, details.get("response"))
    report.missing = transactions - sum(seen)
    return report


def check_answer(report: Report, number: int, response: Any) -> None:
    """The answer carries the number of its question: as text, or as the integer itself."""
    text = json.dumps(response)
    report.checked += 1
    if f"t{number:09d}" not in text and not re.search(rf"(?<!\d){number}(?!\d)", text):
        report.wrong += 1
        report.examples.append(f"t{number:09d} got {text[:200]}")
