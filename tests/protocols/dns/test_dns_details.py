"""Details against dnspython, on messages that it makes; and what bounds them."""

from __future__ import annotations

import base64
from typing import Any

import dns.edns
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from dns_kit import MAIL, WWW, head, query, reply
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.api import DissectError, Kind, Message
from kshark.protocols.dns.details import DnsMessage, DnsRecord, described, details
from kshark.protocols.dns.names import Names, skip
from kshark.protocols.dns.rdata import rdata
from kshark.redact import Redactor

HASH = "a" * 40
KEY = base64.b64encode(bytes(range(64))).decode()
DATA = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "CNAME": "web.example.com.",
    "NS": "ns1.example.com.",
    "PTR": "host.example.com.",
    "DNAME": "example.net.",
    "SOA": "ns.example.com. me.example.com. 2024010100 7200 3600 1209600 300",
    "MX": "10 mail.example.com.",
    "AFSDB": "1 afs.example.com.",
    "KX": "1 kx.example.com.",
    "RP": "me.example.com. txt.example.com.",
    "TXT": '"v=spf1 -all" "a \\"quoted\\" \\\\ one" "\\195\\164"',
    "SPF": '"v=spf1"',
    "HINFO": '"CPU" "OS"',
    "SRV": "10 60 5060 sip.example.com.",
    "NAPTR": '100 10 "S" "SIP+D2U" "!^.*$!sip:a@example.com!" _sip._udp.example.com.',
    "CAA": '0 issue "letsencrypt.org"',
    "DS": f"12345 8 2 {'ab' * 32}",
    "CDS": f"12345 8 2 {'ab' * 32}",
    "DNSKEY": f"257 3 13 {KEY}",
    "CDNSKEY": f"257 3 13 {KEY}",
    "RRSIG": f"A 13 2 3600 20240101000000 20231201000000 12345 example.com. {KEY}",
    "NSEC": "b.example.com. A NS SOA MX TXT RRSIG NSEC DNSKEY CAA TYPE1234",
    "NSEC3": "1 1 10 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr NS SOA RRSIG",
    "NSEC3PARAM": "1 0 10 -",
    "TLSA": f"3 1 1 {'cd' * 32}",
    "SMIMEA": f"3 1 1 {'cd' * 32}",
    "SSHFP": f"4 2 {'ef' * 32}",
    "OPENPGPKEY": KEY,
    "URI": '10 1 "https://example.com/"',
    "SVCB": '1 svc.example.com. mandatory="alpn,port" alpn="h2,h3" no-default-alpn port="8443"',
    "HTTPS": '1 . alpn="h3,h2" ipv4hint="192.0.2.1,192.0.2.2" ech="AAT+DQAA" ipv6hint="2001:db8::1"',
    "EUI48": "00-11-22-33-44-55",
    "EUI64": "00-11-22-33-44-55-66-77",
    "CSYNC": "66 3 A NS AAAA",
    "ZONEMD": f"2018031500 1 1 {'ab' * 48}",
    "WKS": "192.0.2.1 6 0 25 80 443",
    "LOC": "42 21 54.005 N 71 6 18.000 W -24.50m 30.00m 10000.00m 5.00m",
    "APL": "1:192.0.2.0/24 !1:192.0.2.128/25 2:ff00::/8 !2:2001:db8::1/128 1:0.0.0.0/0",
    "IPSECKEY": f"10 1 2 192.0.2.38 {KEY}",
    "HIP": f"2 200100107b1a74df365639cc39f1d578 {KEY} rvs1.example.com. rvs2.example.com.",
    "TYPE65400": "\\# 4 01020304",
}


def plain(text: str) -> str:
    """Names without the last dot, base64 without spaces: as we write them."""
    words = [
        word[:-1] if word.endswith(".") and len(word) > 1 else word for word in text.split(" ")
    ]
    return " ".join(words)


KEYS = {"DNSKEY": 3, "CDNSKEY": 3, "RRSIG": 8, "OPENPGPKEY": 0, "IPSECKEY": 4}
DIGESTS = {"DS": 3, "CDS": 3, "TLSA": 3, "SMIMEA": 3, "SSHFP": 2, "ZONEMD": 3}
FIXED = KEYS | DIGESTS
"""Words before what dnspython writes in pieces."""


def theirs(kind: str, text: str) -> str:
    """What dnspython makes of what it reads."""
    return joined(kind, dns.rdata.from_text("IN", kind, text).to_text())


def joined(kind: str, text: str) -> str:
    """Its text as we write it."""
    words = text.split(" ")
    fixed = FIXED.get(kind, len(words))
    rest = ["".join(words[fixed:])] if words[fixed:] else []
    return plain(" ".join([*words[:fixed], *rest])).strip()


@pytest.mark.parametrize("kind", DATA)
def test_types(kind: str) -> None:
    data = reply(query("www.example.com.", kind), f"www.example.com. 60 IN {kind} {DATA[kind]}")
    [record] = described(data).answers
    assert (record.name, record.type, record.rclass, record.ttl) == (
        "www.example.com",
        kind,
        "IN",
        60,
    )
    assert record.data == theirs(kind, DATA[kind])


