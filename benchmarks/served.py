"""nginx in one network namespace and wrk in another, each on a processor of its own: the load of `live.py`."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def pinned(place: int) -> list[str]:
    """Words before a command that keep it on one processor: 0 is the server's, 1 wrk's, 2 kshark's.

    Where there are fewer, the last one is shared.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(allowed[min(place, len(allowed) - 1)])]


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
        cable = f"link add eth0 netns {names[0]} type veth peer eth0 netns {names[1]}"
        ip(*cable.split())
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
        argv = ["ip", "netns", "exec", namespace, *(pinned(0) if workers == 1 else [])]
        argv += ["nginx", "-p", folder, "-c", str(config)]
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
    argv = ["ip", "netns", "exec", namespace, *pinned(1), "wrk", "-t1", f"-c{args.connections}"]
    argv += [f"-d{args.seconds}s", f"http://{SERVER}/api/orders/42"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    requests = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if requests is None or rate is None:
        raise SystemExit(f"wrk said nothing of requests: {said}")
    return Load(int(requests.group(1)), float(rate.group(1)))


def needs() -> str:
    """What is missing, or ""."""
    if os.geteuid():
        return "root is needed, to make network namespaces"
    missing = [name for name in ("ip", "nginx", "wrk", "taskset") if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""
