"""Real handshakes without a network: two ends of OpenSSL that talk through memory, and certificates for them."""

from __future__ import annotations

import datetime
import functools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kshark.api import Entry, ProtocolSpec, Side
from kshark.engine import Engine
from kshark.protocols.tls.keylog import KeyLog
from kshark.testing.play import MadeFlow

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]
NAME: Final = "api.example"
ASK: Final = b"GET /secret HTTP/1.1\r\nHost: api.example\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@functools.cache
def folder() -> Path:
    """Certificates and keys of this run: ``ca``, ``server``, ``ecdsa``, ``client``, ``stranger``."""
    import tempfile

    found = Path(tempfile.mkdtemp(prefix="kshark-tls-"))
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate("kshark test CA", ca_key, None, None)
    _store(found, "ca", ca, ca_key)
    for name, key in (
        ("server", rsa.generate_private_key(65537, 2048)),
        ("ecdsa", ec.generate_private_key(ec.SECP256R1())),
        ("client", ec.generate_private_key(ec.SECP256R1())),
    ):
        _store(found, name, certificate(NAME if name != "client" else "a client", key, ca, ca_key), key)  # fmt: skip
    alone = ec.generate_private_key(ec.SECP256R1())
    _store(found, "stranger", certificate("stranger", alone, None, None), alone)
    return found


def certificate(name: str, key: object, issuer: x509.Certificate | None, by: object) -> x509.Certificate:  # fmt: skip
    """A certificate for a name, signed by `by`, or by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(0x1234567)
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2120))
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
    )
    if issuer is not None:
        names = [x509.DNSName(NAME), x509.DNSName("*.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(by or key, hashes.SHA256())  # type: ignore[arg-type]


def _store(where: Path, name: str, one: x509.Certificate, key: object) -> None:
    (where / f"{name}.pem").write_bytes(one.public_bytes(serialization.Encoding.PEM))
    (where / f"{name}.key").write_bytes(
        key.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def contexts(
    version: ssl.TLSVersion = V13,
    *,
    cipher: str = "",
    cert: str = "server",
    alpn: str = "http/1.1",
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Those of client and server."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
        if alpn:
            context.set_alpn_protocols([alpn])
        if cipher:
            context.set_ciphers(cipher)
    client.load_verify_locations(folder() / "ca.pem")
    server.load_cert_chain(folder() / f"{cert}.pem", folder() / f"{cert}.key")
    return client, server


class Pair:
    """Both ends; what they send each other is recorded in `talk`."""

    def __init__(
        self,
        client: ssl.SSLContext,
        server: ssl.SSLContext,
        *,
        name: str | None = NAME,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.talk: Talk = []
        self.wires = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in Side]
        (ci, co), (si, so) = self.wires
        self.ends = (
            client.wrap_bio(ci, co, server_hostname=name, session=session),
            server.wrap_bio(si, so, server_side=True),
        )
        self.faults: list[ssl.SSLError] = []

    def carry(self) -> bool:
        """Give each what the other has sent."""
        moved = False
        for side in Side:
            data = self.wires[side][1].read()
            if data:
                moved = True
                self.talk.append((side, data))
                self.wires[1 - side][0].write(data)
        return moved

    def shake(self) -> Pair:
        """The handshake, as far as it goes."""
        done = [False, False]
        while True:
            for side, end in enumerate(self.ends):
                if not done[side]:
                    done[side] = self._try(end.do_handshake)
            if not self.carry():
                return self

    def _try(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.faults.append(error)
        return True

    def say(self, side: Side, data: bytes) -> Pair:
        """Application data, read at the other end."""
        self.ends[side].write(data)
        self.carry()
        self._try(lambda: self.ends[1 - side].read(1 << 20))
        self._try(lambda: self.ends[side].read(1))  # tickets
        return self

    def end(self) -> Pair:
        """close_notify of both."""
        for end in self.ends:
            self._try(end.unwrap)
            self.carry()
        return self


def conversation(version: ssl.TLSVersion = V13, **how: str) -> Talk:
    """A handshake, a question and an answer."""
    return Pair(*contexts(version, **how)).shake().say(C, ASK).say(S, ANSWER).end().talk


def with_keys(path: Path, version: ssl.TLSVersion = V13, **how: str) -> tuple[Talk, KeyLog]:
    """The same with its key log."""
    client, server = contexts(version, **how)
    client.keylog_filename = str(path)
    talk = Pair(client, server).shake().say(C, ASK).say(S, ANSWER).end().talk
    return talk, KeyLog(str(path))


def refused() -> Talk:
    """A client that speaks nothing which the server would."""
    client, _ = contexts(V12)
    _, server = contexts(V13)
    return Pair(client, server).shake().talk


def through(specs: list[ProtocolSpec], talk: Talk, *, midstream: bool = False) -> list[Entry]:
    """The entries of one flow, dissected by whoever recognises it."""
    said: list[str] = []
    engine = Engine(specs, None, said.append)
    flow = MadeFlow(midstream=midstream)
    consumer = engine.open(flow)
    for side, data in talk:
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        if consumer.chunk(side, data, flow.last_ns):
            break
    consumer.end(1, flow.last_ns)
    assert not said
    return engine.take()


def records(data: bytes) -> Iterator[bytes]:
    """The records of one side."""
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        yield data[:size]
        data = data[size:]
