"""The same minute of this machine by calls and by packets, and what only one of them has.

    sudo python benchmarks/same_minute.py                        # a minute of whatever goes on here
    sudo python benchmarks/same_minute.py --seconds 10 --netns web --show 50

It runs ``kshark run --backend ebpf --sink jsonl:...`` and ``--backend af_packet`` side by side in one network
namespace and compares their entries by who asked whom what, and what came back. Entries of the first and the last
second are compared with all of the other's, and not missed themselves. Exit 0: nothing differs but for what calls or
packets cannot show (docs/capture.md); 1: something does; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

Entry = dict[str, Any]
EDGE = 1.0
"""Seconds at both ends of the time that both captures have, of which nothing is missed."""
LATE = 2.0
"""Seconds after which the captures have begun, once they have said that they do; and that answers are waited for."""
BEGUN = {"ebpf": "hooks: ", "af_packet": "; protocols"}
"""What each backend says when it begins; the one that takes longest comes first."""
PACKETS_ONLY = ("icmp",)
"""Protocols that no process says to another."""


class Found(NamedTuple):
    """What a comparison says."""

    both: int
    only: dict[str, Counter[str]]

    @property
    def same(self) -> bool:
        return not any(self.only.values())


def key(entry: Entry) -> str:
    """Who asked whom what, and what came back: the same by calls and by packets."""
    request, response = entry["request"] or {}, entry["response"] or {}
    source, target = (f"{end['ip']}:{end['port']}" for end in (entry["src"], entry["dst"]))
    words = (request.get("verb", "-"), request.get("target", ""), "->", response.get("status", "-"))
    return " ".join(str(w) for w in (entry["protocol"], source, target, *words, entry["outcome"]))


def compare(files: dict[str, Iterable[str]], since: str, until: str) -> Found:
    """Entries, as lines of JSON, by the backend that gave them."""
    every, asked = {}, {}
    for name, lines in files.items():
        entries = [e for e in map(json.loads, lines) if e["protocol"] not in PACKETS_ONLY]
        every[name] = Counter(key(e) for e in entries)
        asked[name] = Counter(
            key(e) for e in entries if since <= e["time"] <= until and not e["midstream"]
        )
    one, two = files
    both = sum((every[one] & every[two]).values())
    return Found(both, {one: asked[one] - every[two], two: asked[two] - every[one]})


def captures(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Path], str, str]:
    """Both backends for the time that is asked for; their files, and the time that counts."""
    netns = args.netns or f"/proc/{os.getpid()}/ns/net"
    targets = {"ebpf": f"ebpf:,netns={netns}", "af_packet": "af_packet"}
    files = {name: folder / f"{name}.ndjson" for name in targets}
    running = []
    for name, target in targets.items():
        more = ["--netns", args.netns] if args.netns and name == "af_packet" else []
        argv = [sys.executable, "-m", "kshark", "run", "--backend", target, *more]
        argv += ["--sink", f"jsonl:{files[name]}"]
        running.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        begin(running[-1], BEGUN[name])
    time.sleep(LATE)
    since = moment(EDGE)
    time.sleep(args.seconds)
    until = moment(-EDGE)
    time.sleep(LATE)
    codes = []
    for process in running:
        process.send_signal(signal.SIGINT)
        sys.stderr.write(process.communicate()[1])
        codes.append(process.returncode)
    if any(code not in (0, 1) for code in codes):
        raise SystemExit(2)
    return files, since, until


def begin(process: subprocess.Popen[str], hint: str) -> None:
    """Wait until a capture says so."""
    assert process.stderr is not None
    while line := process.stderr.readline():
        sys.stderr.write(line)
        if hint in line:
            return
    raise SystemExit(2)


def moment(later: float) -> str:
    return datetime.fromtimestamp(time.time() + later, UTC).isoformat()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--netns", default="", help="a namespace by name instead of our own")
    parser.add_argument("--show", type=int, default=20, help="differences of each that are shown")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kshark-minute-") as folder:
        files, since, until = captures(args, Path(folder))
        lines = {n: f.read_text().splitlines() if f.exists() else [] for n, f in files.items()}
    found = compare(lines, since, until)  # type: ignore[arg-type]
    print(f"{found.both:,} entries are the same")
    for name, only in found.only.items():
        print(f"{sum(only.values()):,} only by {name}")
        for text, count in list(only.items())[: args.show]:
            print(f"  {count} x {text}")
    return 0 if found.same else 1


if __name__ == "__main__":
    sys.exit(main())
