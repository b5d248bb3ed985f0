"""DNS over UDP and TCP, EDNS, multicast DNS; and the names of addresses that clients got by it."""

from __future__ import annotations

from msgspec.structs import replace

from kshark.api import EnricherSpec, ProtocolSpec, hookimpl

from .details import DnsMessage, details
from .dissector import DnsDatagrams, DnsStream
from .identify import probe_datagram, probe_stream
from .namer import NAMER

STREAM = ProtocolSpec(
    name="dns",
    dissector=DnsStream,
    doc="DNS queries, notifications, updates and zone transfers; EDNS; multicast DNS",
    ports=(53, 5353, 5355),
    probe=probe_stream,
    request=DnsMessage,
    response=DnsMessage,
    details=details,
)
DATAGRAMS = replace(STREAM, transport="udp", dissector=DnsDatagrams, probe=probe_datagram)
SPEC = replace(STREAM, also=(DATAGRAMS,))


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    return [NAMER]
