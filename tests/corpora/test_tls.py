"""TLS against Arkime, Zeek, Packetbeat and tshark, field by field; and nothing else is TLS."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from shutil import which
from typing import Any

import pytest
from oracle import CAPTURES, CORPORA, Found, Known, differences, replayed, settle

from kshark.api import Entry
from kshark.protocols.tls.certificates import TlsCertificate
from kshark.protocols.tls.details import TlsClient, TlsServer, details

pytestmark = [pytest.mark.corpora, pytest.mark.usefixtures("corpora")]


@cache
def handshakes(name: str) -> tuple[tuple[Entry, TlsClient, TlsServer], ...]:
    """The handshakes of a capture; a half that is not there as an empty one."""
    _, found = replayed(CORPORA / name)
    out = []
    for one in found:
        if one.protocol == "tls":
            client = details(one.request) if one.request is not None else TlsClient()
            server = details(one.response) if one.response is not None else TlsServer()
            assert isinstance(client, TlsClient)
            assert isinstance(server, TlsServer)
            out.append((one, client, server))
    return tuple(out)


# ---------------------------------------------------------------- Arkime

ARKIME = tuple(
    f"arkime/{name}.pcap"
    for name in (
        "curl-enabled-tls13", "https-connect", "openssl-tls1_2", "tls-alpn-h2", "tls-client-sessionid",
        "tls-split-client-hello", "tls13",
    )
)  # fmt: skip
KNOWN_ARKIME: tuple[Known, ...] = ()


def as_arkime(client: TlsClient, server: TlsServer) -> dict[str, Any]:
    """A handshake in its words."""
    version = server.version.replace("1.3 draft ", "1.3-draft-").removesuffix(".0")
    found = {
        "cipher": [server.cipher],
        "ja3": [client.ja3],
        "ja3string": [client.ja3_text],
        "ja3s": [server.ja3s],
        "ja3sstring": [server.ja3s_text],
        "ja4": [client.ja4],
        "version": [f"TLSv{version}"],
        "srcSessionId": [client.session_id],
        "dstSessionId": [server.session_id],
        "host": [client.server_name],
        "cert": sorted((cert_arkime(one) for one in server.certificates), key=str),
    }
    return {key: value for key, value in found.items() if value not in ([], [""])}


def cert_arkime(one: TlsCertificate) -> dict[str, Any]:
    """A certificate in its words, of the fields that both have."""
    found: dict[str, Any] = {
        "subjectCN": [common(one.subject)],
        "issuerCN": [common(one.issuer)],
        "serial": one.serial.rjust(len(one.serial) + len(one.serial) % 2, "0"),
        "alt": sorted(one.names),
        "validity": f"{one.not_before} {one.not_after}",
    }
    return {key: value for key, value in found.items() if value not in ([], [""])}


def common(name: str) -> str:
    """The common name in one."""
    found = [part[3:] for part in name.split(",") if part.startswith("CN=")]
    return found[0].lower() if found else ""


def arkime(name: str) -> dict[int, dict[str, Any]]:
    """What it expects of the sessions with TLS, by the client's port."""
    import datetime

    def moment(ms: int) -> str:
        when = datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
        return when.isoformat().replace("+00:00", "Z")

    expected = json.loads((CORPORA / name).with_suffix(".test").read_text())
    sessions = next(value for value in expected.values() if isinstance(value, list))
    out = {}
    for session in sessions:
        body = session.get("body", session)
        if "tls" not in body:
            continue
        shown = {k: v for k, v in body["tls"].items() if not k.endswith("Cnt") and k != "ja4_r"}
        shown["host"] = body.get("http", {}).get("host", [])[:1] if client_name(body) else []
        shown["cert"] = sorted(
            (
                {
                    **{k: one[k] for k in ("subjectCN", "issuerCN", "serial") if k in one},
                    **({"alt": sorted(one["alt"])} if "alt" in one else {}),
                    "validity": f"{moment(one['notBefore'])} {moment(one['notAfter'])}",
                }
                for one in body.get("cert", [])
            ),
            key=str,
        )
        out[body["source"]["port"]] = {k: v for k, v in shown.items() if v}
    return out


def client_name(body: dict[str, Any]) -> bool:
    """Whether its hosts are of TLS alone."""
    return "http" not in body.get("protocol", [])


@pytest.mark.parametrize("name", ARKIME)
def test_arkime(name: str) -> None:
    theirs = arkime(name)
    ours = {one.src.port: as_arkime(client, server) for one, client, server in handshakes(name)}
    assert set(ours) == set(theirs)
    found: Found = {}
    for port, expected in theirs.items():
        found |= differences(f"{name} {port}", expected, ours[port])
    settle(found, [k for k in KNOWN_ARKIME if any(str(w).startswith(name) for w in k.where)])


# ---------------------------------------------------------------- Zeek


def zeek(name: str) -> list[dict[str, str]]:
    """The rows of a log; several logs may follow each other in one file."""
    rows, fields = [], []
    for line in (CORPORA / "zeek/Baseline" / name).read_text().splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif not line.startswith("#"):
            rows.append(dict(zip(fields, line.split("\t"), strict=True)))
    return rows


def as_zeek(one: Entry, client: TlsClient, server: TlsServer) -> dict[str, str]:
    """A handshake in its words."""
    found = {
        "id.orig_p": str(one.src.port),
        "version": f"TLSv{server.version.replace('.', '')}",
        "cipher": server.cipher,
        "curve": server.group,
        "server_name": client.server_name,
        "resumed": "T" if server.resumed else "F",
        "last_alert": server.alert,
        "established": "T" if server.established else "F",
        "cert_chain_fps": ",".join(cert.sha256 for cert in server.certificates),
    }
    return {key: value or "-" for key, value in found.items()}


