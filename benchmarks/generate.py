"""Write a capture of many concurrent connections, for benchmarks.

    python benchmarks/generate.py http --transactions 500000 --out http.pcap

Deterministic: the same arguments write the same bytes. 500,000 HTTP transactions are 1.05 GB in
2.1 million packets, of which half a per cent are retransmitted and as many come out of order.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from traffic.dns import Dns, Socket
from traffic.grpc import Grpc
from traffic.http import Http
from traffic.http2 import Http2
from traffic.redis import Redis
from traffic.tcp import Capture, Connection, Faults, interleave
from traffic.tls import Tls
from traffic.websocket import WebSocket

Source = Http | Http2 | Redis | Dns | Grpc | Tls | WebSocket
KINDS: dict[str, type[Source]] = {
    "dns": Dns,
    "grpc": Grpc,
    "http": Http,
    "http2": Http2,
    "redis": Redis,
    "tls": Tls,
    "websocket": WebSocket,
}


@dataclass(slots=True)
class Plan:
    """What to write."""

    kind: str = "http"
    transactions: int = 10_000
    connections: int = 64
    reorder: float = 0.005
    retransmit: float = 0.005
    pipelines: float = (
        0.2  # share of exchanges that are several at once: Redis pipelines, streams of HTTP/2
    )
    seed: int = 1


@dataclass(slots=True)
class Written:
    """What was written."""

    transactions: int
    packets: int
    size: int
    swapped: int
    repeated: int


def generate(plan: Plan, path: Path) -> Written:
    """Write the capture that `plan` asks for."""
    rng = Random(f"{plan.kind} {plan.seed}")
    source = KINDS[plan.kind](rng)
    with path.open("wb") as file:
        capture = Capture(file)
        faults = Faults(rng, capture, plan.reorder, plan.retransmit)
        opened = done = 0
        live: list[Any] = []
        while done < plan.transactions:
            bursts: list[list[bytes]] = []
            while len(live) < plan.connections:
                live.append(opened_by(source, rng, opened))
                bursts.append(live[-1].open())
                opened += 1
            capture.write(interleave(bursts))
            done = one_round(plan, source, live, capture, faults, done)
            over = [c for c in live if c.left <= 0]
            live = [c for c in live if c.left > 0]
            capture.write(interleave([c.close() for c in over]))
        capture.write(interleave([c.close() for c in live]))
        capture.flush()
    return Written(done, capture.packets, capture.size, faults.swapped, faults.repeated)


def opened_by(source: Source, rng: Random, number: int) -> Connection | Socket:
    """The connection of that number."""
    if isinstance(source, Dns):
        return source.connection(number)
    return Connection(rng, number, source.ports)


def one_round(
    plan: Plan,
    source: Source,
    live: list[Any],
    capture: Capture,
    faults: Faults,
    done: int,
) -> int:
    """One exchange on each connection; gives how many transactions are done now."""
    bursts = []
    for connection in live:
        left = plan.transactions - done
        if not left:
            break
        count = 1
        if isinstance(source, Redis | Grpc | Http2) and source.rng.random() < plan.pipelines:
            count = min(left, source.rng.randrange(2, 17))
            bursts.append(source.pipeline(connection, done, count, faults))
        else:
            bursts.append(source.exchange(connection, done, faults))
        connection.left -= count
        done += count
    capture.write(interleave(bursts))
    return done


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--out", type=Path, required=True, help="the pcap file to write")
    parser.add_argument("--transactions", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64, help="open at the same time")
    parser.add_argument("--reorder", type=float, default=0.005, help="share of packets")
    parser.add_argument("--retransmit", type=float, default=0.005, help="share of packets")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    plan = Plan(
        args.kind,
        args.transactions,
        args.connections,
        args.reorder,
        args.retransmit,
        seed=args.seed,
    )
    start = time.perf_counter()
    made = generate(plan, args.out)
    took = time.perf_counter() - start
    sys.stderr.write(
        f"{args.out}: {made.transactions:,} transactions, {made.packets:,} packets, "
        f"{made.size / 1e6:,.1f} MB, {made.swapped:,} out of order, "
        f"{made.repeated:,} retransmitted, in {took:.1f} s\n"
    )


if __name__ == "__main__":
    main()
