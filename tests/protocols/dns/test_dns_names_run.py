"""A run names the servers that its clients asked for: rows, filters, the terminal, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dns_kit import query, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

import kshark
from kshark.cli import main

POD, OTHER, RESOLVER, SITE = "10.0.0.5", "10.0.0.6", "10.96.0.10", "192.0.2.1"


def packet(source: str, target: str, layer: Packet, data: bytes = b"") -> Packet:
    made = Ether() / IP(src=source, dst=target) / layer
    return made / Raw(data) if data else made


def asks(client: str) -> list[Packet]:
    asked = query("API.Example.com.")
    answer = reply(
        asked, "api.example.com. 60 IN CNAME web.example.net.", f"web.example.net. 60 IN A {SITE}"
    )
    return [
        packet(client, RESOLVER, UDP(sport=4_000, dport=53), asked),
        packet(RESOLVER, client, UDP(sport=53, dport=4_000), answer),
    ]


def calls(client: str, data: bytes, answer: bytes) -> list[Packet]:
    def there(flags: str, seq: int, ack: int, data: bytes = b"") -> Packet:
        layer = TCP(sport=5_000, dport=443, flags=flags, seq=seq, ack=ack)
        return packet(client, SITE, layer, data)

    def back(flags: str, seq: int, ack: int, data: bytes = b"") -> Packet:
        layer = TCP(sport=443, dport=5_000, flags=flags, seq=seq, ack=ack)
        return packet(SITE, client, layer, data)

    return [
        there("S", 1, 0),
        back("SA", 1, 2),
        there("PA", 2, 2, data),
        back("PA", 2, 2 + len(data), answer),
    ]


@pytest.fixture
def capture(tmp_path: Path) -> str:
    """A pod asks and connects, another connects without asking; a third's bytes nobody knows."""
    web = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    third = "10.0.0.7"
    packets = [
        *asks(POD), *calls(POD, *web), *calls(OTHER, *web), *asks(third), *calls(third, b"\x16\3\1", b"\0\0\0")
    ]  # fmt: skip
    for at, one in enumerate(packets):
        one.time = 1_700_000_000 + at / 1000
    wrpcap(str(tmp_path / "x.pcap"), packets)
    return str(tmp_path / "x.pcap")


def test_servers_have_the_names_that_their_clients_asked_for(capture: str) -> None:
    found = {e.src.ip: (e.protocol, e.dst.dns) for e in kshark.read(capture) if e.protocol != "dns"}
    assert found == {
        POD: ("http", "api.example.com"),
        OTHER: ("http", None),
        "10.0.0.7": (found["10.0.0.7"][0], "api.example.com"),
    }


def test_filters_know_it(capture: str) -> None:
    found = list(kshark.read(capture, filter='http && dst.dns.endsWith(".example.com")'))
    assert [entry.src.ip for entry in found] == [POD]
    assert [entry.src.ip for entry in kshark.read(capture, filter="http && !has(dst.dns)")] == [
        OTHER
    ]


def test_what_is_shown(capture: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-q", "--read", capture]) == 0
    assert f" {POD} -> api.example.com:443 " in capfd.readouterr().out
    assert main(["run", "-q", "--read", capture, "--sink", "jsonl:-"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    [row] = [row for row in rows if row["src"]["ip"] == POD and row["protocol"] == "http"]
    assert row["dst"] == {"ip": SITE, "port": 443, "name": None, "dns": "api.example.com"}
