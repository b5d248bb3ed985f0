"""Sizes and times as people write them.

>>> size("1GiB"), size("10MB"), size("512")
(1073741824, 10000000, 512)
>>> seconds("1h30m"), seconds("250ms"), seconds("5")
(5400.0, 0.25, 5.0)
"""

from __future__ import annotations

import re
from typing import Final

_SIZES: Final = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip
_TIMES: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\Z")
_TIME: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(ns|us|µs|ms|s|m|h|d)")


def size(text: str) -> int:
    """Bytes. ``KiB MiB GiB TiB`` (and bare ``K M G T``) count in 1024, ``kB MB GB TB`` in 1000."""
    match = _SIZE.match(text.strip())
    factor = _SIZES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("is not a size such as 512KiB, 10MB or 1GiB")
    whole, _, part = match[1].partition(".")
    return int(whole) * factor + (int(float(f"0.{part}") * factor) if part else 0)


def seconds(text: str) -> float:
    """Seconds, from a number or a sum of ``d h m s ms us ns``."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", text):
        return float(text)
    parts = _TIME.findall(text)
    if not parts or _TIME.sub("", text).strip():
        raise ValueError("is not a time such as 250ms, 30s, 5m or 1h30m")
    return sum(float(number) * _TIMES[unit] for number, unit in parts)


def show_size(count: int) -> str:
    """``1536`` -> ``"1.5 KiB"``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
