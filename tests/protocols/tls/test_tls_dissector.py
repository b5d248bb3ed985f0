"""Handshakes without secrets: of real ends that agree, refuse, resume and ask back; and what is no TLS."""

from __future__ import annotations

import ssl
import struct

import pytest
from tls_kit import (
    ANSWER,
    ASK,
    NAME,
    V12,
    V13,
    C,
    Pair,
    S,
    Talk,
    contexts,
    conversation,
    folder,
    records,
    through,
)  # fmt: skip

from kshark import limits
from kshark.api import Entry, Message, Switch
from kshark.protocols.tls import SPEC
from kshark.protocols.tls.details import TlsClient, TlsServer, details
from kshark.protocols.tls.dissector import TlsDissector
from kshark.testing import converse, rows


def entry(talk: Talk) -> Entry:
    """The handshake's."""
    return next(one for one in converse(SPEC, talk) if one.protocol == "tls")


def both(talk: Talk) -> tuple[TlsClient, TlsServer]:
    found = entry(talk)
    assert found.request is not None
    assert found.response is not None
    client, server = details(found.request), details(found.response)
    assert isinstance(client, TlsClient)
    assert isinstance(server, TlsServer)
    return client, server


def test_version_12_shows_certificates() -> None:
    client, server = both(conversation(V12))
    assert (client.server_name, client.alpn, client.version) == (NAME, ["http/1.1"], "1.2")
    assert (server.version, server.alpn, server.group) == ("1.2", "http/1.1", "x25519")
    assert server.cipher == "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
    assert (server.subject, server.issuer) == (f"CN={NAME}", "CN=kshark test CA")
    assert (server.not_before, server.not_after[:4]) == ("2020-01-02T03:04:05Z", "2120")
    [leaf] = server.certificates
    assert (leaf.names, leaf.serial, leaf.key) == ([NAME, "*.example"], "1234567", "RSA 2048")
    assert server.established
    assert not server.resumed


def test_version_13_hides_them() -> None:
    client, server = both(conversation(V13))
    assert (client.version, client.hello_version, client.key_shares) == ("1.3", "1.2", ["x25519"])
    assert (server.version, server.cipher) == ("1.3", "TLS_AES_256_GCM_SHA384")
    assert (server.certificates, server.alpn, server.established) == ([], "", True)


@pytest.mark.parametrize("version", [V12, V13])
def test_the_flow_stays_visible_and_is_opaque(version: ssl.TLSVersion) -> None:
    talk = conversation(version)
    _, flow = converse(SPEC, talk)
    assert (flow.protocol, flow.flow.reason) == ("tcp", "encrypted")
    assert flow.request is not None
    assert flow.response is not None
    sent = [sum(len(data) for who, data in talk if who == side) for side in (C, S)]
    assert (flow.request.target, [flow.request.size, flow.response.size]) == (NAME, sent)


def test_nothing_is_kept_of_what_is_encrypted() -> None:
    dissector = TlsDissector()
    found = [one for side, data in conversation(V13) for one in dissector.feed(side, data)]
    assert [type(one) for one in found] == [Message, Message, Switch]
    assert dissector.feed(C, bytes(100)) == []
    assert dissector.slim() < 20_000


def test_no_server_name() -> None:
    client, server = contexts(V13)
    client.check_hostname = False
    found = both(Pair(client, server, name=None).shake().talk)
    assert found[0].server_name == ""
    assert found[0].ja4.startswith("t13i")


# ---------------------------------------------------------------- resumption


def test_a_resumed_session_13() -> None:
    client, server = contexts(V13)
    first = Pair(client, server).shake().say(S, ANSWER)
    again = Pair(client, server, session=first.ends[0].session).shake().say(C, ASK)
    asked, answered = both(again.talk)
    assert (asked.psk, answered.resumed) == (1, True)
    assert not both(first.talk)[1].resumed


@pytest.mark.parametrize("ticket", [True, False])
def test_a_resumed_session_12(ticket: bool) -> None:
    client, server = contexts(V12)
    if not ticket:
        client.options |= ssl.OP_NO_TICKET
        server.options |= ssl.OP_NO_TICKET
    first = Pair(client, server).shake().say(S, ANSWER).end()
    again = Pair(client, server, session=first.ends[0].session).shake().say(C, ASK)
    asked, answered = both(again.talk)
    assert (asked.ticket, answered.resumed, answered.established) == (ticket, True, True)
    assert answered.certificates == []
    assert not both(first.talk)[1].resumed


# ---------------------------------------------------------------- what goes wrong


