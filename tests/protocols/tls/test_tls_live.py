"""Real programs on a loopback: OpenSSL, curl, nginx, GnuTLS. What tshark reads of the same packets is read here."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_kit import NAME, folder
from tls_scene import Lab, Scene, need_root, program

import kshark
from kshark.api import Entry
from kshark.protocols.tls.details import TlsClient, TlsServer, details

pytestmark = pytest.mark.live

SUITES_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
             "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")  # fmt: skip
SUITES_12 = (
    "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-CHACHA20-POLY1305", "DHE-RSA-AES256-CCM8",
    "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA", "AES128-SHA",
    "AES256-SHA256", "AES128-GCM-SHA256", "AES256-CCM",
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All exchanges, recorded once."""
    need_root()
    with Lab() as lab:
        one = Scene(lab, tmp_path_factory.mktemp("tls"))
        with one.recorded():
            modern(one)
            older(one)
            certificates(one)
            retry(one)
            web(one)
            gnutls(one)
        yield one


def modern(one: Scene) -> None:
    """TLS 1.3."""
    ours, session = folder(), one.where / "session13"
    suites = ["-tls1_3", "-ciphersuites", ":".join(SUITES_13)]
    with one.serve(*suites) as port:
        for suite in SUITES_13:
            one.ask(port, suite, "-ciphersuites", suite)
        one.ask(port, "old", "-tls1_2")
        one.ask(port, "distrust13", "-verify_return_error", "-CAfile", ours / "stranger.pem")
        one.ask(port, "first13", "-sess_out", session)
        one.ask(port, "second13", "-sess_in", session)
        one.ask(port, "alpn13", "-alpn", "h2,http/1.1")


def older(one: Scene) -> None:
    """TLS 1.2, and what came before it."""
    ours, session = folder(), one.where / "session12"
    weak = "ALL:@SECLEVEL=0"
    with one.serve("-cipher", weak, "-no_tls1_3", "-dhparam", dh(one)) as port:
        for suite in SUITES_12:
            one.ask(port, suite, "-cipher", f"{suite}:@SECLEVEL=0")
        one.ask(port, "distrust12", "-verify_return_error", "-CAfile", ours / "stranger.pem")
        one.ask(port, "first12", "-sess_out", session)
        one.ask(port, "second12", "-sess_in", session)
        one.ask(port, "none", "-cipher", "PSK")
        one.ask(port, "tls11", "-tls1_1", "-cipher", weak)


