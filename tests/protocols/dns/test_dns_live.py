"""A real server, asked by dig through a relay that records: what dig shows is what is dissected."""

from __future__ import annotations

import subprocess

import pytest
from dns_server import Relay, program

from kshark.api import Entry
from kshark.protocols.dns import DATAGRAMS, SPEC
from kshark.protocols.dns.details import details
from kshark.testing import converse, rows

BOTH = pytest.mark.parametrize("transport", ["udp", "tcp"])


def dig(relay: Relay, *words: str) -> str:
    command = [program("dig"), "@127.0.0.1", "-p", str(relay.port), "+tries=1", "+time=5", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def heard(relay: Relay, transport: str) -> list[Entry]:
    spec = SPEC if transport == "tcp" else DATAGRAMS
    return [entry for talk in relay.talks[transport] for entry in converse(spec, talk)]


ASKED = {
    ("www.test", "A"): ["192.0.2.10"],
    ("www.test", "AAAA"): ["2001:db8::10"],
    ("alias.test", "CNAME"): ["www.test."],
    ("mail.test", "MX"): ["10 mx.test."],
    ("text.test", "TXT"): ['"v=spf1 -all" "second"'],
    ("_http._tcp.test", "SRV"): ["5 6 80 www.test."],
    ("naptr.test", "NAPTR"): ['100 10 "S" "SIP+D2U" "" _sip._udp.test.'],
    ("caa.test", "CAA"): ['0 issue "ca.test"'],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["www.test."],
}


@BOTH
def test_what_dig_shows(relay: Relay, transport: str) -> None:
    flag = "+tcp" if transport == "tcp" else "+notcp"
    for name, kind in ASKED:
        shown = dig(relay, flag, "+short", name, kind).splitlines()
        entry = heard(relay, transport)[-1]
        assert rows([entry]) == [f"{kind} {name} -> {kind} [ok]"]
        assert entry.response is not None
        found = details(entry.response)
        ours = sorted(record.data for record in found.answers)
        assert ours == sorted(line.removesuffix(".") for line in shown)
        assert found.notes == []


@BOTH
def test_the_list_of_answers_is_right(relay: Relay, transport: str) -> None:
    """dig is told, too: the server says what its file says."""
    flag = "+tcp" if transport == "tcp" else "+notcp"
    for (name, kind), wanted in ASKED.items():
        assert dig(relay, flag, "+short", name, kind).splitlines() == wanted


@BOTH
def test_errors(relay: Relay, transport: str) -> None:
    flag = "+tcp" if transport == "tcp" else "+notcp"
    dig(relay, flag, "none.test", "A")
    dig(relay, flag, "www.example.com", "A")
    found = heard(relay, transport)
    assert rows(found) == [
        "A none.test -> A 3 NXDOMAIN [error]",
        "A www.example.com -> A 5 REFUSED [error]",
    ]


@BOTH
def test_edns_of_dig(relay: Relay, transport: str) -> None:
    flag = "+tcp" if transport == "tcp" else "+notcp"
    dig(
        relay,
        flag,
        "+dnssec",
        "+subnet=192.0.2.0/24",
        "+nsid",
        "+cookie=0102030405060708",
        "www.test",
    )
    [entry] = heard(relay, transport)
    assert entry.request is not None
    found = details(entry.request).edns
    assert found is not None
    assert (found.version, found.dnssec) == (0, True)
    options = dict(found.options)
    assert (options["ecs"], options["cookie"], options["nsid"]) == (
        "192.0.2.0/24/0",
        "0102030405060708",
        "",
    )


def test_several_on_one_connection(relay: Relay) -> None:
    dig(relay, "+tcp", "+keepopen", "www.test", "A", "+tcp", "+keepopen", "mail.test", "MX")
    found = heard(relay, "tcp")
    assert rows(found) == ["A www.test -> A [ok]", "MX mail.test -> MX [ok]"]
    assert len(relay.talks["tcp"]) == 1