RARE = {
    "WKS": ["192.0.2.1 17 53", "192.0.2.1 6"],
    "LOC": [
        "52 22 23.000 N 4 53 32.000 E -2.00m",
        "0 0 0.000 N 0 0 0.000 E 0.00m 0.00m 0.00m 0.00m",
    ],
    "APL": ["", "3:ab01/7", "2:2001:db8:1:2:3:4:5:6/64"],
    "IPSECKEY": [f"0 0 0 . {KEY}", f"10 2 2 2001:db8::1 {KEY}", f"10 3 2 gw.example.com. {KEY}"],
    "HIP": [f"2 20 {KEY}"],
}


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in RARE for text in RARE[k]])
def test_forms_of_rare_types(kind: str, text: str) -> None:
    data = dns.rdata.from_text("IN", kind, text)
    raw = data.to_wire()
    assert raw is not None
    assert rdata(Names(raw), dns.rdatatype.from_text(kind), 0, len(raw)) == joined(
        kind, data.to_text()
    )


@settings(max_examples=500)
@given(st.sampled_from(sorted(RARE)), st.binary(min_size=1, max_size=40))
def test_whatever_a_rare_type_holds(kind: str, raw: bytes) -> None:
    """What dnspython takes, we show as it does; what it refuses is shown as hex digits, or not worse."""
    number = dns.rdatatype.from_text(kind)
    ours = rdata(Names(raw), number, 0, len(raw))
    try:
        shown = joined(kind, dns.rdata.from_wire("IN", number, raw, 0, len(raw)).to_text())
    except Exception:
        shown = f"\\# {len(raw)} {raw.hex()}"
    assert ours == shown


labels = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=20)
names = st.lists(labels, min_size=1, max_size=6).map(lambda found: ".".join(found) + ".")
addresses = st.ip_addresses().map(str)


@st.composite
def replies(draw: Any) -> bytes:
    """An answer with many names in common, which are compressed."""
    name = draw(names)
    made = dns.message.make_response(
        dns.message.make_query(name, "A", id=draw(st.integers(0, 65535)))
    )
    for section in (made.answer, made.authority, made.additional):
        for _ in range(draw(st.integers(0, 3))):
            owner = draw(st.sampled_from([name, "x." + name, "other." + name]))
            address = draw(addresses)
            kind = "AAAA" if ":" in address else "A"
            text = draw(
                st.sampled_from([(kind, address), ("MX", f"5 mx.{name}"), ("NS", f"ns.{name}")])
            )
            section.append(dns.rrset.from_text(owner, draw(st.integers(0, 2**31 - 1)), "IN", *text))
    if draw(st.booleans()):
        made.use_edns(0, payload=draw(st.integers(512, 65535)))
    return made.to_wire(max_size=65_535)


@settings(deadline=None)
@given(replies())
def test_generated_messages(data: bytes) -> None:
    parsed, ours = dns.message.from_wire(data, one_rr_per_rrset=True), described(data)
    assert ours.notes == []
    assert (ours.id, ours.rcode, ours.name) == (
        parsed.id,
        "NOERROR",
        plain(str(parsed.question[0].name)),
    )
    for theirs_, section in (
        (parsed.answer, ours.answers),
        (parsed.authority, ours.authority),
        (parsed.additional, ours.additional),
    ):
        assert [
            (
                plain(str(rrset.name)),
                dns.rdatatype.to_text(rrset.rdtype),
                rrset.ttl,
                plain(str(rrset[0])),
            )
            for rrset in theirs_
        ] == [(r.name, r.type, r.ttl, r.data) for r in section]
    assert (ours.edns.size if ours.edns else -1) == (parsed.payload if parsed.edns >= 0 else -1)


def test_edns() -> None:
    options = [
        dns.edns.ECSOption("192.0.2.0", 24),
        dns.edns.GenericOption(dns.edns.OptionType(10), b"\1\2\3\4\5\6\7\x08"),
        dns.edns.EDEOption(dns.edns.EDECode(15), "ads"),
        dns.edns.NSIDOption(b"ns1"),
        dns.edns.GenericOption(dns.edns.OptionType(12), bytes(5)),
        dns.edns.GenericOption(dns.edns.OptionType(65001), b"\xff"),
    ]
    asked = dns.message.make_query(
        "a.example", "A", use_edns=0, payload=1232, want_dnssec=True, options=options
    )
    found = described(asked.to_wire()).edns
    assert found is not None
    assert (found.version, found.size, found.dnssec) == (0, 1232, True)
    assert found.options == [
        ("ecs", "192.0.2.0/24/0"),
        ("cookie", "0102030405060708"),
        ("ede", "15 Blocked: ads"),
        ("nsid", "ns1"),
        ("padding", "5 bytes"),
        ("opt65001", "ff"),
    ]


def test_flags_and_first_question() -> None:
    found = described(reply(WWW, "www.example.com. 60 IN A 192.0.2.1", rcode=3))
    assert (found.rcode, found.opcode, found.type, found.rclass) == ("NXDOMAIN", "QUERY", "A", "IN")
    assert found.addresses == ["192.0.2.1"]
    assert found.flags is not None
    assert (found.flags.rd, found.flags.ra, found.flags.aa, found.flags.tc) == (
        True,
        True,
        False,
        False,
    )


