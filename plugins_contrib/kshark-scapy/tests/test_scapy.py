import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from kshark.api import PluginError, Side
from kshark.testing import assert_dissector, converse, rows
from kshark_scapy import register_protocols

SPECS = {spec.name: spec for spec in register_protocols()}
ASK = bytes(DNS(id=7, qd=[DNSQR(qname="example.com")]))
ANSWER = bytes(DNS(id=7, qr=1, qd=[DNSQR(qname="example.com")], an=[DNSRR(rrname="example.com", rdata="1.2.3.4")]))
TALK = [(Side.CLIENT, ASK), (Side.SERVER, ANSWER)]


def test_dns_as_datagrams():
    assert_dissector(SPECS["scapy-dns"], TALK, examples=5, fuzz=2_000)
    [entry] = converse(SPECS["scapy-dns"], TALK)
    details = SPECS["scapy-dns"].details(entry.response)
    assert details.fields["an"][0]["rdata"] == "1.2.3.4"
    assert rows([entry])[0].startswith("DNS DNS Qry")


def test_dns_over_tcp():
    talk = [(side, len(data).to_bytes(2, "big") + data) for side, data in TALK]
    assert_dissector(SPECS["scapy-dns-tcp"], talk, examples=3, fuzz=500, skip=["memory", "time"])


def test_others_are_named_in_the_environment(monkeypatch):
    monkeypatch.setenv("KSHARK_SCAPY", "tftp=scapy.layers.tftp:TFTP/udp")
    assert register_protocols()[-1].name == "tftp"
    for wrong, told in (
        ("tftp", "must be module:Layer/udp"),
        ("x=scapy.all:Nothing/udp", "Nothing"),
        ("x=no:A/udp", "'no'"),
    ):
        monkeypatch.setenv("KSHARK_SCAPY", wrong)
        with pytest.raises(PluginError, match=told):
            register_protocols()