def test_a_version_that_the_server_does_not_speak() -> None:
    found = entry(Pair(contexts(V12)[0], contexts(V13)[1]).shake().talk)
    assert rows([found]) == [f"hello {NAME} -> 70 protocol_version [error]"]
    assert found.response is not None
    answer = details(found.response)
    assert isinstance(answer, TlsServer)
    assert (answer.alert, answer.alert_by, answer.established) == (
        "protocol_version",
        "server",
        False,
    )


def test_a_certificate_that_the_client_does_not_trust_12() -> None:
    client, server = contexts(V12)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.maximum_version = V12
    stranger.load_verify_locations(folder() / "stranger.pem")
    found = both(Pair(stranger, server).shake().talk)[1]
    assert (found.alert, found.alert_by) == ("unknown_ca", "client")
    assert found.subject == f"CN={NAME}"
    assert client is not stranger


def test_the_same_13_can_be_seen_by_its_size() -> None:
    _, server = contexts(V13)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(folder() / "stranger.pem")
    pair = Pair(stranger, server).shake()
    talk = pair.talk
    # OpenSSL says this alert in clear where it has not changed its keys yet; here it is sealed.
    sealed = [(S, data) if side == S else (C, data) for side, data in talk[:2]]
    sealed.append((C, b"\x17\x03\x03\x00\x13" + bytes(19)))
    found = entry(sealed)
    assert rows([found]) == [f"hello {NAME} -> 1.3 encrypted_alert [error]"]


def test_a_client_without_the_certificate_that_is_asked_for() -> None:
    client, server = contexts(V12)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(folder() / "ca.pem")
    found = both(Pair(client, server).shake().talk)[1]
    assert (found.alert, found.alert_by, found.certificate_requested) == (
        "handshake_failure", "server", True,
    )  # fmt: skip


def test_a_client_with_a_certificate() -> None:
    client, server = contexts(V12)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(folder() / "ca.pem")
    client.load_cert_chain(folder() / "client.pem", folder() / "client.key")
    found = both(Pair(client, server).shake().talk)[1]
    assert [one.subject for one in found.client_certificates] == [
        "CN=a client", "CN=kshark test CA",
    ]  # fmt: skip
    assert found.established


def test_a_server_that_speaks_in_clear() -> None:
    hello = conversation()[0]
    found = converse(SPEC, [hello, (S, b"HTTP/1.1 400 Bad Request\r\n\r\n")])
    assert rows(found)[0] == f"hello {NAME} -> not_tls [error]"
    assert found[1].flow.reason == "a handshake that failed"


def test_a_server_that_says_nothing() -> None:
    assert rows(converse(SPEC, conversation()[:1])) == [f"hello {NAME} -> - [unanswered]"]


def test_warnings_do_not_end_a_handshake() -> None:
    talk = conversation(V12)
    warned = [talk[0], (S, b"\x15\x03\x03\x00\x02\x01\x70"), *talk[1:]]
    found = entry(warned)
    assert found.outcome == "ok"
    assert found.response is not None
    assert found.response.notes == ("warning-unrecognized_name",)
    flood = [talk[0], (S, b"\x15\x03\x03\x00\x02\x01\x70" * 100), *talk[1:]]
    assert entry(flood).response.notes == ("warning-unrecognized_name",) * limits.TLS_WARNINGS  # type: ignore[union-attr]


def test_a_handshake_that_breaks_off() -> None:
    found = entry(conversation(V12)[:2])
    assert found.outcome == "cut"
    assert found.response is not None
    answer = details(found.response)
    assert isinstance(answer, TlsServer)
    assert (answer.subject, answer.established) == (f"CN={NAME}", False)


# ---------------------------------------------------------------- how it may be sent


@pytest.mark.parametrize("size", [1, 5, 100])
def test_messages_across_records(size: int) -> None:
    """A ClientHello in many records, as RFC 8446 section 5.1 allows."""
    talk = conversation(V12)
    hello = talk[0][1][5:]
    parts = [hello[at : at + size] for at in range(0, len(hello), size)]
    cut = b"".join(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part for part in parts)
    assert rows(converse(SPEC, [(C, cut), *talk[1:]]))[0] == f"hello {NAME} -> 1.2 [ok]"


def test_all_messages_of_a_flight_in_one_record() -> None:
    talk = conversation(V12)
    joined = b"".join(record[5:] for record in records(talk[1][1]))
    one = b"\x16\x03\x03" + struct.pack(">H", len(joined)) + joined
    assert rows(converse(SPEC, [talk[0], (S, one), *talk[2:]]))[0] == f"hello {NAME} -> 1.2 [ok]"


