"""What a guest does: rounds of the same traffic, each with a capture of its own. Standard library only."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 240.0
"""Seconds for anything; entries have a shorter one, after which the round gives what there is."""
ENOUGH = 60.0
KSHARK = """
import kshark.limits as limits
for name in ("BREAKER_FEED", "BREAKER_CALL", "BREAKER_SHARE"):
    setattr(limits, name, 3600 * limits.SECOND)
from kshark.__main__ import main
main()
"""
"""It judges plugins by their time, of which an emulated machine takes any amount."""
NGINX = """
user root; worker_processes 1; daemon off; pid /tmp/pid; error_log /tmp/error.log;
events { worker_connections 64; }
http {
  access_log off; sendfile on; root /tmp;
  client_body_temp_path /tmp/t1; proxy_temp_path /tmp/t2; fastcgi_temp_path /tmp/t3;
  uwsgi_temp_path /tmp/t4; scgi_temp_path /tmp/t5;
  server { listen 80; listen [::]:80; location /small { return 200 'small\\n'; } }
}
"""
SERVERS = (
    "nginx -p /tmp -c /tmp/nginx.conf",
    "redis-server --bind 127.0.0.1 --save '' --loglevel warning --dir /tmp --port 6379",
    "dnsmasq -k -C /dev/null -R -h --user=root --pid-file= --address=/known.test/192.0.2.7",
)
READY = (
    "curl -sf http://127.0.0.1/small",
    "redis-cli PING",
    "dig @127.0.0.1 +tries=1 +time=1 known.test",
)
TRAFFIC = (
    "curl -s http://127.0.0.1/small",
    "curl -s http://127.0.0.1/64k",
    "curl -sg http://[::1]/nosuch",
    "redis-cli SET k v",
    "redis-cli GET k",
    "dig @127.0.0.1 +tries=1 A known.test",
    "python3 /kshark/odd_calls.py 5300",
)


def until(done: Any, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not done() and time.monotonic() < end:
        time.sleep(0.1)


def run(command: str) -> bool:
    done = subprocess.run(command.split(), capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode == 0


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def capture(wanted: dict[str, Any]) -> dict[str, Any]:
    """One round: kshark, the traffic, and what it made of it."""
    file = Path("/tmp", f"{wanted['name']}.ndjson")
    words = [sys.executable, "-c", KSHARK, "run", *wanted["arguments"], "--sink", f"jsonl:{file}"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    Path("/sys/fs/cgroup/calls").mkdir(exist_ok=True)
    assert process.stderr is not None
    said = ""
    while "hooks: " not in said:
        line = process.stderr.readline()
        said += line
        if not line:
            break
    if process.poll() is None:
        Path("/sys/fs/cgroup/calls/cgroup.procs").write_text(f"{os.getpid()}")
        for command in wanted.get("traffic", TRAFFIC):
            print(command, run(command), flush=True)
        Path("/sys/fs/cgroup/cgroup.procs").write_text(f"{os.getpid()}")
        until(lambda: len(lines(file)) >= wanted["entries"], ENOUGH)
        time.sleep(1)  # one too many
        process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=PATIENCE)[1]
    print(wanted["name"], process.returncode, said, flush=True)
    entries = [json.loads(line) for line in lines(file)]
    return {"name": wanted["name"], "code": process.returncode, "said": said, "entries": entries}


def main(rounds: str, to: str) -> None:
    Path("/tmp/nginx.conf").write_text(NGINX)
    Path("/tmp/64k").write_bytes(os.urandom(32_768).hex().encode())
    servers = [subprocess.Popen(command.replace("''", '""').split()) for command in SERVERS]
    for command in READY:
        until(lambda command=command: run(command))
    print("ready", time.monotonic(), flush=True)
    with open(to, "w", encoding="utf-8") as out:
        for wanted in json.loads(Path(rounds).read_text()):
            out.write(json.dumps(capture(wanted)) + "\n")
            out.flush()
            print(time.monotonic(), flush=True)
    for server in servers:
        server.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
