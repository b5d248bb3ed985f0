"""What is taken for DNS, and what never is."""

from __future__ import annotations

import struct

import dns.message
import pytest
from dns_kit import MAIL, NONE, WWW, C, S, head, query, reply
from hypothesis import given
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Side, Verdict
from kshark.protocols.dns.identify import place, probe_datagram, probe_stream
from kshark.testing import mutations

NO, MORE, LIKELY, CERTAIN = Verdict.NO, Verdict.MORE, Verdict.LIKELY, Verdict.CERTAIN
QUESTION = WWW[12:]
BIG = reply(WWW, *[f"www.example.com. 1 IN TXT {'x' * 200}{n}" for n in range(40)])


def long(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


@pytest.mark.parametrize(
    "data", [WWW, MAIL, NONE, query("a.b", "HTTPS", use_edns=0, want_dnssec=True)]
)
def test_messages(data: bytes) -> None:
    assert probe_datagram(data, C) == CERTAIN
    assert probe_datagram(reply(data), S) == CERTAIN
    assert probe_datagram(reply(data), C) == LIKELY  # joined late, or multicast
    assert probe_stream(long(data), C) == CERTAIN
    assert probe_stream(long(data) + b"more", C) == CERTAIN


def test_a_stream_is_waited_for() -> None:
    data = long(WWW)
    assert [probe_stream(data[:size], C) for size in range(1, len(data))] == [MORE] * (
        len(data) - 1
    )


def test_more_than_is_shown() -> None:
    assert len(BIG) > limits.PROBE_BYTES
    assert probe_datagram(BIG[: limits.PROBE_BYTES], S) == LIKELY
    assert probe_stream(long(BIG)[: limits.PROBE_BYTES], S) == LIKELY
    assert probe_datagram(BIG[:3_000], S) == NO


NETBIOS = b"\x20" + b"FHEPFCELEHFCEPFFFACACACACACACABL" + b"\0"
OTHERS = {
    "header alone": head(7, 0x0100),
    "a byte too many": WWW + b"\0",
    "a byte too few": WWW[:-1],
    "reserved bit": head(7, 0x0140, 1) + QUESTION,
    "operation 9": head(7, 0x4800, 1) + QUESTION,
    "query with a code": head(7, 0x0103, 1) + QUESTION,
    "query with answers": head(7, 0x0100, 1, 1) + QUESTION + b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04abcd",
    "two questions": head(7, 0x0100, 2) + QUESTION * 2,
    "class 7": head(7, 0x0100, 1) + QUESTION[:-1] + b"\x07",
    "type 0": head(7, 0x0100, 1) + QUESTION[:-4] + b"\0\0\0\x01",
    "a name of control characters": head(7, 0x0100, 1) + b"\x03\x01\x02\x03\0\0\x01\0\x01",
    "address of five bytes": head(7, 0x8180, 1, 1) + QUESTION + b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x05abcde",
    "pointer forwards": head(7, 0x8180, 1, 1) + QUESTION + b"\xc0\xff\0\x01\0\x01\0\0\0\x01\0\x04abcd",
    "edns among the answers": head(7, 0x8180, 1, 1) + QUESTION + b"\0\0)\x10\0\0\0\0\0\0\0",
    "netbios query": head(7, 0x0110, 1) + NETBIOS + b"\0\x20\0\x01",
    "netbios status": head(7, 0x0000, 1) + NETBIOS + b"\0\x21\0\x01",
    "memcached over udp": b"\0\x07\0\0\0\x01\0\0get a\r\n",
    "ntp": bytes.fromhex("e30003fa0001000000010000") + bytes(36),
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(range(190)),
    "quic": bytes.fromhex("c30000000108") + bytes(range(200)),
    "snmp": bytes.fromhex("302602010104067075626c6963a019020401020304020100020100300b300906052b060102010500"),
    "rtp": bytes.fromhex("8000000100000001deadbeef") + bytes(160),
    "dhcp": bytes.fromhex("0101060012345678") + bytes(228) + bytes.fromhex("63825363350101ff"),
    "stun": bytes.fromhex("000100002112a442") + bytes(12),
}  # fmt: skip


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_something_else(data: bytes) -> None:
    assert [probe_datagram(data, side) for side in Side] == [NO, NO]
    assert probe_stream(long(data), C) == NO


@given(st.binary(max_size=600))
def test_random_bytes(data: bytes) -> None:
    assert probe_datagram(data, C) == NO
    assert probe_stream(data, C) in (NO, MORE)


@given(st.binary(min_size=4, max_size=300), st.sampled_from([0, 0x0100, 0x8180, 0x8400]))
def test_random_bytes_behind_a_good_header(data: bytes, flags: int) -> None:
    """Where bytes pass, they are a message in the eyes of dnspython too."""
    message = head(7, flags, 1) + data
    if probe_datagram(message, C) != NO:
        dns.message.from_wire(message)


@given(mutations(WWW))
def test_damaged(data: bytes) -> None:
    assert probe_datagram(data, C) in Verdict
    assert probe_stream(data, C) in Verdict


def test_where_a_message_begins_after_a_hole() -> None:
    rest = WWW[5:]
    assert place(rest + long(MAIL) + long(NONE), C) == len(rest)
    assert place(rest + long(MAIL)[:-3], C) == -1
    assert place(rest, C) == -1
    assert place(rest + long(reply(MAIL)), C) == -1
