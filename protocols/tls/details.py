"""The typed schema of TLS, made from the messages of a handshake when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from kshark import limits
from kshark.api import Details, Kind, Message, doc

from .certificates import TlsCertificate, chain, described
from .codes import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_STATUS,
    EARLY_DATA,
    ECH,
    ESNI,
    EXTENSION_NAMES,
    EXTENSIONS,
    GROUP_NAMES,
    GROUPS,
    KEY_EXCHANGE,
    PRE_SHARED_KEY,
    SERVER_HELLO,
    SIGNATURE_NAMES,
    SIGNATURES,
    SSL2,
    TICKET,
    cipher_name,
    named,
    ssl2_cipher_name,
    version_name,
)
from .ending import Ending
from .fingerprint import ja3_text, ja3s_text, ja4, md5
from .hello import (
    Hello,
    client_hello,
    encrypted_extensions,
    server_hello,
    ssl2_hello,
    ssl2_server_hello,
)
from .ssl2 import is_ssl2

LIST = limits.TLS_LIST
SIDES = {0: "client", 1: "server"}


class TlsClient(Details):
    """What the client says: its ClientHello."""

    server_name: Annotated[
        str, doc("Whom it wants to reach (SNI)", otel="tls.client.server_name")
    ] = ""
    version: Annotated[str, doc("The highest version that it offers: 1.3")] = ""
    versions: Annotated[list[str], doc("All versions that it offers")] = []
    hello_version: Annotated[str, doc("The version in the hello itself, 1.2 since TLS 1.3")] = ""
    ciphers: Annotated[
        list[str], doc("Cipher suites, in its order", otel="tls.client.supported_ciphers")
    ] = []
    alpn: Annotated[list[str], doc("Protocols that it speaks above TLS: h2, http/1.1")] = []
    groups: Annotated[list[str], doc("Groups for the key exchange")] = []
    key_shares: Annotated[list[str], doc("Groups for which it sends a key at once")] = []
    signatures: Annotated[list[str], doc("Signature algorithms that it takes")] = []
    extensions: Annotated[list[str], doc("Extensions, in its order")] = []
    session_id: Annotated[str, doc("Session id, hex digits; since TLS 1.3 without a meaning")] = ""
    ticket: Annotated[bool, doc("It shows a session ticket (up to TLS 1.2)")] = False
    psk: Annotated[int, doc("Pre-shared keys that it offers: a session to resume, as a rule")] = 0
    early_data: Annotated[bool, doc("It sends data before the server has answered")] = False
    ech: Annotated[
        bool, doc("It offers Encrypted ClientHello: the real server name may be hidden, or this is GREASE")
    ] = False  # fmt: skip
    ja3: Annotated[str, doc("JA3 fingerprint", otel="tls.client.ja3")] = ""
    ja3_text: Annotated[str, doc("What JA3 is the MD5 of")] = ""
    ja4: Annotated[str, doc("JA4 fingerprint")] = ""
    random: Annotated[str, doc("The client's random, hex digits: its connection in a key log")] = ""
    notes: Annotated[list[str], doc("What is odd or was cut")] = []


class TlsServer(Details):
    """What the server says in the handshake, and how that ended."""

    version: Annotated[str, doc("The version that is spoken", otel="tls.protocol.version")] = ""
    cipher: Annotated[str, doc("The cipher suite that is used", otel="tls.cipher")] = ""
    alpn: Annotated[
        str, doc("The protocol above TLS; of TLS 1.3 only if decrypted", otel="tls.next_protocol")
    ] = ""
    group: Annotated[str, doc("Group of the key exchange", otel="tls.curve")] = ""
    session_id: Annotated[str, doc("Session id, hex digits")] = ""
    extensions: Annotated[list[str], doc("Extensions, in its order")] = []
    established: Annotated[
        bool, doc("The handshake ended well, as far as can be seen", otel="tls.established")
    ] = False
    resumed: Annotated[
        bool, doc("An earlier session, or a pre-shared key, was taken up", otel="tls.resumed")
    ] = False
    hello_retry: Annotated[bool, doc("The client had to say its hello again")] = False
    retry_group: Annotated[str, doc("The group that the server asked for then")] = ""
    alert: Annotated[str, doc("The alert that ended it, by name")] = ""
    alert_by: Annotated[str, doc("Who sent it: client or server")] = ""
    early_data: Annotated[bool, doc("Early data is accepted (known if decrypted)")] = False
    certificate_requested: Annotated[bool, doc("The client is asked for a certificate")] = False
    ocsp: Annotated[bool, doc("An OCSP response is stapled")] = False
    subject: Annotated[str, doc("Whose certificate it shows", otel="tls.server.subject")] = ""
    issuer: Annotated[str, doc("Who signed it", otel="tls.server.issuer")] = ""
    not_before: Annotated[str, doc("Valid from, in UTC", otel="tls.server.not_before")] = ""
    not_after: Annotated[str, doc("Valid until, in UTC", otel="tls.server.not_after")] = ""
    certificates: Annotated[
        list[TlsCertificate], doc("The server's chain; of TLS 1.3 only if decrypted")
    ] = []
    client_certificates: Annotated[list[TlsCertificate], doc("The client's chain")] = []
    ja3s: Annotated[str, doc("JA3S fingerprint", otel="tls.server.ja3s")] = ""
    ja3s_text: Annotated[str, doc("What JA3S is the MD5 of")] = ""
    notes: Annotated[list[str], doc("What is odd or was cut")] = []


def details(message: Message) -> Details:
    """The typed details of one message."""
    if message.kind == Kind.REQUEST:
        return client(message)
    if message.kind == Kind.ONEWAY:
        return alerted(message)
    return server(message)


def client(message: Message) -> TlsClient:
    """Of the ClientHello."""
    old = is_ssl2(message.head)
    hello = ssl2_hello(message.head[2:]) if old else client_hello(message.head)
    psk = hello.get(PRE_SHARED_KEY)
    text = ja3_text(hello)
    notes = [*message.notes, *([hello.problem] if hello.problem else [])]
    return TlsClient(
        server_name=hello.server_name[: limits.TLS_NAME],
        version=version_name(hello.best),
        versions=[version_name(one) for one in hello.offered[:LIST]],
        hello_version=version_name(hello.version),
        ciphers=ciphers(hello),
        alpn=hello.alpn[:LIST],
        groups=[named(GROUP_NAMES, one) for one in hello.words(GROUPS)[:LIST]],
        key_shares=[named(GROUP_NAMES, one) for one in hello.shares[:LIST]],
        signatures=[named(SIGNATURE_NAMES, one) for one in hello.words(SIGNATURES)[:LIST]],
        extensions=extensions(hello),
        session_id=hello.session.hex(),
        ticket=bool(hello.get(TICKET)),
        psk=0 if psk is None else identities(psk),
        early_data=hello.get(EARLY_DATA) is not None,
        ech=hello.get(ECH) is not None or hello.get(ESNI) is not None,
        ja3="" if old or not hello.ciphers else md5(text),
        ja3_text="" if old or not hello.ciphers else text,
        ja4="" if old or not hello.ciphers else ja4(hello),
        random=hello.random.hex(),
        notes=notes,
    )


def server(message: Message) -> TlsServer:
    """Of all that the server said."""
    end = message.extra if isinstance(message.extra, Ending) else Ending()
    found = TlsServer(notes=list(message.notes), certificates=[], client_certificates=[])
    found.established, found.resumed, found.hello_retry = end.established, end.resumed, end.retry
    found.alert, found.alert_by = end.alert, SIDES.get(end.side, "") if end.alert else ""
    if end.why:
        found.notes.append(f"not decrypted: {end.why}")
    if end.ssl2:
        hello = ssl2_server_hello(message.head[2:])
        found.version, found.cipher = version_name(SSL2), ", ".join(ciphers(hello))
        return found
    for kind, one in handshakes(message.head):
        learn(found, kind, one, end.tls13)
    for kind, one in handshakes(message.body):
        if kind == CERTIFICATE:
            found.client_certificates = shown(one, end.tls13, found.notes)
    return found


def alerted(message: Message) -> TlsServer:
    """Of an alert after the handshake."""
    end = message.extra if isinstance(message.extra, Ending) else Ending()
    return TlsServer(alert=end.alert, alert_by=SIDES.get(end.side, ""), established=True)


def learn(found: TlsServer, kind: int, message: bytes, tls13: bool) -> None:
    """What one message of the server says."""
    if kind == SERVER_HELLO:
        hello = server_hello(message)
        if hello.problem:
            found.notes.append(hello.problem)
        if hello.retry:
            found.hello_retry, found.retry_group = True, group(hello.share)
        else:
            greeted(found, hello)
    elif kind == EXTENSIONS:
        more = encrypted_extensions(message)
        found.extensions += extensions(more)
        found.alpn = next(iter(more.alpn), "")
        found.early_data = more.get(EARLY_DATA) is not None
    elif kind == CERTIFICATE:
        found.certificates = shown(message, tls13, found.notes)
        if found.certificates:
            leaf = found.certificates[0]
            found.subject, found.issuer = leaf.subject, leaf.issuer
            found.not_before, found.not_after = leaf.not_before, leaf.not_after
    elif kind == KEY_EXCHANGE and "ECDHE" in found.cipher and message[4:5] == b"\x03":
        found.group = group(int.from_bytes(message[5:7], "big"))
    elif kind == CERTIFICATE_REQUEST:
        found.certificate_requested = True
    elif kind == CERTIFICATE_STATUS:
        found.ocsp = True


def greeted(found: TlsServer, hello: Hello) -> None:
    """Its hello."""
    if not hello.problem:  # else an extension that is missing may say another
        found.version = version_name(hello.chosen)
    found.cipher = ", ".join(ciphers(hello))
    found.alpn = next(iter(hello.alpn), "")
    found.group = group(hello.share)
    found.session_id = hello.session.hex()
    found.extensions = extensions(hello)
    found.resumed = found.resumed or hello.get(PRE_SHARED_KEY) is not None
    found.ja3s_text = ja3s_text(hello)
    found.ja3s = md5(found.ja3s_text)


def handshakes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Messages in a row, each with its head; the last one may be cut."""
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        yield data[at], data[at:end]
        at = end


def shown(message: bytes, tls13: bool, notes: list[str]) -> list[TlsCertificate]:
    """The certificates of a Certificate message."""
    return [described(one, notes) for one in chain(message, tls13)]


def ciphers(hello: Hello) -> list[str]:
    """Cipher suites by name."""
    name = ssl2_cipher_name if hello.ssl2 else cipher_name
    return [name(one) for one in hello.ciphers[:LIST]]


def extensions(hello: Hello) -> list[str]:
    """Extensions by name."""
    return [named(EXTENSION_NAMES, kind) for kind, _ in hello.extensions[:LIST]]


def group(number: int) -> str:
    """A group by name, "" for none."""
    return named(GROUP_NAMES, number) if number else ""


def identities(data: bytes) -> int:
    """How many pre-shared keys are offered (RFC 8446 section 4.2.11)."""
    end, at, count = 2 + int.from_bytes(data[:2], "big"), 2, 0
    while at + 2 <= min(end, len(data)):
        at += 6 + int.from_bytes(data[at : at + 2], "big")
        count += 1
    return count
