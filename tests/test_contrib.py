"""The contributed plugins: each passes its own tests, is installed by pip, and reads what real servers say.

Nothing comes from the network. A server that is not installed is a visible skip, in CI a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from kit_captures import pcap

from kshark.api import ProtocolSpec, Side
from kshark.testing import converse, replay, rows

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "plugins_contrib"
PACKAGES = sorted(path.name for path in CONTRIB.iterdir() if (path / "pyproject.toml").exists())
C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]


def test_there_are_contributed_plugins() -> None:
    assert {"kshark-genai", "kshark-memcached", "kshark-mqtt", "kshark-scapy"} <= set(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_it_is_small_and_knows_the_public_face_alone(name: str) -> None:
    sources = [*(CONTRIB / name).glob("*.py"), *(CONTRIB / name / "tests").glob("*.py")]
    lines = [line for path in sources for line in path.read_text().splitlines()]
    assert len(lines) < 150
    for line in lines:
        if line.startswith(("from kshark.", "import kshark.")):
            assert line.split()[1].split(".")[1] in {"api", "grammar", "testing"}, line


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All packages, installed into a folder by pip."""
    target = tmp_path_factory.mktemp("site")
    sources = [tmp_path_factory.mktemp("src") / name for name in PACKAGES]
    for source in sources:  # pip leaves a build folder where it builds
        shutil.copytree(CONTRIB / source.name, source)
    options = "-q --no-deps --no-build-isolation --no-index --disable-pip-version-check --root-user-action=ignore"
    command = [sys.executable, "-m", "pip", "install", *options.split(), "--target", str(target)]
    done = subprocess.run(
        [*command, *map(str, sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("name", PACKAGES)
def test_its_own_tests_pass(name: str, installed: Path, tmp_path: Path) -> None:
    """With the package that pip installed: its folder is not there."""
    shutil.copytree(CONTRIB / name / "tests", tmp_path / "tests")
    shutil.copy(CONTRIB / name / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath="],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_has_installed_what_they_need(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not [line for line in done.stdout.splitlines() if line.startswith("kshark-")]


def kshark(installed: Path, *arguments: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "kshark", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout.strip()
    if text.startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines()]


def test_pip_installs_them_and_kshark_finds_them(installed: Path) -> None:
    found = {row["name"]: row for row in kshark(installed, "plugins", "--json")}
    for name in PACKAGES:
        short = name.removeprefix("kshark-")
        row = found[short]
        assert (row["distribution"], row["refused"], row["origin"]) == (name, None, "entry point")
        with (CONTRIB / name / "pyproject.toml").open("rb") as file:
            assert row["version"] == tomllib.load(file)["project"]["version"]


def test_an_installed_plugin_reads_a_capture(installed: Path, tmp_path: Path) -> None:
    talk = [(C, b"set a 0 0 1\r\nx\r\n"), (S, b"STORED\r\n")]
    path = pcap(tmp_path / "x.pcap", talk)
    [entry] = kshark(installed, "run", "-q", "--read", str(path), "--sink", "jsonl:-,full")
    assert entry["protocol"] == "memcached"
    assert entry["memcached"] == {
        "request": {"command": "set", "keys": ["a"], "value": "REDACTED"},
        "response": {"result": "STORED"},
    }


def test_an_enricher_adds_its_own_object(installed: Path, tmp_path: Path) -> None:
    body = b'{"model": "m-1", "messages": [{}], "stream": true}'
    ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = b'data: {"model": "m-1b", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    path = pcap(tmp_path / "x.pcap", [(C, ask + body), (S, head % len(answer) + answer)])
    [entry] = kshark(installed, "run", "-q", "--read", str(path), "--sink", "jsonl:-,full")
    assert entry["genai"] == {
        "operation": "completions", "model": "m-1", "answered_by": "m-1b", "stream": True,
        "messages": 1, "input_tokens": 3, "output_tokens": 4,
    }  # fmt: skip


# ---------------------------------------------------------------- real servers


def program(name: str) -> str:
    """Where it is; a visible skip where it is not, a failure in CI."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or missing(f"{name} is not installed")


def missing(text: str) -> NoReturn:
    """A visible skip, a failure in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """A server of our own until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def recorded(port: int, talk: Callable[[int], object]) -> Talk:
    """What both sides say on one connection, through a proxy that writes it down."""
    pieces: Talk = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket, side: Side) -> None:
        try:
            while data := source.recv(65_536):
                pieces.append((side, data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as upstream:
            other = threading.Thread(target=pump, args=(upstream, client, S))
            other.start()
            pump(client, upstream, C)
            other.join(10)

    thread = threading.Thread(target=serve)
    thread.start()
    talk(listener.getsockname()[1])
    thread.join(10)
    listener.close()
    return pieces


def spec_of(name: str) -> ProtocolSpec:
    """The plugin's spec, from its folder."""
    sys.path.insert(0, str(CONTRIB / f"kshark-{name}"))
    try:
        module = import_module(f"kshark_{name}")
    finally:
        sys.path.pop(0)
    spec: ProtocolSpec = module.register_protocols()[0]
    return spec


def test_memcached_as_it_speaks() -> None:
    port = free_port()

    def session(to: int) -> None:
        with socket.create_connection(("127.0.0.1", to)) as one:
            for ask in (b"set k 0 9 4\r\nabcd\r\n", b"gets k\r\n", b"get no\r\n", b"stats\r\n"):
                one.sendall(ask)
                one.recv(65_536)

    command = [program("memcached"), "-u", "nobody", "-l", "127.0.0.1", "-p", str(port)]
    with server(command, port):
        talk = recorded(port, session)
    assert rows(converse(spec_of("memcached"), talk)) == [
        "set k -> STORED [ok]", "gets k -> VALUE [ok]", "get no -> END [ok]", "stats -> STAT [ok]",
    ]  # fmt: skip


def test_mosquitto_as_it_speaks(tmp_path: Path) -> None:
    port = free_port()
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    publish = program("mosquitto_pub")

    def session(to: int) -> None:
        what = f"-h 127.0.0.1 -p {to} -i me -t a/b -m hello -q 2"
        subprocess.run([publish, *what.split()], check=True, timeout=10)

    with server([program("mosquitto"), "-c", str(settings)], port):
        talk = recorded(port, session)
    spec = spec_of("mqtt")
    entries = converse(spec, talk)
    assert rows(entries) == [
        "CONNECT me -> CONNACK [ok]", "PUBLISH a/b -> PUBREC [ok]", "PUBREL -> PUBCOMP [ok]", "DISCONNECT -> - [ok]",
    ]  # fmt: skip
    assert entries[1].request is not None
    assert spec.details is not None
    details = cast(Any, spec.details(entries[1].request))
    assert (details.topic, details.qos, details.payload) == ("a/b", 2, "hello")


@pytest.mark.live
def test_an_installed_plugin_is_seen_live(installed: Path, tmp_path: Path) -> None:
    """In a network of its own, which ends with its processes."""
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("needs root: it makes a network namespace")
    broker, publish = program("mosquitto"), program("mosquitto_pub")
    settings = tmp_path / "mosquitto.conf"
    settings.write_text("listener 1883 127.0.0.1\nallow_anonymous true\n")
    out, script = tmp_path / "out", """
        ip link set lo up
        "$1" -c "$2" & broker=$!
        "$3" -m kshark run --iface lo --sink "jsonl:$5,full" & watcher=$!
        until grep -q 'PUBLISH.*PUBACK' "$5"; do "$4" -h 127.0.0.1 -i me -t a/b -m 21.5 -q 1; sleep 0.1; done
        kill $watcher $broker
        wait $watcher
    """  # fmt: skip
    done = subprocess.run(
        ["unshare", "-n", "timeout", "60", "bash", "-c", script, "-", broker, settings, sys.executable, publish, out],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    published = [e["mqtt"] for e in found if e["request"] and e["request"]["verb"] == "PUBLISH"]
    assert "21.5" in [one["request"]["payload"] for one in published]
    assert "PUBACK" in [(one["response"] or {}).get("packet") for one in published]


# ---------------------------------------------------------------- others' captures


def corpora() -> Path:
    folder = Path(os.environ.get("KSHARK_CORPORA") or ROOT.parent / "shared" / "corpora")
    return folder if folder.exists() else missing(f"no corpora in {folder}")


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "capture", "verbs"),
    [
        ("memcached", "memcache_text_tcp_counter_ops", "set incr decr get quit"),
        ("memcached", "memcache_text_tcp_delete", "set delete get quit"),
        ("memcached", "memcache_text_tcp_stats", "set get stats quit"),
        ("mqtt", "mqtt_pub", "CONNECT PUBLISH PUBLISH"),
        ("mqtt", "mqtt_connect", "CONNECT"),
        ("scapy", "dns_google_com", "DNS"),
        ("scapy", "dns_txt", "DNS"),
        ("scapy", "dns_not_found", "DNS"),
    ],
)
def test_captures_of_others(name: str, capture: str, verbs: str) -> None:
    """Packetbeat's and DeepFlow's own tests name these commands."""
    spec = spec_of(name)
    [path] = corpora().glob(f"*/**/{capture}.pcap")
    entries = [e for e in replay(path, spec) if e.protocol == spec.name]
    own = [e.request.verb for e in entries if e.request is not None]
    assert own == verbs.split()
