"""Real servers and clients, nghttpd, nginx, curl, nghttp, h2load, through a recording proxy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit_captures import pcap
from kit_proxy import Chunk, Recorder

from kshark import limits
from kshark.api import Entry
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, http2
from kshark.protocols.http2.details import Http2Request, Http2Response
from kshark.testing import rows
from kshark.testing.play import MadeFlow, play
from kshark.wire import END_FIN

BIG = 300_000


def program(name: str) -> str:
    """The path of a program, or a visible skip; CI has all and fails."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def await_port(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the server does not listen")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("http2")
    (folder / "index.html").write_text("hello\n")
    (folder / "style.css").write_text("b{}\n")
    (folder / "big").write_bytes(b"0123456789" * (BIG // 10))
    return folder


@pytest.fixture(scope="module")
def nghttpd(files: Path) -> Iterator[int]:
    port = free_port()
    command = [program("nghttpd"), "--no-tls", "-d", str(files), "-p", "/index.html=/style.css"]
    server = subprocess.Popen(
        [*command, "--trailer", "x-end: yes", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        await_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def nginx(files: Path) -> Iterator[int]:
    port = free_port()
    conf = files / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {files}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {files}/t; proxy_temp_path {files}/p;\n"
        f" fastcgi_temp_path {files}/f; uwsgi_temp_path {files}/u; scgi_temp_path {files}/s;\n"
        f" server {{ listen 127.0.0.1:{port} http2; root {files}; }} }}\n"
    )
    os.chmod(files, 0o755)
    os.chmod(files.parent, 0o755)
    server = subprocess.Popen(
        [program("nginx"), "-c", str(conf), "-g", "user root;"], stderr=subprocess.DEVNULL
    )
    try:
        await_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def nghttpx(nghttpd: int, files: Path) -> Iterator[int]:
    """A proxy that agrees to an upgrade; what is behind it is nghttpd."""
    port = free_port()
    command = [program("nghttpx"), f"--conf={files}/nghttpx.conf", "--workers=1", "--errorlog-file=/dev/null",
               f"--backend=127.0.0.1,{nghttpd};;proto=h2", f"--frontend=127.0.0.1,{port};no-tls"]  # fmt: skip
    (files / "nghttpx.conf").touch()
    server = subprocess.Popen(command)
    try:
        await_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def haproxy(nghttpd: int, tmp_path: Path) -> Iterator[tuple[Recorder, Recorder]]:
    """haproxy between two recorders: what it hears as a server, and what it says as a client."""
    behind = Recorder(nghttpd)
    port = free_port()
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"frontend f\n bind 127.0.0.1:{port} proto h2\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{behind.port} proto h2\n"
    )
    server = subprocess.Popen(
        [program("haproxy"), "-f", str(conf), "-db", "-q"], stderr=subprocess.DEVNULL
    )
    try:
        await_port(port)
        before = Recorder(port)
        yield before, behind
    finally:
        server.terminate()
        server.wait(10)
        for recorder in (before, behind):
            recorder.close()


def run(*command: str) -> str:
    done = subprocess.run(
        [program(command[0]), *command[1:]], capture_output=True, timeout=60, text=True, check=False
    )
    time.sleep(0.1)  # the proxy's threads
    return done.stdout


def entries_of(talk: list[Chunk]) -> list[Entry]:
    """What the engine makes of a recorded connection, in the pieces that passed and in small ones."""
    said: list[str] = []
    whole = play(Engine([http.SPEC, http2.SPEC], EngineSettings(), said.append), http2.SPEC, talk)
    fine = [(side, piece[i : i + 40]) for side, piece in talk for i in range(0, len(piece), 40)]
    again = play(Engine([http.SPEC, http2.SPEC], EngineSettings(), said.append), http2.SPEC, fine)
    assert said == []
    assert rows(again) == rows(whole)
    return whole


@pytest.mark.parametrize("server", ["nghttpd", "nginx"])
def test_curl(server: str, request: pytest.FixtureRequest) -> None:
    recorder = Recorder(request.getfixturevalue(server))
    base = f"http://127.0.0.1:{recorder.port}"
    for path in ("style.css", "none", "big"):  # curl 7.88 asks once a connection
        run("curl", "-s", "--http2-prior-knowledge", f"{base}/{path}")
    recorder.close()
    found = [entry for talk in recorder.talks for entry in entries_of(talk)]
    assert rows(found) == [
        "GET /style.css -> 200 [ok]",
        "GET /none -> 404 [error]",
        "GET /big -> 200 [ok]",
    ]
    big = found[2].response
    assert big is not None
    assert http2.SPEC.details is not None
    shown = http2.SPEC.details(big)
    assert isinstance(shown, Http2Response)
    assert (shown.body_size, big.truncated) == (BIG, True)
    assert shown.server is not None
    assert shown.server.startswith(server)
    if server == "nghttpd":
        assert shown.trailers == [("x-end", "yes")]


def test_upload(nghttpd: int, files: Path) -> None:
    recorder = Recorder(nghttpd)
    url = f"http://127.0.0.1:{recorder.port}/style.css"
    run("curl", "-s", "--http2-prior-knowledge", "--data-binary", f"@{files}/big", url)
    recorder.close()
    (entry,) = entries_of(recorder.talks[0])
    assert entry.request is not None
    assert entry.request.verb == "POST"
    assert http2.SPEC.details is not None
    assert http2.SPEC.details(entry.request).body_size == BIG  # type: ignore[attr-defined]


def test_push(nghttpd: int) -> None:
    """nghttp asks for a page and is promised its style sheet."""
    recorder = Recorder(nghttpd)
    run("nghttp", "-n", f"http://127.0.0.1:{recorder.port}/index.html")
    recorder.close()
    found = entries_of(recorder.talks[0])
    assert sorted(rows(found)) == ["GET /index.html -> 200 [ok]", "GET /style.css -> 200 [ok]"]
    (pushed,) = [e.request for e in found if e.request and not e.request.key & 1]
    assert pushed.notes == ("pushed",)


def test_h2load(nginx: int) -> None:
    """2,000 calls over 4 connections, 50 streams at once: each paired, none lost."""
    recorder = Recorder(nginx)
    url = f"http://127.0.0.1:{recorder.port}/index.html"
    out = run("h2load", "-n", "2000", "-c", "4", "-m", "50", url)
    recorder.close()
    assert "2000 succeeded" in out
    found = [row for talk in recorder.talks for row in rows(entries_of(talk))]
    assert found.count("GET /index.html -> 200 [ok]") == 2000
    assert len(found) == 2000


def test_haproxy(haproxy: tuple[Recorder, Recorder], files: Path) -> None:
    """The same calls on both sides of it; it has an encoder and a table of its own."""
    before, _ = haproxy
    base = f"http://127.0.0.1:{before.port}"
    run(
        "nghttp",
        "-n",
        "-H",
        "x-long: " + "v" * 3_000,
        *(f"{base}/{one}" for one in ("big", "style.css", "none")),
    )
    run("nghttp", "-n", "-d", str(files / "big"), f"{base}/style.css")
    found = []
    for recorder in haproxy:
        time.sleep(0.1)
        talks = [talk for talk in recorder.talks if talk]
        found.append([entry for talk in talks for entry in entries_of(talk)])
    for entries in found:
        assert sorted(rows(entries))[:3] == [
            "GET /big -> 200 [ok]",
            "GET /none -> 404 [error]",
            "GET /style.css -> 200 [ok]",
        ]
        assert [e.request.verb for e in entries if e.request].count("POST") == 1
        assert http2.SPEC.details is not None
        for entry in entries:
            assert entry.request is not None
            shown = http2.SPEC.details(entry.request)
            assert isinstance(shown, Http2Request)
            assert shown.unknown_headers == 0
            assert shown.body_size == (BIG if shown.method == "POST" else 0)
    assert len(found[0]) == len(found[1]) == 4


# ---------------------------------------------------------------- the upgrade


def upgraded(nghttpx: int, *command: str) -> list[Chunk]:
    """What passes when a client asks HTTP/1 for h2c."""
    recorder = Recorder(nghttpx)
    run(*command, f"http://127.0.0.1:{recorder.port}/style.css")
    recorder.close()
    (talk,) = recorder.talks
    return talk


def told_by_tshark(capture: Path) -> list[tuple[str, str]]:
    """The requests and statuses of its connection, by stream; HTTP/1's request is stream 1's."""
    command = [program("tshark"), "-r", str(capture), "-T", "fields", "-Y", "http.request or http2.headers",
               "-e", "http.request.uri", "-e", "http2.streamid", "-e", "http2.headers.status"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        uri, stream, status = line.split("\t")
        found.append((uri, "1") if uri else (stream.rpartition(",")[2], status))
    return found


@pytest.mark.parametrize("client", [("curl", "-s", "--http2"), ("nghttp", "-u", "-n")])
def test_upgrade(nghttpx: int, tmp_path: Path, client: tuple[str, ...]) -> None:
    """The answer on stream 1 is the answer to what HTTP/1 asked; 101 was said in between."""
    talk = upgraded(nghttpx, *client)
    (entry,) = entries_of(talk)
    assert (entry.protocol, *rows([entry])) == ("http2", "GET /style.css -> 200 [ok]")
    assert entry.request is not None
    assert entry.response is not None
    assert (entry.request.notes, entry.response.notes) == (("interim-101",), ("upgraded",))
    assert entry.latency_ns is not None
    assert entry.latency_ns > 0
    assert http2.SPEC.details is not None
    asked, answered = http2.SPEC.details(entry.request), http2.SPEC.details(entry.response)
    assert isinstance(asked, Http2Request)
    assert isinstance(answered, Http2Response)
    assert (asked.stream, asked.method, answered.unknown_headers) == (1, "GET", 0)
    assert (answered.body, answered.trailers) == ("b{}\n", [("x-end", "yes")])
    told = told_by_tshark(pcap(tmp_path / "upgrade.pcap", talk))
    assert told == [("/style.css", "1"), ("1", "200")]


def test_options_before_an_upload(nghttpx: int, files: Path) -> None:
    """nghttp upgrades with ``OPTIONS *`` where there is something to send, and sends that on another stream."""
    found = entries_of(upgraded(nghttpx, "nghttp", "-u", "-n", "-d", str(files / "big")))
    asked = [one.request for one in found if one.request]
    assert [(one.verb, one.target) for one in asked] == [("OPTIONS", "*"), ("POST", "/style.css")]
    assert asked[0].key == 1
    assert all(one.response for one in found)


def test_a_download_that_takes_minutes(nghttpd: int) -> None:
    """Its pieces come a minute apart: the request waits, and has its answer in the end."""
    recorder = Recorder(nghttpd)
    run("curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{recorder.port}/big")
    recorder.close()
    engine = Engine([http2.SPEC], EngineSettings(), print)
    flow = MadeFlow(proto=6)
    guard = engine.open(flow)
    found = []
    for number, (side, piece) in enumerate(recorder.talks[0], 1):
        now = number * 2 * limits.UNANSWERED
        guard.chunk(int(side), piece, now)
        if number > 8:  # the answer has begun
            found += engine.tick(now + limits.UNANSWERED)
    guard.end(END_FIN, now)
    found += engine.take()
    assert rows(found) == ["GET /big -> 200 [ok]"]
