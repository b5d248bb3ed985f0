"""What Loki says of the rows that it does not take: how many, and why.

It takes the good rows of a request and says 400 for the others: ``3 errors like: entry for stream ... has
timestamp too old``, or (its ingesters) ``total ignored: 2 out of 500``. Sent again, all would be refused again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

BETWEEN: Final = re.compile(r"; (?=\d+ errors like: )")
LIKE: Final = re.compile(r"\s*(\d{1,9}) errors like: ")
IGNORED: Final = re.compile(r"total ignored: (\d{1,9}) out of \d+")
REASONS: Final[Mapping[str, str]] = {
    "timestamp too old": "too old for loki",
    "too far behind": "too old for loki",
    "timestamp too new": "too new for loki",
    "max entry size": "too long for loki",
    "structured metadata": "metadata refused",
}
OURS: Final = ("entry for stream", "max entry size", "stream '", "entry with timestamp")
"""How what concerns single rows begins; all else (a proxy's page, a broken request) concerns all of them."""

WHO: Final = "give token_file, or user and password_file"
HINTS: Final[Mapping[int, str]] = {
    401: WHO,
    403: WHO,
    404: "nothing takes rows at this address",
    **dict.fromkeys((301, 302, 307, 308), "give the address that it redirects to"),
}
"""What a person can do about an answer that waiting will not mend."""


def hint(status: int, text: str) -> str:
    """``give tenant``, or "" where there is no advice."""
    if "no org id" in text:
        return "give tenant"
    return HINTS.get(status, "")


def refused(status: int, text: str, entries: int) -> dict[str, int]:
    """Of a request's `entries`, those that were not taken, by reason."""
    found: dict[str, int] = {}
    if status == 400:
        for part in BETWEEN.split(text):
            if any(mark in part for mark in OURS):
                ignored = sum(int(n) for n in IGNORED.findall(part))
                alike = LIKE.match(part)
                reason = next((why for mark, why in REASONS.items() if mark in part), "refused")
                count = ignored or (int(alike[1]) if alike else 1)
                found[reason] = found.get(reason, 0) + count
    if not 0 < sum(found.values()) <= entries:
        return {"too large for loki" if status == 413 else "refused": entries}
    return found
