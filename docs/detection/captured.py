"""What the flows of the corpora are by tshark, and what kshark took them for.

tshark's word for a flow is the lowest layer above TCP or UDP in its frames; where it knows no flow of a capture, the
path tells, as far as it holds one of `WORDS`. tshark goes by ports where nothing else helps, so its word is an opinion.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kshark.api import Entry, ProtocolSpec
from kshark.backends.pcap import read_blocks
from kshark.engine import Engine, EngineSettings

KINDS: Final = ("pcap", "pcapng", "trace")
FIELDS: Final = (
    "frame.protocols", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "tcp.srcport", "udp.srcport", "tcp.dstport",
    "udp.dstport",
)  # fmt: skip
OURS: Final = {"resp": "redis", "mdns": "dns", "llmnr": "dns", "ssl": "tls"}
"""tshark's names for what we call otherwise."""
NOTHING: Final = frozenset({"data", "malformed", "tcp.segments", "segments"})
"""Layers that say nothing of the protocol."""
WORDS: Final = {
    **dict.fromkeys(("h2c", "httpv2", "http2", "grpc"), "http2"),
    **{
        name: name
        for name in (
            "amqp", "bittorrent", "brpc", "cassandra", "dns", "dubbo", "fastcgi", "http", "kafka", "memcached", "mongo",
            "mqtt", "mysql", "nats", "openwire", "oracle", "postgres", "pulsar", "redis", "rocketmq", "smtp", "sofarpc",
            "thrift", "tls", "zmtp",
        )
    },
}  # fmt: skip
"""Words in the paths of captures, and the protocol that each means; the first that is there counts."""
LEFT: Final = "left alone"
UNKNOWN: Final = "not known"

Ends = tuple[str, frozenset[str]]


@dataclass(slots=True)
class Judged:
    """A flow with both opinions."""

    capture: str
    ends: Ends
    theirs: str  # one protocol, or UNKNOWN
    ours: str  # one protocol, or LEFT
    layers: frozenset[str] = field(default_factory=frozenset)  # all that tshark saw in it
    reason: str = ""


def captures(corpora: Path) -> list[Path]:
    return sorted(path for kind in KINDS for path in corpora.rglob(f"*.{kind}"))


def judged(corpora: Path, path: Path, specs: Sequence[ProtocolSpec]) -> Iterator[Judged]:
    """Every flow of a capture that has a payload."""
    name = path.relative_to(corpora).as_posix()
    theirs = opinions(path)
    carriers = {spec.name: spec.over[0] for spec in specs if spec.layer is not None}
    for ends, entries in flows(path, specs).items():
        said = theirs.get(ends, [])
        fallback = UNKNOWN if theirs else named(name)
        lowest = OURS.get(said[0], said[0]) if said else fallback
        layers = frozenset(OURS.get(one, one) for one in said) | {lowest}
        own = [entry.protocol for entry in entries if entry.protocol != entry.flow.transport]
        taken = [carriers.get(one, one) for one in own]
        ours = next(iter(Counter(p for p in taken if p not in layers)), "") or (
            lowest if taken else LEFT
        )
        yield Judged(name, ends, lowest, ours, layers, entries[0].flow.reason)


def named(name: str) -> str:
    """What a capture's path says of its flows."""
    return next((kind for word, kind in WORDS.items() if word in name.lower()), UNKNOWN)


def flows(path: Path, specs: Sequence[ProtocolSpec]) -> dict[Ends, list[Entry]]:
    """kshark's entries by flow, without the flows that carry nothing."""
    engine = Engine(specs, EngineSettings())
    found: dict[Ends, list[Entry]] = {}
    batches = [engine.feed(block) for block in read_blocks(str(path))]
    for entry in (entry for batch in (*batches, engine.finish()) for entry in batch):
        flow = entry.flow
        if flow.transport in ("tcp", "udp") and flow.reason != "no payload":
            ends = frozenset(f"{end.ip} {end.port}" for end in (flow.client, flow.server))
            found.setdefault((flow.transport, ends), []).append(entry)
    return found


def opinions(path: Path) -> dict[Ends, list[str]]:
    """tshark's layers above the transport of each flow, the lowest of the first frame first."""
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-Y",
        "tcp or udp",
        "-d",
        "tcp.port==27017,mongo",  # which it takes for TLS
        "-T",
        "fields",
        "-E",
        "separator=/t",
    ]
    command += [part for one in FIELDS for part in ("-e", one)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[Ends, list[str]] = {}
    for line in done.stdout.splitlines():
        cells = [cell.split(",")[-1] for cell in line.split("\t")]
        layers = line.split("\t")[0].split(":")
        transport = next((one for one in reversed(layers) if one in ("tcp", "udp")), "")
        ends = (transport, frozenset((end(cells, 1), end(cells, 3))))
        above = layers[len(layers) - layers[::-1].index(transport) :] if transport else []
        kept = found.setdefault(ends, [])
        kept += [one for one in above if one not in NOTHING and one not in kept]
    return {ends: layers for ends, layers in found.items() if layers}


def end(cells: Sequence[str], at: int) -> str:
    """Address and port of one end; `at`: its addresses begin there."""
    port = 5 if at == 1 else 7
    return f"{cells[at] or cells[at + 1]} {cells[port] or cells[port + 1]}"