def test_multicast_bits() -> None:
    name = b"\x01a\x05local\0"
    asked = described(head(0, 0, 1) + name + b"\0\x01\x80\x01").questions[0]
    assert (asked.rclass, asked.unicast) == ("IN", True)
    told = head(0, 0x8400, 0, 1) + name + b"\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x01"
    [record] = described(told).answers
    assert (record.rclass, record.flush, record.data) == ("IN", True, "192.0.2.1")


# ---------------------------------------------------------------- hostile

QUESTION = WWW[12:]
TXT = b"\xc0\x0c\0\x10\0\x01\0\0\0\x01"


def test_what_is_cut_is_said() -> None:
    data = reply(MAIL, "example.com. 60 IN MX 10 a.example.com.")
    found = described(data[:-4])
    assert found.notes == ["record beyond the end of the message"]
    assert described(data + b"xx").notes == ["2 bytes after the last record"]
    assert described(data[:5]).notes == ["message shorter than its header"]


def test_data_that_are_not_what_their_type_says() -> None:
    record = b"\xc0\x0c\0\x0f\0\x01\0\0\0\x01\0\x03\0\x05\x3f"
    [found] = described(head(7, 0x8180, 1, 1) + QUESTION + record).answers
    assert (found.type, found.data) == ("MX", "\\# 3 00053f")


@pytest.mark.parametrize(
    "name", [b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xff\xff"], ids=repr
)
def test_pointers_in_a_circle(name: bytes) -> None:
    with pytest.raises(DissectError, match="forwards"):
        Names(head() + name).read(12)
    with pytest.raises(DissectError, match="forwards"):
        skip(head() + name, 12)


def test_a_chain_of_pointers_is_bounded() -> None:
    """DNS_JUMPS fires; each pointer leads to the one before it."""
    chain = b"\0\0" + b"".join(bytes((0xC0 | at >> 8, at & 255)) for at in range(0, 400, 2))
    assert Names(chain).read(2 * limits.DNS_JUMPS)[0] == "."
    with pytest.raises(DissectError, match=f"more than {limits.DNS_JUMPS} pointers"):
        Names(chain).read(2 * limits.DNS_JUMPS + 2)


def test_a_name_is_bounded() -> None:
    """DNS_NAME fires, by pointers as well."""
    name = (b"\x3f" + b"a" * 63) * 3
    assert len(Names(name + b"\x3d" + b"b" * 61 + b"\0").read(0)[0]) == 253
    with pytest.raises(DissectError, match="name over 255"):
        Names(name + b"\x3e" + b"b" * 62 + b"\0").read(0)
    with pytest.raises(DissectError, match="name over 255"):
        Names(name + b"\0" + b"\x3f" + b"c" * 63 + b"\xc0\0").read(len(name) + 1)
    with pytest.raises(DissectError, match="name over 255"):
        skip(name * 2, 0)


def test_a_bomb_of_compressed_names() -> None:
    """64 KiB of records, each of which stands for a name of 255 bytes: DNS_RECORDS of them are shown."""
    name = (b"\x3f" + b"a" * 63) * 3 + b"\0"
    record = b"\xc0\x0c\0\x02\0\x01\0\0\0\x01\0\x02\xc0\x0c"
    count = 4_000
    found = described(head(7, 0x8180, 1, count) + name + b"\0\x02\0\x01" + record * count)
    assert len(found.answers) == limits.DNS_RECORDS - 1  # and the question
    assert found.notes == [f"more than {limits.DNS_RECORDS} records"]


def test_long_data_are_cut() -> None:
    """DNS_VALUE fires."""
    for record in (TXT + (60_000).to_bytes(2, "big") + b"\xf9" + b"x" * 249 + (b"\xf9" + b"y" * 249) * 239,
                   TXT[:3] + b"\xfe" + TXT[4:] + (60_000).to_bytes(2, "big") + bytes(60_000)):  # fmt: skip
        [found] = described(head(7, 0x8180, 1, 1) + QUESTION + record).answers
        assert len(found.data) == limits.DNS_VALUE
        assert found.data.endswith("…")


@given(st.binary(max_size=300))
def test_whatever_comes(data: bytes) -> None:
    assert isinstance(described(head(7, 0x8180, 1, 2, 1, 1) + data), DnsMessage)
    assert isinstance(details(Message(Kind.REQUEST, head=data)), DnsMessage)


def test_secrets_in_texts_are_hidden() -> None:
    """Of a TXT record; a key that is public, and what has no names, stays."""
    data = [
        '"v=1" "api_token=hunter2"',
        '"v=DKIM1; k=rsa; p=MIGfMA0G"',
        "2001:db8::1",
        "abcdefghijkl",
    ]
    found = DnsMessage(answers=[DnsRecord(data=one) for one in data])
    shown = Redactor().apply(found)
    assert isinstance(shown, DnsMessage)
    assert [one.data for one in shown.answers] == ['"v=1" "api_token=REDACTED"', *data[1:]]