def test_a_hello_as_ssl2_frames_it() -> None:
    old = bytes.fromhex("802b 01 0301 0012 0000 0010 00002f 000035 00000a 010080 030080 0000ff")
    old = old[:1] + bytes([len(old) - 2 + 16]) + old[2:] + bytes(range(16))
    first = entry([(C, old), *conversation(V12)[1:]])
    assert rows([first]) == ["hello -> 1.2 [ok]"]
    assert first.request is not None
    asked = details(first.request)
    assert isinstance(asked, TlsClient)
    assert asked.version == "1.0"
    assert asked.ciphers[:1] == ["TLS_RSA_WITH_AES_128_CBC_SHA"]
    assert asked.ciphers[3] == "SSL2_RC4_128_WITH_MD5"
    assert (asked.ja3, asked.random) == ("", (bytes(16) + bytes(range(16))).hex())


def test_ssl2_itself() -> None:
    old = bytes.fromhex("801c 01 0002 0003 0000 0010 010080") + bytes(16)
    body = bytes.fromhex("04 00 01 0002 0004 0003 0010") + b"cert" + bytes.fromhex("010080")
    answer = b"\x80" + bytes([len(body) + 16]) + body + bytes(16)
    assert rows(converse(SPEC, [(C, old), (S, answer)]))[0] == "hello -> SSL 2.0 [ok]"


def test_a_flow_that_was_joined_later() -> None:
    talk = conversation(V13)
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    found = through([SPEC], [(C, record), (S, record), *talk[-2:]], midstream=True)
    assert [(one.protocol, one.flow.reason) for one in found] == [("tcp", "joined in mid-stream")]


def test_starttls() -> None:
    """A protocol that begins in clear hands over."""
    from kshark.api import Framed, Kind, ProtocolSpec

    class Starts(Framed):
        def parse(self, side):  # type: ignore[no-untyped-def]
            line = yield b"\n"
            yield Message(Kind.REQUEST if side == C else Kind.RESPONSE, verb=line.decode().strip())
            if side == S:
                yield Switch("tls")

    made = ProtocolSpec(name="starts", dissector=Starts, magic=(b"STARTTLS",))
    talk = [(C, b"STARTTLS\n"), (S, b"go\n"), *conversation(V13)]
    assert rows(through([made, SPEC], talk)) == [
        "STARTTLS -> go [ok]", f"hello {NAME} -> 1.3 [ok]", f"FLOW {NAME} -> . [ok]",
    ]  # fmt: skip


# ---------------------------------------------------------------- limits


def handshake(kind: int, body: bytes) -> bytes:
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    parts = [message[at : at + 16384] for at in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x03" + struct.pack(">H", len(part)) + part for part in parts)


def test_a_long_message_is_not_read() -> None:
    talk = conversation(V12)
    huge = handshake(22, bytes(limits.TLS_MESSAGE))
    first = talk[1][1]
    dissector = TlsDissector()
    dissector.feed(*talk[0])
    dissector.feed(S, first[: 5 + int.from_bytes(first[3:5], "big")])
    dissector.feed(S, huge)
    assert dissector.slim() < 1000
    found = [one for side, data in talk[2:] for one in dissector.feed(side, data)]
    assert found[0].notes == ("long-message",)


def test_a_long_flight_is_cut() -> None:
    talk = conversation(V12)
    dissector = TlsDissector()
    dissector.feed(*talk[0])
    dissector.feed(*talk[1])
    for _ in range(3):
        dissector.feed(S, handshake(22, bytes(30_000)))
    [response, _] = [one for side, data in talk[2:] for one in dissector.feed(side, data)]
    assert response.truncated
    assert len(response.head) <= limits.TLS_FLIGHT


def test_a_record_that_is_too_long_is_none() -> None:
    size = struct.pack(">H", limits.TLS_RECORD + 1)
    found = converse(SPEC, [conversation()[0], (S, b"\x16\x03\x03" + size + bytes(50))])
    assert rows(found)[0] == f"hello {NAME} -> not_tls [error]"


def test_a_long_server_name_is_cut() -> None:
    name = b"a" * 4000
    entry_ = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack(">HH", 0, len(entry_)) + entry_
    body = (
        b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions))
    )
    [found] = TlsDissector().feed(C, handshake(1, body + extensions))
    assert found.target == "a" * limits.TLS_NAME
    asked = details(found)
    assert isinstance(asked, TlsClient)
    assert asked.server_name == found.target
