"""CPU seconds and peak memory of whole processes, and the machine that they ran on."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(slots=True)
class Cost:
    """What one run took, or the median of several."""

    cpu: float  # seconds, user and system
    wall: float
    peak: int  # bytes
    code: int = 0
    said: str = ""  # its last line on standard error


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None, out: str = "") -> Cost:
    """Run a command to its end. `out` is where its standard output goes (else nowhere)."""
    env = {**os.environ, **(environ or {})}
    began = time.perf_counter()
    with open(out or os.devnull, "wb") as sink:
        process = subprocess.Popen(argv, env=env, stdout=sink, stderr=subprocess.PIPE)
        assert process.stderr is not None
        with process.stderr:
            said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        cpu_of(usage),
        time.perf_counter() - began,
        usage.ru_maxrss * 1024,
        process.returncode,
        said[-1] if said else "",
    )


def cpu_of(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def middle(costs: Sequence[Cost]) -> Cost:
    """The medians."""
    return Cost(
        median(c.cpu for c in costs),
        median(c.wall for c in costs),
        int(median(c.peak for c in costs)),
        max(c.code for c in costs),
        costs[-1].said,
    )


def machine() -> str:
    """Processor, cores, kernel and Python in one line."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = found.group(1) if found else platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, {python}"


def version(tool: str) -> str:
    """First number with a dot of what ``tool --version`` says; "" where the tool is missing."""
    if not shutil.which(tool):
        return ""
    flag = {"ndpiReader": "-h", "nginx": "-v"}.get(tool, "--version")
    said = subprocess.run([tool, flag], capture_output=True, check=False)
    found = re.search(rb"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return found.group(0).decode() if found else "?"


def kshark(*arguments: str) -> list[str]:
    """The command line of this checkout's kshark, in this Python."""
    return [sys.executable, "-m", "kshark", *arguments]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left, the others to the right but for a last one of remarks."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [row[i].rjust(widths[i]) for i in range(1, len(row) - 1)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
