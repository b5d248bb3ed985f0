"""Any layer of scapy as a protocol of kshark: for what is rare enough to be slow (half a millisecond a message).

scapy sees whole messages only, so a layer comes with a framer. It is imported at the start: that takes longer than a
dissector may take for a message. Here are DNS, NTP, RADIUS and SNMP, under names of their own; others are given by
``KSHARK_SCAPY``, with blanks between: ``name=module:Layer/udp``, or ``.../tcp2`` (two bytes of length before each).
"""

import logging
import os
from importlib import import_module
from typing import Annotated, Any

from kshark.api import Details, Kind, PluginError, ProtocolSpec, Verdict, doc, hookimpl
from kshark.grammar import Datagram, Grammar, LengthPrefix

BUILT_IN = (
    "scapy-dns=scapy.layers.dns:DNS/udp scapy-dns-tcp=scapy.layers.dns:DNS/tcp2 "
    "scapy-ntp=scapy.layers.ntp:NTPHeader/udp scapy-radius=scapy.layers.radius:Radius/udp "
    "scapy-snmp=scapy.layers.snmp:SNMP/udp"
)
logging.getLogger("scapy.runtime").setLevel(logging.CRITICAL)  # it complains of what peers send
DEPTH = 8  # layers and lists within each other that are shown


class Layer(Details):
    summary: Annotated[str, doc("scapy's summary of the message")] = ""
    fields: Annotated[dict[str, Any], doc("Fields by scapy's names, layer by layer")] = {}


class Parser:
    """What a grammar wants of a struct: `parse`."""

    def __init__(self, module, name, prefix):
        self.prefix, self.layer = prefix, getattr(import_module(module), name)

    def parse(self, raw):
        size = len(raw) - self.prefix
        if not size or (self.prefix and int.from_bytes(raw[: self.prefix], "big") != size):
            raise ValueError("empty, or not whole: scapy would make up the rest")
        try:
            packet = self.layer(raw[self.prefix :])
            if packet.lastlayer().name in ("Raw", "Padding") and packet.lastlayer().load:
                raise ValueError("bytes are left over")
            packet.summary()
        except Exception as error:  # scapy's layers raise whatever their fields do
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return packet


def tree(value, depth=0):
    """A packet as plain values."""
    if hasattr(value, "fields_desc") and depth < DEPTH:
        names = [field.name for field in value.fields_desc]
        found = {name: tree(value.getfieldval(name), depth + 1) for name in names}
        return {**found, **({value.payload.name: tree(value.payload, depth + 1)} if value.payload else {})}
    if isinstance(value, list | tuple) and depth < DEPTH:
        return [tree(item, depth + 1) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, bool | int | float | None) else str(value)


def values(packet):
    return {"summary": packet.summary(), "fields": tree(packet)}


def kind(packet, side):
    """A message that says itself that it answers is believed; else the side decides."""
    answers = getattr(packet, "qr", None)
    return Kind(1 + (side if answers is None else int(answers)))


def layer(name: str, where: str, framing: str) -> ProtocolSpec:
    """The spec of one layer."""
    module, _, attribute = where.partition(":")
    frames = {"udp": Datagram(), "tcp2": LengthPrefix(2), "tcp4": LengthPrefix(4)}
    if framing not in frames or not attribute:
        raise PluginError(f"KSHARK_SCAPY: {name}={where}/{framing}: must be module:Layer/udp, tcp2 or tcp4")
    try:
        parser = Parser(module, attribute, 0 if framing == "udp" else int(framing[3:]))
    except (ImportError, AttributeError) as error:
        raise PluginError(f"KSHARK_SCAPY: {name}={where}: {error}") from None
    rules = {
        "verb": lambda p: p.name.split()[0],
        "target": lambda p: "" if getattr(p, "qr", 0) else p.summary(),
        "values": values,
    }
    grammar = Grammar(
        name, parser, frames[framing], kind=kind, key=lambda p: of(int, getattr(p, "id", None)), compile=False,
        request=Layer, response=Layer, **rules,
    )  # fmt: skip
    return grammar.spec(doc=f"{attribute} by scapy", probe=lambda data, side: probe(grammar, data, side))


def of(kind, value):
    return value if isinstance(value, kind) else None


def probe(grammar, data, side):
    """scapy parses nearly anything: only a message that it builds again to the same bytes is likely."""
    if grammar.probe(data, side) != Verdict.LIKELY:
        return grammar.probe(data, side)
    size = grammar.frame.size(data, 0)
    packet, prefix = grammar.parse(data[:size], side), grammar.structs[0].prefix
    return Verdict.LIKELY if bytes(packet.copy()) == data[prefix:size] else Verdict.NO


@hookimpl
def register_protocols():
    wanted = f"{BUILT_IN} {os.environ.get('KSHARK_SCAPY', '')}".split()
    parts = (one.replace("/", "=").split("=") for one in wanted)
    return [layer(*part) if len(part) == 3 else layer(part[0], "", "") for part in parts]