def dh(one: Scene) -> Path:
    """A group of RFC 7919, which needs no time to find."""
    path = one.where / "dh.pem"
    if not path.exists():
        command = [program("openssl"), "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt",
                   "group:ffdhe2048", "-out", str(path)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return path


def certificates(one: Scene) -> None:
    """The server asks for one."""
    ours = folder()
    for version in ("12", "13"):
        asks = ["-Verify", 1, "-CAfile", ours / "ca.pem", "-verify_return_error"]
        with one.serve(f"-tls1_{version[1]}", *asks) as port:
            shows = ["-cert", ours / "client.pem", "-key", ours / "client.key"]
            one.ask(port, f"shown{version}", *shows)
            one.ask(port, f"missing{version}")


def retry(one: Scene) -> None:
    """The server wants another group."""
    with one.serve("-tls1_3", "-groups", "X25519") as port:
        one.ask(port, "retry", "-groups", "P-256:X25519")


def web(one: Scene) -> None:
    """curl and nginx, HTTP/1.1 and HTTP/2."""
    ours, port = folder(), one.port()
    root = one.where / "www"
    root.mkdir()
    root.chmod(0o755)
    (root / "page").write_text("hello\n" * 5000)
    (one.where / "nginx.conf").write_text(f"""
daemon off; master_process off; user root; pid {one.where}/nginx.pid; error_log stderr;
events {{}}
http {{ access_log off; client_body_temp_path {one.where}/b; proxy_temp_path {one.where}/p;
fastcgi_temp_path {one.where}/f; uwsgi_temp_path {one.where}/u; scgi_temp_path {one.where}/s;
server {{ listen 127.0.0.1:{port} ssl http2; root {root};
ssl_certificate {ours}/server.pem; ssl_certificate_key {ours}/server.key;
ssl_protocols TLSv1.2 TLSv1.3; ssl_early_data on; }} }}
""")
    with one.process(program("nginx"), "-c", one.where / "nginx.conf", "-e", "stderr"):
        one.listens(port)
        trust = [
            "--cacert",
            str(ours / "ca.pem"),
            "--resolve",
            f"{NAME}:{port}:127.0.0.1",
            "-s",
            "-S",
        ]
        for version in ("1.2", "1.3"):
            for http in ("--http1.1", "--http2"):
                url = f"https://{NAME}:{port}/page?{http[2:]}-{version}"
                one.run(
                    program("curl"), *trust, http, f"--tlsv{version}", "--tls-max", version, url
                )
        clear = one.run(program("curl"), "-s", "-k", "--http1.1", f"http://127.0.0.1:{port}/clear")
        assert b"400" in clear
        session, early = one.where / "session", one.where / "early"
        early.write_bytes(b"GET /early HTTP/1.0\r\n\r\n")
        one.ask(port, "page", "-tls1_3", "-sess_out", session)
        one.ask(port, "", "-tls1_3", "-sess_in", session, "-early_data", early, text=b"\r\n")


def gnutls(one: Scene) -> None:
    """Another library at the client, with ciphers MAC-then-encrypt."""
    ours = folder()
    with one.serve("-cipher", "ALL:@SECLEVEL=0") as port:
        for tag, priority in (
            ("gnutls13", "NORMAL:-VERS-ALL:+VERS-TLS1.3"),
            ("gnutls12", "NORMAL:-VERS-ALL:+VERS-TLS1.2"),
            (
                "gnutls-cbc",
                "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:+SHA256:+SHA1:%NO_ETM",
            ),
            ("gnutls-etm", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-CBC:+SHA1"),
        ):
            text = b"GET /%s HTTP/1.0\r\n\r\n" % tag.encode()
            one.run(
                program("gnutls-cli"), "--x509cafile", ours / "ca.pem", "--sni-hostname", NAME,
                "--verify-hostname", NAME, "-p", port, "--priority", priority, "127.0.0.1", text=text,
            )  # fmt: skip


# ---------------------------------------------------------------- what was read


@pytest.fixture(scope="module")
def found(scene: Scene) -> list[Entry]:
    return list(kshark.read(scene.capture, tls_keylog=scene.keys))


def handshake(found: list[Entry], tag: str) -> tuple[Entry, TlsClient, TlsServer]:
    """That of the connection on which `tag` was asked for."""
    inner = next(one for one in found if one.request and f"/{tag}" in one.request.target)
    return _of(next(one for one in found if _same(one, inner) and one.request.verb == "hello"))  # type: ignore[union-attr]


def _same(one: Entry, other: Entry) -> bool:
    return one.protocol == "tls" and one.src.port == other.src.port


def _of(one: Entry) -> tuple[Entry, TlsClient, TlsServer]:
    assert one.request is not None
    assert one.response is not None
    client, server = details(one.request), details(one.response)
    assert isinstance(client, TlsClient)
    assert isinstance(server, TlsServer)
    return one, client, server


@pytest.mark.parametrize("suite", SUITES_13)
def test_ciphers_of_13(found: list[Entry], suite: str) -> None:
    _, _, server = handshake(found, suite)
    assert (server.version, server.cipher, server.subject) == ("1.3", suite, f"CN={NAME}")


@pytest.mark.parametrize("suite", SUITES_12)
def test_ciphers_of_12(found: list[Entry], suite: str) -> None:
    _, _, server = handshake(found, suite)
    assert server.version == "1.2"
    assert server.established


@pytest.mark.parametrize("tag", ["gnutls13", "gnutls12", "gnutls-cbc", "gnutls-etm"])
def test_gnutls(found: list[Entry], tag: str) -> None:
    one, client, server = handshake(found, tag)
    assert (client.server_name, server.version) == (NAME, "1.3" if "13" in tag else "1.2")
    assert one.outcome == "ok"


@pytest.mark.parametrize("version", ["12", "13"])
def test_resumption(found: list[Entry], version: str) -> None:
    assert not handshake(found, f"first{version}")[2].resumed
    assert handshake(found, f"second{version}")[2].resumed


def test_early_data(found: list[Entry]) -> None:
    one, client, server = handshake(found, "early")
    assert (client.early_data, server.early_data, server.resumed) == (True, True, True)
    assert one.response is not None
    assert "early-data" in one.response.notes


@pytest.mark.parametrize("version", ["12", "13"])
def test_certificates_of_clients(found: list[Entry], version: str) -> None:
    _, _, server = handshake(found, f"shown{version}")
    assert [one.subject for one in server.client_certificates][:1] == ["CN=a client"]


def test_another_group(found: list[Entry]) -> None:
    _, client, server = handshake(found, "retry")
    assert client.key_shares == ["secp256r1"]
    assert (server.hello_retry, server.retry_group, server.group) == (True, "x25519", "x25519")


def test_what_failed(found: list[Entry]) -> None:
    alerts = [(one.response.target, one.response.status) for one in found
              if one.protocol == "tls" and one.response is not None and not one.response.ok]  # fmt: skip
    assert sorted(alerts) == [
        ("handshake_failure", 40), ("handshake_failure", 40), ("protocol_version", 70),
        ("unknown_ca", 48), ("unknown_ca", 48),
    ]  # fmt: skip
    later = [
        one.request for one in found if one.request is not None and one.request.verb == "alert"
    ]
    assert [(one.target, one.status) for one in later] == [("certificate_required", 116)]


def test_what_is_older_stays_closed(found: list[Entry]) -> None:
    reasons = {one.flow.reason for one in found if one.protocol == "tcp"}
    assert "a version before 1.2, which is not decrypted" in reasons


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_web(found: list[Entry], version: str) -> None:
    for http, protocol, alpn in (("http1.1", "http", "http/1.1"), ("http2", "http2", "h2")):
        target = f"/page?{http}-{version}"
        inner = next(one for one in found if one.request and one.request.target.endswith(target))
        assert (inner.protocol, inner.response.status) == (protocol, 200)  # type: ignore[union-attr]
        assert (inner.src.name, inner.dst.name) == (None, NAME)
        assert inner.response.size > 30_000  # type: ignore[union-attr]
        _, client, server = handshake(found, f"page?{http}-{version}")
        assert (client.server_name, server.alpn, server.version) == (NAME, alpn, version)


# ---------------------------------------------------------------- tshark


def tshark(scene: Scene, shown: str, *fields: str) -> list[list[str]]:
    """Fields of the packets that match, by tshark with the same key log."""
    command = [program("tshark"), "-r", str(scene.capture), "-o", f"tls.keylog_file:{scene.keys}", "-2",
               "-Y", shown, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"]  # fmt: skip
    for field in fields:
        command += ["-e", field]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in output.splitlines()]


def test_hellos_against_tshark(scene: Scene, found: list[Entry]) -> None:
    theirs = tshark(
        scene, "tls.handshake.type == 1", "tcp.srcport", "tls.handshake.ja3", "tls.handshake.random",
        "tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str",
    )  # fmt: skip
    ours = []
    for one in found:
        if one.protocol == "tls" and one.request is not None and one.request.verb == "hello":
            client = details(one.request)
            assert isinstance(client, TlsClient)
            alpn = ",".join(client.alpn)
            ours.append([str(one.src.port), client.ja3, client.random, client.server_name, alpn])
    first: dict[str, list[str]] = {}
    for row in theirs:  # the second hello of a connection belongs to the same handshake
        first.setdefault(row[0], row)
    assert len(ours) > 30
    assert ours == list(first.values())


def test_answers_against_tshark(scene: Scene, found: list[Entry]) -> None:
    theirs = tshark(
        scene, "tls.handshake.type == 2", "tcp.dstport", "tls.handshake.ja3s", "tls.handshake.ciphersuite",
    )  # fmt: skip
    last = {row[0]: row for row in theirs}
    from kshark.protocols.tls.ciphers import CIPHERS

    ours = {}
    for one in found:
        if one.protocol == "tls" and one.response is not None:
            server = details(one.response)
            assert isinstance(server, TlsServer)
            if server.cipher:
                ours[str(one.src.port)] = [str(one.src.port), server.ja3s, server.cipher]
    assert ours == {
        port: [port, ja3s, CIPHERS[int(cipher.split(",")[-1], 16)]]
        for port, ja3s, cipher in last.values()
    }


def test_requests_inside_against_tshark(scene: Scene, found: list[Entry]) -> None:
    theirs = tshark(scene, "http.request && tls", "tcp.srcport", "http.request.uri")
    theirs = [row for row in theirs if row[1] != "/tls11"]  # it opens what is older, too
    ours = [[str(one.src.port), one.request.target] for one in found
            if one.protocol == "http" and one.request is not None and one.flow.reason.startswith("in tls")]  # fmt: skip
    assert len(ours) > 25
    assert ours == theirs


def test_without_the_key_log(scene: Scene) -> None:
    found = list(kshark.read(scene.capture))
    assert {one.protocol for one in found} == {"tls", "tcp", "http"}
    assert [one.flow.reason for one in found if one.protocol == "http"] == ["prefix b'GET /cle'"]
    alerts = {one.response.target for one in found if one.protocol == "tls" and one.response}
    assert "unknown_ca" in alerts


# ---------------------------------------------------------------- live


def test_live_with_a_key_log_that_grows(scene: Scene) -> None:
    """The backend of live traffic, while a client writes its secrets."""
    out = scene.where / "live.ndjson"
    command = [
        program("env"), f"PATH={Path(__import__('sys').executable).parent}:/usr/bin:/bin", "python", "-m", "kshark",
        "run", "--backend", "af_packet", "--iface", "lo", "--sink", f"jsonl:{out},full", "--tls-keylog",
        scene.keys, "--count", "4",
    ]  # fmt: skip
    with scene.serve("-tls1_3") as port, scene.process(*command) as process:
        end = time.monotonic() + 30
        while process.poll() is None:
            assert time.monotonic() < end, (scene.where / "output").read_text()
            scene.ask(port, "live")
            time.sleep(0.1)
    shown: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    shown = [one for one in shown if not one["midstream"]]  # the capture may open within one
    assert {one["protocol"] for one in shown} == {"tls", "http"}
    [page] = [one for one in shown if one["protocol"] == "http"][:1]
    assert page["request"]["target"] == "/live"
    [first] = [one for one in shown if one["protocol"] == "tls"][:1]
    assert first["tls"]["response"]["subject"] == f"CN={NAME}"
