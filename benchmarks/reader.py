"""One backend without the rest of kshark: how long it takes to open, its memory, and what an event costs its reader.

    sudo python benchmarks/reader.py ebpf '{"ports": [80]}'     # until SIGINT; then one line of JSON

An event is a packet, or a call of a process. The programs' own time is there where the kernel keeps it
(sysctl kernel.bpf_stats_enabled=1).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from measure import cpu_of


def made(name: str, options: str) -> Any:
    """The backend of that name."""
    (spec,) = importlib.import_module(f"kshark.backends.{name}").register_backends()
    return spec.make(msgspec.json.decode(options, type=spec.options))


def memory() -> int:
    """Bytes of this process that are in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def cpu() -> float:
    return cpu_of(resource.getrusage(resource.RUSAGE_SELF))


def programs() -> dict[str, Any]:
    """Runs of the programs that this process has loaded, and the nanoseconds that they took."""
    ours = set()
    for file in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            ours.update(re.findall(r"prog_id:\s*(\d+)", file.read_text()))
    try:
        said = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {
        one["name"]: {"runs": one["run_cnt"], "ns": one["run_time_ns"]}
        for one in json.loads(said.stdout)
        if str(one["id"]) in ours and one.get("run_cnt")
    }


async def read(backend: Any) -> dict[str, Any]:
    """Take and forget what comes, until SIGINT."""
    events = size = 0
    found: dict[str, Any] = {}
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)

    async def end() -> None:
        await ended.wait()
        found["programs"] = programs()
        await backend.close()

    closing = asyncio.create_task(end())
    spent, began = cpu(), time.perf_counter()
    async for block in backend.blocks():
        events += block.count
        size += len(block.data)
    found["cpu_s"], found["wall_s"] = cpu() - spent, time.perf_counter() - began
    await closing
    found |= {"events": events, "bytes": size, "lost": sum(backend.stats().dropped.values())}
    return found


def main() -> int:
    name, options = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "{}"
    backend = made(name, options)
    before, began = memory(), time.perf_counter()
    backend.open()
    opened = {"open_s": time.perf_counter() - began, "before": before, "after": memory()}
    sys.stderr.write("open\n")
    sys.stderr.flush()
    print(json.dumps({**opened, **asyncio.run(read(backend))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
