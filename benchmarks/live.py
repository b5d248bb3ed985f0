"""What live capture costs: nginx and wrk in two network namespaces, kshark on the server's interface.

    sudo python benchmarks/live.py                 # as many requests as go
    sudo python benchmarks/live.py --seconds 5 --connections 64
    sudo python benchmarks/live.py --backend af_packet --backend tc --backend cgroup

Rounds without kshark and with each backend take turns, and the table has the medians. Both ends and kshark share
this machine's CPUs, so requests/s with capture says what is left for the server; `kernel drops` are
packets that the kernel could not put into the ring, as kshark reports them. A request is delivered
when its entry has left through the sink, or it is counted as lost with a reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import cpu_of, kshark, machine, table, version

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
NGINX = """
worker_processes {workers};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; keepalive_timeout 75s;
  server {{ listen {address}:80 reuseport;
    location / {{ default_type application/json; return 200 '{body}'; }} }}
}}
"""
BODY = '{"id":42,"name":"amber basil","items":[' + ",".join(['{"n":1}'] * 60) + "]}"
SCOPE = {"af_packet": "af_packet:eth0", "tc": "tc:eth0", "cgroup": "cgroup:,ports=80"}
"""The backends, told to look at this traffic alone."""
STARTED = 1.5
"""Seconds for kshark to open its ring before the load begins."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces of ours, joined by a veth pair; gone afterwards."""
    names = f"kshark-s{os.getpid()}", f"kshark-c{os.getpid()}"
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            names[1],
        )
        for name, address in zip(names, (SERVER, CLIENT), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def nginx(namespace: str, workers: int) -> Iterator[None]:
    """A server in that namespace, with a configuration of its own."""
    with tempfile.TemporaryDirectory(prefix="kshark-live-") as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(workers=workers, folder=folder, address=SERVER, body=BODY))
        argv = ["ip", "netns", "exec", namespace, "nginx", "-p", folder, "-c", str(config)]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            if process.poll() is not None:
                raise SystemExit("nginx did not start")
            yield
        finally:
            process.terminate()
            process.wait()


@dataclass(slots=True)
class Load:
    """What wrk did."""

    requests: int
    rate: float


def wrk(namespace: str, args: argparse.Namespace) -> Load:
    """Run the load generator to its end."""
    argv = ["ip", "netns", "exec", namespace, "wrk", "-t1", f"-c{args.connections}"]
    argv += [f"-d{args.seconds}s", f"http://{SERVER}/api/orders/42"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    requests = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if requests is None or rate is None:
        raise SystemExit(f"wrk said nothing of requests: {said}")
    return Load(int(requests.group(1)), float(rate.group(1)))


@dataclass(slots=True)
class Captured:
    """One round with kshark."""

    load: Load
    entries: int
    received: int
    drops: int
    cpu: float
    said: str


def capture(namespaces: tuple[str, str], backend: str, args: argparse.Namespace) -> Captured:
    """kshark in the server's namespace while wrk runs; ended by SIGINT, as a user would."""
    server, client = namespaces
    # `ip netns exec` hides the cgroups, and sockets are seen wherever they are.
    argv = [] if backend == "cgroup" else ["ip", "netns", "exec", server]
    argv += kshark("run", "--backend", SCOPE.get(backend, backend), "--sink", "jsonl:/dev/null")
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(STARTED)
        load = wrk(client, args)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        with process.stderr:
            said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    return Captured(load, *counts(said), cpu_of(usage), said.strip().splitlines()[-1])


def counts(said: str) -> tuple[int, int, int]:
    """Entries delivered, packets received, packets dropped by the kernel, of the closing line."""

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        return int(found.group(1).replace(",", "")) if found else 0

    lost = re.findall(r"([\d,]+) lost \((?:af_packet|[^:]*): [^)]*\)", said)
    return (
        number(r"jsonl ([\d,]+)"),
        number(r"([\d,]+) packets"),
        sum(int(n.replace(",", "")) for n in lost),
    )


def needs() -> str:
    """What is missing, or ""."""
    if os.geteuid():
        return "root is needed, to make network namespaces"
    missing = [name for name in ("ip", "nginx", "wrk") if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The rounds, by turns."""
    free: list[float] = []
    watched: dict[str, list[Captured]] = {name: [] for name in args.backend}
    with namespaces() as names, nginx(names[0], args.workers):
        wrk(names[1], argparse.Namespace(**{**vars(args), "seconds": 1}))
        for number in range(args.rounds):
            free.append(wrk(names[1], args).rate)
            for name, rounds in watched.items():
                rounds.append(capture(names, name, args))
                sys.stderr.write(f"round {number + 1}: {free[-1]:,.0f}/s; {rounds[-1].said}\n")
    return {name: summed(free, rounds, args) for name, rounds in watched.items()}


def summed(free: list[float], watched: list[Captured], args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one backend."""
    made = sum(w.load.requests for w in watched)
    return {
        "free": median(free),
        "watched": median(w.load.rate for w in watched),
        "left": median(w.load.rate / f for w, f in zip(watched, free, strict=True)),
        "requests": made,
        "entries": sum(w.entries for w in watched),
        "received": sum(w.received for w in watched),
        "drops": sum(w.drops for w in watched),
        "cpu": median(w.cpu / args.seconds for w in watched),
        "cpu_us": sum(w.cpu for w in watched) / max(made, 1) * 1e6,
    }


def show(args: argparse.Namespace, found: dict[str, Any]) -> None:
    print(f"machine: {machine()}; nginx {version('nginx')}, wrk {version('wrk')}")
    print(
        f"load: wrk -t1 -c{args.connections}, {args.seconds} s a round, {args.rounds} rounds with and "
        f"without capture by turns; nginx with {args.workers} worker(s), {len(BODY)} bytes of body"
    )
    for backend, figures in found.items():
        print(f"\n{backend}")
        print(table(lines(figures)))


def lines(found: dict[str, Any]) -> list[list[str]]:
    """The table of one backend."""
    share = found["drops"] / max(found["received"] + found["drops"], 1)
    return [
        ["", "", ""],
        ["requests/s without kshark", f"{found['free']:,.0f}", ""],
        [
            "requests/s with kshark",
            f"{found['watched']:,.0f}",
            f"{found['left']:.0%} of the same round",
        ],
        ["requests made under capture", f"{found['requests']:,}", ""],
        [
            "entries delivered",
            f"{found['entries']:,}",
            f"{found['entries'] - found['requests']:+,}; wrk does not count its last requests",
        ],
        ["packets received", f"{found['received']:,}", ""],
        ["kernel drops", f"{found['drops']:,}", f"{share:.2%} of the packets"],
        ["kshark CPU", f"{found['cpu']:.2f}", f"of one core; {found['cpu_us']:.1f} us a request"],
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1, help="of nginx")
    parser.add_argument("--backend", action="append", choices=list(SCOPE), help="af_packet if none")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.backend = args.backend or ["af_packet"]
    missing = needs()
    if missing:
        sys.stderr.write(f"no live benchmark: {missing}\n")
        return 2
    found = measure(args)
    show(args, found)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