@pytest.mark.parametrize(
    ("log", "capture", "port"),
    [
        ("scripts.base.protocols.ssl.tls-1.2/ssl.log", "tls1.2.pcap", "56637"),
        ("scripts.base.protocols.ssl.ecdhe/ssl.log", "ecdhe.pcap", ""),
        ("scripts.base.protocols.ssl.tls13/ssl-out.log", "tls13_psk_succesfull.pcap", "54220"),
    ],
)
def test_zeek(log: str, capture: str, port: str) -> None:
    [theirs] = [row for row in zeek(log) if port in ("", row["id.orig_p"])]
    [ours] = [as_zeek(*one) for one in handshakes(f"zeek/Traces/tls/{capture}")]
    shared = {key: value for key, value in theirs.items() if key in ours}
    shared["version"] = shared["version"].replace("TLSv10", "TLSv10")
    assert {key: ours[key] for key in shared} == shared


@pytest.mark.parametrize(
    ("log", "capture"),
    [
        ("scripts.base.protocols.ssl.tls-1.2/x509.log", "tls1.2.pcap"),
        ("scripts.base.protocols.ssl.ecdhe/x509.log", "ecdhe.pcap"),
    ],
)
def test_certificates_of_zeek(log: str, capture: str) -> None:
    import datetime

    def seconds(text: str) -> str:
        return f"{datetime.datetime.fromisoformat(text.replace('Z', '+00:00')).timestamp():.6f}"

    [(_, _, server)] = handshakes(f"zeek/Traces/tls/{capture}")
    ours = {
        one.sha256: (one.serial.upper(), seconds(one.not_before), seconds(one.not_after),
                     ",".join(one.names) or "-", one.key.partition(" ")[2], common(one.subject))
        for one in server.certificates
    }  # fmt: skip
    theirs = {
        row["fingerprint"]: (
            row["certificate.serial"].lstrip("0"), row["certificate.not_valid_before"],
            row["certificate.not_valid_after"], row["san.dns"], row["certificate.key_length"],
            common(row["certificate.subject"].replace(", ", " ")),
        )
        for row in zeek(log)
    }  # fmt: skip
    assert ours == theirs


# ---------------------------------------------------------------- Packetbeat


@pytest.mark.parametrize(("golden", "capture"), [("tls_1_3-expected.json", "tls-version-13.pcap")])
def test_packetbeat(golden: str, capture: str) -> None:
    [theirs] = [
        one
        for one in json.loads((CORPORA / "packetbeat/golden" / golden).read_text())
        if one.get("event.dataset") == "tls"
    ]
    [(one, client, server)] = handshakes(f"packetbeat/pcaps/{capture}")
    ours = {
        "client.port": one.src.port,
        "tls.cipher": server.cipher,
        "tls.client.ja3": client.ja3,
        "tls.client.server_name": client.server_name,
        "tls.established": server.established,
        "tls.resumed": server.resumed,
        "tls.version": server.version,
        "tls.detailed.client_hello.extensions.application_layer_protocol_negotiation": client.alpn,
        "tls.detailed.client_hello.session_id": client.session_id,
        "tls.detailed.server_hello.session_id": server.session_id,
    }
    known = {key: theirs[key] for key in ours if key in theirs}
    assert len(known) > 6
    assert {key: ours[key] for key in known} == known
    listed = [name for name in theirs["tls.client.supported_ciphers"] if "unknown" not in name]
    assert [name for name in client.ciphers if name != "GREASE"] == listed


# ---------------------------------------------------------------- tshark

STARTTLS = {"arkime/mysql-tls.pcap", "packetbeat/pcaps/http_10_connection_close.pcap"}
"""MySQL and PostgreSQL say first in clear that TLS comes; nobody here dissects them yet."""


@pytest.fixture(scope="module")
def tshark() -> str:
    return which("tshark") or pytest.fail("tshark is needed: make tools")


@pytest.mark.parametrize("name", CAPTURES)
def test_every_capture_against_tshark(name: str, tshark: str) -> None:
    """The same connections are TLS, with the same fingerprints; nothing else is."""
    fields = ["tcp.stream", "tls.handshake.ja3", "tls.handshake.extensions_server_name"]
    command = [tshark, "-r", str(CORPORA / name), "-Y", "tls.handshake.type == 1 && tcp", "-T", "fields",
               "-E", "occurrence=f"]  # fmt: skip
    for field in fields:
        command += ["-e", field]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    theirs = sorted(line.split("\t")[1:] for line in output.splitlines())
    ours = sorted([client.ja3, client.server_name] for _, client, _ in handshakes(name))
    assert ours == ([] if name in STARTTLS else theirs)


JOINED = {"packetbeat/pcaps/http_basicauth.pcap": 2}
"""Flows that were captured from their middle on; tshark takes them for TLS, too."""


def test_no_flow_is_tls_without_a_handshake() -> None:
    """A flow is given to TLS for its hello, or where it was joined among records."""
    joined = {}
    for name in CAPTURES:
        engine, found = replayed(CORPORA / name)
        hellos = {one.flow.id for one in found if one.protocol == "tls"}
        if engine.ledger.flows.get("tls", 0) != len(hellos):
            joined[name] = engine.ledger.flows["tls"] - len(hellos)
    assert joined == JOINED
