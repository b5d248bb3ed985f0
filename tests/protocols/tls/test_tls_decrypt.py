"""What is inside, by the secrets of the connection: every cipher, late secrets, losses, and what cannot be opened."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    folder,
    records,
    through,
    with_keys,
)  # fmt: skip

from kshark import limits
from kshark.api import Inner, Message, PluginError, Switch
from kshark.engine import Engine
from kshark.protocols import http, redis
from kshark.protocols.tls import keylog, spec
from kshark.protocols.tls.cipher import Aead13, Suite, suite_of
from kshark.protocols.tls.details import TlsServer, details
from kshark.protocols.tls.dissector import TlsDissector
from kshark.protocols.tls.keylog import KeyLog
from kshark.testing import rows
from kshark.testing.play import MadeFlow

CIPHERS = [
    "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA", "AES256-SHA256",
    "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES128-CCM8",
]  # fmt: skip
CALL = "GET /secret -> 200 [ok]"


def opened(talk: Talk, keys: KeyLog) -> list[str]:
    """The rows of one flow."""
    return rows(through([spec(keys), http.SPEC, redis.SPEC], talk))


def plain(dissector: TlsDissector, talk: Talk) -> list[bytes]:
    """What each side said inside."""
    found = [b"", b""]
    for side, data in talk:
        for one in dissector.feed(side, data):
            if isinstance(one, Inner):
                found[one.side] += one.data
    return found


@pytest.mark.parametrize("version", [V12, V13])
def test_the_inner_protocol_appears(version: ssl.TLSVersion, tmp_path: Path) -> None:
    talk, keys = with_keys(tmp_path / "keys", version)
    name = "1.2" if version == V12 else "1.3"
    assert opened(talk, keys) == [f"hello {NAME} -> {name} [ok]", CALL]
    flow = through([spec(keys), http.SPEC], talk)[1].flow
    assert flow.reason.startswith("in tls: ")


def test_an_inner_protocol_that_nobody_knows(tmp_path: Path) -> None:
    """Its bytes are shown, as of any flow."""
    client, server = contexts(V13)
    client.keylog_filename = str(tmp_path / "keys")
    pair = Pair(client, server).shake().say(C, b"\x01\x02who knows\x03").say(S, b"\x04nobody")
    found = through([spec(KeyLog(str(tmp_path / "keys"))), http.SPEC], pair.talk)
    assert [one.protocol for one in found] == ["tls", "tcp"]
    assert found[1].flow.reason == "in tls: no dissector matched"
    assert [half.size for half in (found[1].request, found[1].response) if half] == [12, 7]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_of_12(cipher: str, tmp_path: Path) -> None:
    cert = "ecdsa" if "ECDSA" in cipher else "server"
    talk, keys = with_keys(tmp_path / "keys", V12, cipher=f"{cipher}:@SECLEVEL=0", cert=cert)
    assert opened(talk, keys) == [f"hello {NAME} -> 1.2 [ok]", CALL]


def test_of_13_the_hidden_messages_are_shown(tmp_path: Path) -> None:
    talk, keys = with_keys(tmp_path / "keys", V13)
    first = through([spec(keys), http.SPEC], talk)[0]
    assert first.response is not None
    found = details(first.response)
    assert isinstance(found, TlsServer)
    assert (found.alpn, found.subject, len(found.certificates)) == ("http/1.1", f"CN={NAME}", 1)


def test_a_certificate_that_is_refused_13(tmp_path: Path) -> None:
    _, server = contexts(V13)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(folder() / "stranger.pem")
    stranger.keylog_filename = str(tmp_path / "keys")
    talk = Pair(stranger, server).shake().talk
    [first, _] = opened(talk, KeyLog(str(tmp_path / "keys")))
    assert first == f"hello {NAME} -> 1.3 48 unknown_ca [error]"


def test_an_alert_after_the_handshake(tmp_path: Path) -> None:
    """TLS 1.3: the client is done before the server asks why it has no certificate."""
    client, server = contexts(V13)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(folder() / "ca.pem")
    client.keylog_filename = str(tmp_path / "keys")
    talk = Pair(client, server).shake().talk
    found = through([spec(KeyLog(str(tmp_path / "keys")))], talk)
    assert rows(found) == [
        f"hello {NAME} -> 1.3 [ok]",
        "alert 116 certificate_required -> - [error]",
    ]
    assert found[1].request is not None
    alert = details(found[1].request)
    assert isinstance(alert, TlsServer)
    assert (alert.alert, alert.alert_by) == ("certificate_required", "server")


def test_a_client_with_a_certificate_13(tmp_path: Path) -> None:
    client, server = contexts(V13)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(folder() / "ca.pem")
    client.load_cert_chain(folder() / "client.pem", folder() / "client.key")
    client.keylog_filename = str(tmp_path / "keys")
    talk = Pair(client, server).shake().say(C, ASK).say(S, ANSWER).talk
    first, second = through([spec(KeyLog(str(tmp_path / "keys"))), http.SPEC], talk)
    assert first.response is not None
    found = details(first.response)
    assert isinstance(found, TlsServer)
    assert found.client_certificates[0].subject == "CN=a client"
    assert rows([second]) == [CALL]


@pytest.mark.parametrize("version", [V12, V13])
def test_a_resumed_session(version: ssl.TLSVersion, tmp_path: Path) -> None:
    client, server = contexts(version)
    client.keylog_filename = str(tmp_path / "keys")
    first = Pair(client, server).shake().say(S, ANSWER).end()
    again = Pair(client, server, session=first.ends[0].session).shake()
    talk = again.say(C, ASK).say(S, ANSWER).talk
    assert again.ends[0].session_reused
    assert opened(talk, KeyLog(str(tmp_path / "keys")))[1:] == [CALL]


# ---------------------------------------------------------------- secrets that come late, or never


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("after", range(1, 6))
def test_a_key_log_that_grows(version: ssl.TLSVersion, after: int, tmp_path: Path) -> None:
    talk, _ = with_keys(tmp_path / "all", version)
    path = tmp_path / "growing"
    path.touch()
    dissector = TlsDissector(KeyLog(str(path)))
    found = [b"", b""]
    for number, (side, data) in enumerate(talk):
        if number == after:
            path.write_bytes((tmp_path / "all").read_bytes())
        for one in dissector.feed(side, data):
            if isinstance(one, Inner):
                found[one.side] += one.data
                assert one.hint == "http"
    assert found == [ASK, ANSWER]


def test_no_secrets_of_it(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    client, server = contexts(V13)
    pair = Pair(client, server).shake()
    for _ in range(10):
        pair.say(C, bytes(16_000))
    dissector = TlsDissector(KeyLog(str(tmp_path / "keys")))
    found = []
    for side, data in pair.talk:
        found += dissector.feed(side, data)
        assert dissector.slim() <= limits.TLS_WAITING + 20_000
    assert [type(one) for one in found] == [Message, Message, Switch]
    assert found[-1].opaque == "no secrets of it in the key log"


def test_a_short_connection_without_its_secrets(tmp_path: Path) -> None:
    """It ends before too much waits: it is an entry nevertheless, which says why nothing of it is seen."""
    talk, _ = with_keys(tmp_path / "all", V13)
    keys = KeyLog()
    keys.learn(b"CLIENT_RANDOM " + b"00" * 32 + b" " + b"11" * 48)
    hello, flow = through([spec(keys)], talk)
    assert rows([hello]) == [f"hello {NAME} -> 1.3 [ok]"]
    assert (flow.protocol, flow.flow.reason) == ("tcp", "no secrets of it in the key log")
    assert flow.request is not None
    assert flow.request.target == NAME


def test_secrets_of_the_data_alone(tmp_path: Path) -> None:
    """Without those of the handshake its messages stay hidden, and where they end."""
    talk, _ = with_keys(tmp_path / "all", V13)
    lines = (tmp_path / "all").read_bytes().splitlines(keepends=True)
    keys = KeyLog()
    keys.learn(b"".join(line for line in lines if b"HANDSHAKE" not in line))
    first = through([spec(keys)], talk)[0]
    assert rows([first]) == [f"hello {NAME} -> 1.3 [ok]"]


def test_a_wrong_secret(tmp_path: Path) -> None:
    talk, _ = with_keys(tmp_path / "all", V13)
    keys = KeyLog()
    for line in (tmp_path / "all").read_text().splitlines():
        if line.startswith("#"):
            continue
        label, random, secret = line.split()
        keys.learn(f"{label} {random} {secret[::-1]}\n".encode())
    found = through([spec(keys), http.SPEC], talk)
    assert [one.protocol for one in found] == ["tls", "tcp"]
    assert found[1].flow.reason == "a record that does not open under its key"


# ---------------------------------------------------------------- losses


def data_records(talk: Talk, side: int, after: int) -> tuple[Talk, list[bytes]]:
    """The conversation up to its `after`-th piece, and the records of a side from there on."""
    later = b"".join(data for who, data in talk[after:] if who == side)
    return talk[:after], list(records(later))


@pytest.mark.parametrize("cipher", ["", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA256"])
@pytest.mark.parametrize("missing", [1, 3, 40])
def test_whole_records_are_lost(cipher: str, missing: int, tmp_path: Path) -> None:
    version = V12 if cipher else V13
    client, server = contexts(version, cipher=cipher)
    client.keylog_filename = str(tmp_path / "keys")
    pair = Pair(client, server).shake()
    before = len(pair.talk)
    for number in range(60):
        pair.say(C, b"message %d" % number)
    start, sent = data_records(pair.talk, C, before)
    dissector = TlsDissector(KeyLog(str(tmp_path / "keys")))
    plain(dissector, start)
    assert plain(dissector, [(C, b"".join(sent[:10]))])[C].endswith(b"message 9")
    lost = sum(map(len, sent[10 : 10 + missing]))
    assert dissector.gap(C, lost) == []
    found = list(dissector.feed(C, b"".join(sent[10 + missing :])))
    said = [b"message %d" % number for number in range(60)]
    assert [one.data for one in found] == [b"", *said[10 + missing :]]
    assert found[0].missing == sum(map(len, said[10 : 10 + missing])) or "SHA" in cipher


@pytest.mark.parametrize("version", [V12, V13])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_loss_within_a_body_costs_no_more(version: ssl.TLSVersion, data: st.DataObject) -> None:
    """How much is missing is known to the byte, so that the protocol inside finds what follows."""
    talk, keys = long_answer(version)
    number = max(range(len(talk)), key=lambda one: len(talk[one][1]))
    size = data.draw(st.integers(1, 60_000))
    start = data.draw(st.integers(17_000, len(talk[number][1]) - size - 17_000))
    said: list[str] = []
    engine = Engine([spec(keys), http.SPEC], None, said.append)
    flow = MadeFlow(midstream=False)
    consumer = engine.open(flow)
    for index, (side, piece) in enumerate(talk):
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        if index == number:
            consumer.chunk(side, piece[:start], flow.last_ns)
            consumer.gap(side, size, flow.last_ns)
            consumer.chunk(side, piece[start + size :], flow.last_ns)
        else:
            consumer.chunk(side, piece, flow.last_ns)
    consumer.end(1, flow.last_ns)
    first, second = [one for one in engine.take() if one.protocol == "http"]
    assert rows([first, second]) == ["GET /long -> 200 [ok]", CALL]
    assert first.response is not None
    assert size - 5_000 < first.response.gap_bytes < size + 40_000
    assert said == []


LONG: dict[ssl.TLSVersion, tuple[Talk, KeyLog]] = {}


def long_answer(version: ssl.TLSVersion) -> tuple[Talk, KeyLog]:
    """A long body, and another exchange."""
    if version not in LONG:
        path = str(folder() / f"long{version}.keys")
        client, server = contexts(version)
        client.keylog_filename = path
        pair = Pair(client, server).shake()
        pair.say(C, ASK.replace(b"secret", b"long"))
        pair.say(S, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
        talk = pair.say(C, ASK).say(S, ANSWER).talk
        LONG[version] = talk, KeyLog(path)
    return LONG[version]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_hole_gives_nothing_but_what_was_said(data: st.DataObject) -> None:
    start, sent, text, path = session()
    stream = b"".join(sent)
    first = data.draw(st.integers(0, len(stream) - 1))
    size = data.draw(st.integers(1, len(stream) - first))
    dissector = TlsDissector(KeyLog(path))
    plain(dissector, start)
    found: list[Inner] = [
        one for one in dissector.feed(C, stream[:first]) if isinstance(one, Inner)
    ]
    found += [one for one in dissector.gap(C, size) if isinstance(one, Inner)]
    found += [one for one in dissector.feed(C, stream[first + size :]) if isinstance(one, Inner)]
    pieces = [one.data for one in found if one.data]
    assert [piece for piece in pieces if piece not in text] == []
    order = [text.index(piece) for piece in pieces]
    assert order == sorted(order)
    whole = [n for n, record in enumerate(sent) if sum(map(len, sent[:n])) >= first + size]
    assert [text[n] for n in whole] == pieces[len(pieces) - len(whole) :]


SESSION: list[tuple[Talk, list[bytes], list[bytes], str]] = []


def session() -> tuple[Talk, list[bytes], list[bytes], str]:
    """A connection with forty records of the client."""
    if not SESSION:
        path = str(folder() / "hole.keys")
        client, server = contexts(V13)
        client.keylog_filename = path
        pair = Pair(client, server).shake()
        before = len(pair.talk)
        text = [b"%03d" % number * (1 + number % 7) for number in range(40)]
        for one in text:
            pair.say(C, one)
        start, sent = data_records(pair.talk, C, before)
        SESSION.append((start, sent, text, path))
    return SESSION[0]


def test_more_is_lost_than_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_SEQUENCES", 5)
    monkeypatch.setattr(limits, "TLS_HUNT", 3)
    start, sent, _, path = session()
    dissector = TlsDissector(KeyLog(path))
    plain(dissector, start)
    dissector.feed(C, sent[0])
    dissector.gap(C, 100_000)
    [end] = dissector.feed(C, b"".join(sent[20:]))
    assert end.opaque == "a loss after which no record opens"


def test_what_looks_like_records_costs_no_more_than_so_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TLS_TRIES", 200)
    monkeypatch.setattr(limits, "TLS_HUNT", 1_000)
    start, sent, _, path = session()
    dissector = TlsDissector(KeyLog(path))
    plain(dissector, start)
    dissector.feed(C, sent[0])
    dissector.gap(C, 100_000)
    assert dissector.session is not None
    lane = dissector.session.lanes[C]
    [end] = dissector.feed(C, b"\x17\x03\x03\x00\x14" * 2_000)
    assert end.opaque == "a loss after which no record opens"
    assert lane.tries == 201


def test_garbage_after_a_loss_is_bounded() -> None:
    start, sent, _, path = session()
    dissector = TlsDissector(KeyLog(path))
    plain(dissector, start)
    dissector.feed(C, sent[0])
    dissector.gap(C, 5000)
    for _ in range(50):
        dissector.feed(C, bytes(16_000))
        assert dissector.slim() < 60_000


# ---------------------------------------------------------------- keys


def test_a_key_update() -> None:
    """RFC 8446 section 4.6.3: the next record comes under the next key, numbered from 0."""
    start, sent, text, path = session()
    dissector = TlsDissector(KeyLog(path))
    assert plain(dissector, [*start, (C, b"".join(sent[:3]))])[C] == b"".join(text[:3])
    assert dissector.session is not None
    opener = dissector.session.lanes[C].opener
    assert isinstance(opener, Aead13)
    later = opener.updated()
    assert plain(dissector, [(C, sealed(later, 0, b"after"))])[C] == b"after"
    latest = later.updated()
    assert plain(dissector, [(C, sealed(latest, 0, b"again"))])[C] == b"again"
    assert plain(dissector, [(C, sealed(latest, 1, b"padded", 50))])[C] == b"padded"


def sealed(opener: Aead13, number: int, text: bytes, padding: int = 0) -> bytes:
    """A record as its sender makes it."""
    inner = text + b"\x17" + bytes(padding)
    head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
    body: bytes = opener.aead.encrypt((opener.iv ^ number).to_bytes(12, "big"), inner, head)
    return head + body


def test_suites() -> None:
    assert suite_of(0x1301, True) == Suite("GCM", 16, "sha256")
    assert suite_of(0x1303, True) == Suite("CHACHA", 32, "sha256")
    assert suite_of(0xC030, False) == Suite("GCM", 32, "sha384")
    assert suite_of(0xC013, False) == Suite("CBC", 16, "sha256", "sha1")
    assert suite_of(0xC0A2, False) == Suite("CCM_8", 16, "sha256")
    for number in (0x1301, 0x0005, 0xC011, 0x0000, 0xFFFF, 0x00FF):  # 1.3, RC4, none, unknown
        assert suite_of(number, False) is None


def test_a_cipher_that_is_not_read(tmp_path: Path) -> None:
    talk, keys = with_keys(
        tmp_path / "keys", V12, cipher="ECDHE-RSA-CAMELLIA128-SHA256:@SECLEVEL=0"
    )
    found = through([spec(keys)], talk)
    assert found[1].flow.reason == "a cipher that is not read"
    assert found[0].response is not None
    answer = details(found[0].response)
    assert isinstance(answer, TlsServer)
    assert answer.notes == ["not decrypted: a cipher that is not read"]


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kshark.protocols import tls
    from kshark.protocols.tls import certificates, dissector

    talk, keys = with_keys(tmp_path / "keys", V12)
    monkeypatch.setattr(dissector, "available", lambda: False)
    monkeypatch.setattr(tls, "available", lambda: False)
    found = through([spec(keys)], talk)
    assert rows(found) == [f"hello {NAME} -> 1.2 [ok]", f"FLOW {NAME} -> . [ok]"]
    with pytest.raises(PluginError, match=r"pip install 'kshark\[tls\]'"):
        tls.configure(tls.TlsOptions(keylog="x"))
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    assert found[0].response is not None
    answer = details(found[0].response)
    assert isinstance(answer, TlsServer)
    assert (answer.subject, answer.notes) == ("", [certificates.NEEDS])
    assert len(answer.certificates[0].sha256) == 64


def test_no_secret_is_shown(tmp_path: Path) -> None:
    talk, keys = with_keys(tmp_path / "keys", V13)
    secrets = [
        line.split()[2] for line in (tmp_path / "keys").read_text().splitlines() if line[0] != "#"
    ]
    shown = repr([(one, details(half)) for one in through([spec(keys)], talk)
                  for half in (one.request, one.response) if half is not None])  # fmt: skip
    assert not [one for one in secrets if one in shown]
    assert keylog.LABELS
