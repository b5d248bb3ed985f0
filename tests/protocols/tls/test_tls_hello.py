"""Hellos: read whatever comes, and their fingerprints, held to values that others published."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_kit import V12, V13, conversation

from kshark import limits
from kshark.api import Kind, Message
from kshark.protocols.tls import hello as hellos
from kshark.protocols.tls.certificates import chain, described
from kshark.protocols.tls.details import details, identities
from kshark.protocols.tls.ending import Ending
from kshark.protocols.tls.fingerprint import ja3_text, ja4, md5
from kshark.protocols.tls.hello import Hello

READERS = [
    hellos.client_hello, hellos.server_hello, hellos.encrypted_extensions, hellos.ssl2_hello,
    hellos.ssl2_server_hello,
]  # fmt: skip


def block(*extensions: tuple[int, bytes]) -> tuple[tuple[int, bytes], ...]:
    return extensions


def words(*numbers: int) -> bytes:
    return struct.pack(f">H{len(numbers)}H", 2 * len(numbers), *numbers)


def test_the_fingerprint_of_the_authors_of_ja4() -> None:
    """The example of FoxIO's description: Chrome on Windows, t13d1516h2_8daaf6152771_e5627efa2ab1."""
    ciphers = (
        0x1A1A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013,
        0xC014, 0x009C, 0x009D, 0x002F, 0x0035,
    )  # fmt: skip
    extensions = block(
        (0x2A2A, b""), (0x001B, b""), (0x0000, b""), (0x0033, b""), (0x0010, b"\0\3\2h2"), (0x4469, b""),
        (0x0017, b""), (0x002D, b""), (0x000D, words(0x403, 0x804, 0x401, 0x503, 0x805, 0x501, 0x806, 0x601)),
        (0x0005, b""), (0x0023, b""), (0x0012, b""), (0x002B, b"\x03\x3a\x3a\x03\x04"[:1] + b"\x3a\x3a\x03\x04"[:3]),
        (0xFF01, b""), (0x000B, b""), (0x000A, b""), (0x0015, b""),
    )  # fmt: skip
    found = Hello(version=0x0303, ciphers=ciphers, extensions=extensions)
    found.extensions = tuple(
        (kind, b"\x04\x3a\x3a\x03\x04" if kind == 43 else data) for kind, data in extensions
    )
    assert ja4(found) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_the_fingerprint_of_the_authors_of_ja3() -> None:
    """The example of Salesforce's README, with GREASE around."""
    text = "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0"
    ciphers = (0x0A0A, 47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4)
    extensions = block(
        (0x0A0A, b""), (0, b""), (10, words(0x1A1A, 23, 24, 25)), (11, b"\x01\x00"), (0x2A2A, b"\0")
    )
    found = Hello(version=769, ciphers=ciphers, extensions=extensions)
    assert ja3_text(found) == text
    assert md5(text) == "ada70206e40642a3e4461f35503241d5"


@pytest.mark.parametrize(
    ("alpn", "ends"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"", "00"),
    ],
)
def test_the_ends_of_a_protocol_in_ja4(alpn: bytes, ends: str) -> None:
    listed = bytes([0, len(alpn) + 1, len(alpn)]) + alpn
    assert (
        ja4(Hello(version=0x0303, extensions=((16, listed),)))
        == f"t12i0001{ends}_{'0' * 12}_{'0' * 12}"
    )


def test_the_shortest_hellos() -> None:
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"
    found = hellos.client_hello(b"\1" + len(body).to_bytes(3, "big") + body)
    assert (found.problem, found.ciphers, found.server_name, found.best) == (
        "",
        (0x1301,),
        "",
        0x303,
    )
    assert hellos.client_hello(b"\1\0\0\1" + body[:-1]).problem == "cut"


def test_a_draft_of_13_has_no_session_id() -> None:
    body = b"\x7f\x12" + bytes(32) + b"\x13\x01" + b"\0\0"
    found = hellos.server_hello(b"\2" + len(body).to_bytes(3, "big") + body)
    assert (found.problem, found.chosen, found.ciphers) == ("", 0x7F12, (0x1301,))


@given(st.sampled_from(READERS), st.binary(max_size=400))
def test_any_bytes_are_read(reader: object, data: bytes) -> None:
    found = reader(data)  # type: ignore[operator]
    ja3_text(found)
    ja4(found)
    assert isinstance(found.server_name, str)


@given(st.integers(0, 1), st.integers(0, 2000), st.binary(min_size=1, max_size=3), st.booleans())
def test_damaged_hellos_have_details(which: int, at: int, bad: bytes, cut: bool) -> None:
    for kind, number in ((Kind.REQUEST, 0), (Kind.RESPONSE, 1)):
        data = conversation_of(which)[number]
        at %= len(data)
        data = data[:at] if cut else data[:at] + bad + data[at + len(bad) :]
        details(Message(kind, head=data, body=data, extra=Ending(tls13=bool(which))))


_KEPT: dict[int, list[bytes]] = {}


def conversation_of(which: int) -> list[bytes]:
    """The two flights of a handshake without the heads of records."""
    if which not in _KEPT:
        talk = conversation((V12, V13)[which])
        _KEPT[which] = [talk[0][1][5:], b"".join(r for r in messages(talk[1][1]))]
    return _KEPT[which]


def messages(data: bytes) -> list[bytes]:
    found = []
    while data and data[0] == 22:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[5:size])
        data = data[size:]
    return found


def test_lists_are_bounded() -> None:
    many = tuple(range(0x8000, 0x8000 + 5000))
    body = b"\3\3" + bytes(32) + b"\0" + words(*many) + b"\1\0"
    message = b"\1" + len(body).to_bytes(3, "big") + body
    assert len(details(Message(Kind.REQUEST, head=message)).ciphers) == limits.TLS_LIST  # type: ignore[attr-defined]


def test_certificates_are_bounded() -> None:
    one = b"\0\0\1x"
    listed = (len(one) * 50).to_bytes(3, "big") + one * 50
    message = b"\x0b" + len(listed).to_bytes(3, "big") + listed
    assert chain(message, False) == [b"x"] * limits.TLS_CERTIFICATES
    notes: list[str] = []
    assert described(b"x", notes).subject == ""
    assert notes == ["a certificate cannot be read: ValueError"]


def test_names_of_a_certificate_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_NAMES", 1)
    talk = conversation(V12)
    [message] = [one for one in messages(talk[1][1]) if one[0] == 11]
    found = described(chain(message, False)[0], [])
    assert found.names == ["api.example"]


def test_identities_are_counted() -> None:
    one = b"\0\3abc" + bytes(4)
    assert identities((2 * len(one)).to_bytes(2, "big") + one * 2 + b"\0\x21") == 2
    assert identities(b"") == 0
