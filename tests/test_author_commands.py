"""The author's commands from outside: flows, new-plugin, dissect --explain and --watch, fuzz, verify."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from kit_captures import FRAMES, PINGS, C, S, pcap

from kshark import cli, cli_watch, guess, talk
from kshark.api import PluginError, Side

Capture = pytest.CaptureFixture[str]

PLUGIN = """
from typing import Annotated
from kshark.api import *
class Req(Details):
    key: Annotated[str, doc("The key")] = ""
class Toy(Framed):
    def parse(self, side):
        while True:
            line = yield b"\\r\\n"
            head = line.split()[0].decode("latin-1") if line.split() else ""
            yield Message(Kind(1 + side), head, line[5:].decode("latin-1").strip(), body=line)
def details(message):
    return Req(key=message.target)
@hookimpl
def register_protocols():
    return [ProtocolSpec(name="toy", dissector=Toy, request=Req, response=Req, details=details, ports=(47,))]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "toy.py"
    path.write_text(PLUGIN)
    return str(path)


def said(capfd: Capture, code: int, *arguments: str) -> tuple[str, str]:
    got = cli.main(arguments)
    out, err = capfd.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return out, err


# ---------------------------------------------------------------- flows


def test_flows_are_listed_in_order(tmp_path: Path, capfd: Capture) -> None:
    path = pcap(tmp_path / "x.pcap", PINGS, FRAMES)
    out, _ = said(capfd, 0, "flows", str(path), "--json")
    one, other = json.loads(out)
    assert (one["flow"], one["client"], one["server"]) == (1, "10.0.0.1:40000", "10.0.0.2:47")
    assert (one["bytes"], one["protocol"]) == ({"client": 15, "server": 20}, "redis")
    assert (other["flow"], other["protocol"], other["reason"]) == (2, None, "no dissector matched")
    out, _ = said(capfd, 0, "flows", str(path))
    assert "15 > 20 <" in out


def test_the_bytes_of_a_flow_are_a_conversation(tmp_path: Path, capfd: Capture) -> None:
    path = pcap(tmp_path / "x.pcap", PINGS, FRAMES)
    out, _ = said(capfd, 0, "flows", str(path), "--flow", "2")
    assert talk.parse(out).pieces == FRAMES
    assert out.startswith("# flow 2 (")
    flow_id = re.findall(r"\(([0-9a-f]{16})\)", out)[0]
    assert said(capfd, 0, "flows", str(path), "--flow", flow_id)[0] == out
    _, err = said(capfd, 2, "flows", str(path), "--flow", "3")
    assert "has no flow '3': kshark flows lists them" in err


# ---------------------------------------------------------------- guess


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (PINGS, guess.Lines(b"\r\n", 4)),
        (FRAMES, guess.Lengths(0, 2, "big", 2, 4)),
        (
            [(side, b"\7" + bytes((len(d), 0, 0, 0)) + d) for side, d in PINGS],
            guess.Lengths(1, 4, "little", 5, 4),
        ),
        ([(C, b"\xff" * 7), (S, b"\xfe" * 9)], None),
        ([], None),
    ],
)
def test_the_framing_is_guessed(
    frames: list[tuple[Side, bytes]], found: guess.Guess | None
) -> None:
    assert guess.guess(frames) == found


# ---------------------------------------------------------------- new-plugin


def own_tests(folder: Path) -> str:
    """Run the tests of a new plugin as its author would."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("style", ["--binary", "--line", "--construct"])
def test_a_new_plugin_passes_its_tests(
    style: str, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = said(capfd, 0, "new-plugin", "my-own", style)
    assert err == ""
    assert "cd kshark-my-own && pytest" in out
    folder = tmp_path / "kshark-my-own"
    assert "1 passed" in own_tests(folder)
    case = (folder / "tests/cases/example.txt").read_text()
    assert len(talk.parse(case).rows) == 2
    out, _ = said(
        capfd, 0, "protocols", "--plugin", str(folder / "kshark_my_own.py"), "--json",
    )  # fmt: skip
    [mine] = [row for row in json.loads(out) if row["name"] == "my-own"]
    assert mine["fields"]["request"]


def test_a_new_enricher_passes_its_tests(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = said(capfd, 0, "new-plugin", "my-own", "--enricher")
    assert err == ""
    assert "an enricher. Now: cd kshark-my-own && pytest" in out
    folder = tmp_path / "kshark-my-own"
    assert "9 passed" in own_tests(folder)
    module = str(folder / "kshark_my_own.py")
    out, _ = said(capfd, 0, "plugins", "--plugin", module, "--json")
    assert "enricher my-own" in out
    said(capfd, 0, "fields", "--plugin", module, "my-own")


def test_a_new_plugin_leaves_nothing_else(tmp_path: Path) -> None:
    for command in (
        ["new-plugin", "mine", "--construct"],
        ["fuzz", "--protocol", "redis", "--bytes", "2KB"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "kshark", *command],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == ["kshark-mine"]
    assert ".hypothesis" not in os.listdir(tmp_path / "kshark-mine")


def test_a_new_plugin_begins_with_real_bytes(tmp_path: Path, capfd: Capture) -> None:
    path = pcap(tmp_path / "x.pcap", FRAMES)
    folder = tmp_path / "mine"
    out, err = said(
        capfd, 0, "new-plugin", "mine", "--from", str(path), "--flow", "1", "--into", str(folder)
    )
    assert err == ""
    assert "guessed a big-endian length of 2 bytes at offset 0, plus 2: so end 4 of 4 chunks" in out
    script = talk.parse((folder / "tests/cases/flow-1.txt").read_text())
    assert script.pieces == FRAMES
    assert script.rows == ["op1 -> op1 [ok]", "op2 -> op2 [ok]"]
    assert "ports=(47,)" in (folder / "kshark_mine.py").read_text()
    own_tests(folder)


def test_bytes_that_nobody_understands_yet_are_a_case_all_the_same(
    tmp_path: Path, capfd: Capture
) -> None:
    path = pcap(tmp_path / "x.pcap", [(C, b"\xff" * 7), (S, b"\xfe" * 9)])
    folder = tmp_path / "mine"
    out, err = said(
        capfd, 0, "new-plugin", "mine", "--from", str(path), "--flow", "1", "--into", str(folder)
    )
    assert "how flow 1 is framed is yours to find out" in out
    assert "nothing is expected of flow-1 yet" in err
    assert talk.parse((folder / "tests/cases/flow-1.txt").read_text()).rows == []
    own_tests(folder)


def test_what_new_plugin_refuses(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(pcap(tmp_path / "x.pcap", PINGS, FRAMES))
    for arguments, text in (
        (["Mine!"], "is no name for a protocol"),
        (["tcp"], "is no name for a protocol"),
        (["class"], "is no name for a protocol"),
        (["http"], "there is a protocol 'http' already"),
        (
            ["mine", "--from", path],
            "say which flow with --flow N: 1: 10.0.0.1:40000 -> 10.0.0.2:47, 35 bytes; 2:",
        ),
        (["mine", "--from", path, "--flow", "9"], "has no flow '9'"),
        (["mine", "--from", "no.pcap"], "no.pcap"),
        (["mine", "--into", str(tmp_path)], "is there already"),
        (["graphql", "--enricher"], "there is a protocol 'graphql' already"),
        (["mine", "--enricher", "--from", path], "--from FILE is for protocols"),
    ):
        _, err = said(capfd, 2, "new-plugin", *arguments)
        assert text in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "kshark-mine").exists()


# ---------------------------------------------------------------- dissect


def dissected(plugin: str, stdin: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kshark", "dissect", "--plugin", plugin, "--protocol", "toy", *arguments],
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_byte_is_explained(plugin: str) -> None:
    out = dissected(plugin, '> "GET  key\\r\\n" \n> "SET  k\\r\\n"\n', "--hex", "--explain")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "> request GET key 10 bytes"
    assert lines[1] == "000000  47 45 54 20 20 6b 65 79 0d 0a                    GET  key.."
    assert lines[2:4] == ["pieces", r'line  0..10       "GET  key\r\n"']
    assert lines[4:6] == ["details", "key  5..8        key"]
    assert r'line  0..8        "SET  k\r\n"' in lines


PIN = """
from typing import Annotated
from kshark.api import *
class Inner(Details):
    pin: Annotated[int, doc("The PIN")] = 0
class Req(Details):
    pin: Annotated[KIND | None, doc("The PIN", redact=Redact.VALUE)] = None
class Toy(Framed):
    def parse(self, side):
        while True:
            line = yield b"\\n"
            yield Message(Kind.REQUEST, "PIN", head=line, size=len(line))
def details(message):
    return Req(pin=VALUE)
@hookimpl
def register_protocols():
    return [ProtocolSpec(name="toy", dissector=Toy, magic=(b"PIN ",), request=Req, response=Req, details=details)]
"""


GRAMMAR = """
from typing import Annotated
import construct as c
from kshark.api import *
from kshark.grammar import Grammar, LengthPrefix
Login = c.Struct("user" / c.PascalString(c.Byte, "utf8") * "u", "password" / c.PascalString(c.Byte, "utf8") * "p")
Packet = c.Struct(
    "length" / c.Byte * "l", "op" / c.Byte * "o", "more" / c.If(c.this.op > 9, c.Byte) * "m",
    "body" / c.Switch(c.this.op, {1: Login}, default=c.Error) * "b",
)
GIVEN
@hookimpl
def register_protocols():
    return [Grammar("toy", Packet, LengthPrefix(1), verb="op", **MORE).spec()]
"""
DERIVED = 'MORE = {"redact": {"body.password": Redact.VALUE}}'
TYPED = """
class Own(Details):
    op: Annotated[int, doc("o")] = 0
    gone: Annotated[int | None, doc("g")] = None
    upper: Annotated[str, doc("u", redact=Redact.VALUE)] = ""
MORE = {"request": Own, "values": lambda m: {"op": m.op, "upper": m.body.password}}
"""


@pytest.mark.parametrize("given", [DERIVED, TYPED], ids=["derived", "typed"])
def test_a_grammars_fields_are_explained_once_and_secrets_hidden(
    given: str, tmp_path: Path
) -> None:
    path = tmp_path / "toy.py"
    path.write_text(GRAMMAR.replace("GIVEN", given))
    talk = "> 0c 01 03 61 6e 6e 06 67 65 68 65 69 6d\n"
    out = dissected(str(path), talk, "--hex", "--explain")
    assert "geheim" not in out
    assert "67 65" not in out
    assert "0c 01 03 61 6e 6e" in out
    assert "None" not in out
    assert len(re.findall(r"^ +op +", out, re.M)) == 1
    assert len(re.findall(r"^ +length +", out, re.M)) == 1
    assert "more" not in out
    if given == TYPED:
        assert re.search(r"details\n +upper +REDACTED", out)
    else:
        assert "details" not in out
        assert re.search(r"password +6..13 +REDACTED", out)
    assert "geheim" in dissected(str(path), talk, "--hex", "--explain", "--no-redact")
    assert "geheim" not in dissected(str(path), talk, "--hex", "--full", "--json")
    assert "geheim" in dissected(str(path), talk, "--hex", "--full", "--json", "--no-redact")


def test_secrets_of_any_dissector_are_hidden_in_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(PLUGIN.replace('doc("The key")', 'doc("The key", redact=Redact.VALUE)').replace(
        "details=details", "details=details, target_redact=Redact.VALUE"
    ))  # fmt: skip
    out = dissected(str(path), '> "GET  geheim\\r\\n"\n', "--hex", "--explain")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "> request GET REDACTED 13 bytes"
    assert lines[1] == "000000  47 45 54 20 20 -- -- -- -- -- -- 0d 0a           GET  ******.."
    assert lines[3] == r'line  0..13       "GET  ******\r\n"'
    assert lines[5] == "key              REDACTED"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "int(message.head.split()[1])"),
        ("list[int]", "[int(message.head.split()[1])]"),
        ("set[str]", "{message.head.split()[1].decode()}"),
        ("bytes", "message.head.split()[1]"),
        ("Inner", "Inner(pin=int(message.head.split()[1]))"),
    ],
)
def test_a_secret_of_any_type_is_hidden_in_the_bytes(kind: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "pin.py"
    path.write_text(PIN.replace("KIND", kind).replace("pin=VALUE", f"pin={value}"))
    out = dissected(str(path), '> "PIN 4711 a\\n"\n', "--hex", "--explain")
    assert "4711" not in out
    assert "34 37" not in out
    assert ("50 49 4e 20 -- -- -- -- 20 61" in out) == (kind in ("set[str]", "bytes"))
    assert "4711" in dissected(
        str(path), '> "PIN 4711 a\\n"\n', "--hex", "--explain", "--no-redact"
    )


def test_who_has_read_enough_is_no_mistake_of_the_dissector(plugin: str) -> None:
    script = '"$0" -m kshark dissect --plugin "$1" --protocol toy --hex | head -1'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, plugin],
        input='> "PING\\r\\n"\n' * 20_000, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("> request PING")
    assert done.stderr == ""


def test_a_hole_is_played(plugin: str) -> None:
    out = dissected(plugin, '> "GET  k\\r\\n"\n> lost 5\n', "--hex")
    assert out == "> request GET k 8 bytes\n"


def test_watch_runs_again_when_the_file_changes(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "x.py"
    path.write_text("1")
    runs: list[str] = []

    def once() -> int:
        runs.append(path.read_text())
        if len(runs) == 2:
            raise PluginError("half written")
        return 0

    def pause(seconds: float) -> None:
        if len(runs) == 3:
            raise KeyboardInterrupt
        path.write_text(f"{len(runs) + 1}")
        os.utime(path, ns=(time.time_ns(), len(runs) * 10**9))

    assert cli_watch.again_and_again([str(path)], once, pause) == 0
    assert runs == ["1", "2", "3"]
    assert "half written" in capfd.readouterr().err
    with pytest.raises(PluginError, match="--watch needs --plugin"):
        cli_watch.again_and_again([], once)
    assert cli_watch.stamps(["/nonexistent"]) == [(0, 0)]


# ---------------------------------------------------------------- fuzz


def test_fuzz_finds_and_writes_what_replays(tmp_path: Path, plugin: str) -> None:
    Path(plugin).write_text(PLUGIN.replace("line.split()[0]", "line.split(b' ')[1]"))
    case = tmp_path / "one.txt"
    case.write_text('> "GET  key\\r\\n"\n< "OK  x\\r\\n"\n')
    command = [sys.executable, "-m", "kshark", "fuzz", "--plugin", plugin, "--protocol", "toy"]
    command += [
        "--seeds",
        str(case),
        "--bytes",
        "50K",
        "--seconds",
        "20",
        "--out",
        str(tmp_path / "found"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "exception: IndexError: list index out of range" in done.stderr
    assert re.search(r"[\d,]+ inputs, .* 1 findings", done.stdout)
    [found] = (tmp_path / "found").iterdir()
    assert found.name.startswith("toy-exception-")
    assert talk.parse(found.read_text()).pieces


def test_fuzz_of_a_good_one_ends_well(tmp_path: Path, plugin: str) -> None:
    capture = pcap(tmp_path / "x.pcap", PINGS)
    command = [sys.executable, "-m", "kshark", "fuzz", "--plugin", plugin, "--protocol", "toy"]
    done = subprocess.run(
        [*command, "--seeds", str(capture), "--bytes", "200K"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


guided = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: pip install atheris"
)


@guided
def test_coverage_leads_to_a_finding(tmp_path: Path, plugin: str) -> None:
    Path(plugin).write_text(PLUGIN.replace("line.split()[0]", "line.split(b' ')[1]"))
    case, out = tmp_path / "one.txt", tmp_path / "found"
    case.write_text('> "GET  key\\r\\n"\n< "OK  x\\r\\n"\n')
    command = [sys.executable, "-m", "kshark", "fuzz", "--plugin", plugin, "--protocol", "toy"]
    command += ["--seeds", str(case), "--seconds", "60", "--out", str(out), "--atheris"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    [found] = out.iterdir()
    assert line.startswith(f"kshark: {found}: exception: IndexError")
    assert talk.parse(found.read_text()).pieces
    assert re.search(r"[\d,]+ inputs, .* 1 findings", done.stdout)


@guided
@pytest.mark.parametrize("bound", [("--seconds", "2"), ("--bytes", "20K")])
def test_built_in_dissectors_are_followed_as_plain_python(
    tmp_path: Path, bound: tuple[str, str]
) -> None:
    case = tmp_path / "one.txt"
    case.write_text('> "GET / HTTP/1.1\\r\\n\\r\\n"\n< "HTTP/1.1 204 No\\r\\n\\r\\n"\n')
    command = [sys.executable, "-m", "kshark", "fuzz", "--protocol", "http", "--atheris", *bound]
    command += ["--seeds", str(case), "--seed", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"[\d,]+ inputs, .* 0 findings", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--protocol", "rediss"], "did you mean redis?"),
        (["--protocol", "redis", "--seconds", "soon"], "is not a time"),
        (["--protocol", "redis", "--bytes", "0"], "would never end"),
        (["--protocol", "redis", "--seeds", "no.txt"], "--seeds no.txt"),
    ],
)
def test_what_fuzz_refuses(arguments: list[str], text: str, capfd: Capture) -> None:
    _, err = said(capfd, 2, "fuzz", *arguments)
    assert text in err


# ---------------------------------------------------------------- verify

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None and os.environ.get("CI") != "true",
    reason="tshark is not installed",
)
HTTP = [
    (C, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (S, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (C, b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"),
    (S, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
]
REDIS = [(C, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"), (S, b"$-1\r\n+PONG\r\n")]


@needs_tshark
def test_both_say_the_same(tmp_path: Path, capfd: Capture) -> None:
    path = str(pcap(tmp_path / "x.pcap", HTTP, REDIS))
    out, _ = said(capfd, 0, "verify", path)
    assert "http: 4 messages are the same, 0 differ" in out
    assert "redis: 2 messages are the same, 0 differ" in out


@needs_tshark
def test_a_difference_has_a_verdict(tmp_path: Path, plugin: str, capfd: Capture) -> None:
    """The toy claims what is HTTP, with other verbs: tshark's words stand beside ours."""
    path = str(pcap(tmp_path / "x.pcap", HTTP))
    fields = tmp_path / "map.toml"
    fields.write_text(
        '[toy]\nfilter = "http"\nrequest = {present = "http.request.method", fields = {verb = "http.request.method"}}\n'
    )
    arguments = ["verify", path, "--protocol", "toy", "--plugin", plugin, "--map", str(fields)]
    out, _ = said(capfd, 1, *arguments, "--assume", "47=toy")
    assert "toy: 2 messages are the same, " in out
    assert "only kshark: 10.0.0.1:40000 -> 10.0.0.2:47 request" in out
    out, _ = said(capfd, 1, *arguments)
    assert "only tshark" in out
    assert "likely wrong: kshark: it took the flow for http: prefix" in out
    out, _ = said(capfd, 1, *arguments, "--json")
    [result] = json.loads(out)
    assert {one["wrong"] for one in result["differences"]} == {"kshark"}


@needs_tshark
def test_a_plugin_brings_its_own_mapping(tmp_path: Path, plugin: str, capfd: Capture) -> None:
    Path(plugin).write_text(
        PLUGIN + 'TSHARK = {"filter": "http", "request": {"present": "http.nothing"}}\n'
    )
    path = str(pcap(tmp_path / "x.pcap", HTTP))
    _, err = said(capfd, 2, "verify", path, "--protocol", "toy", "--plugin", plugin)
    assert "tshark (toy)" in err
    assert "http.nothing" in err


MODBUS = """
import construct as c
from kshark.api import *
from kshark.grammar import Grammar, LengthPrefix
Packet = c.Struct("id" / c.Int16ub, c.Const(0, c.Int16ub), "length" / c.Int16ub, "unit" / c.Byte,
                  "code" / c.Byte, "rest" / c.GreedyBytes)
SPEC = Grammar("toy", Packet, LengthPrefix(2, at=4, adjust=6), key=lambda m: m.id + 1, status="code",
               verb=lambda m: {3: "READ"}.get(m.code, "OTHER")).spec()
@hookimpl
def register_protocols():
    return [SPEC]
TSHARK = {
    "filter": "mbtcp",
    "port_preference": "mbtcp.tcp.port",
    "request": {
        "present": "modbus.func_code", "sent_by": "client", "fields": {"verb": "modbus.func_code"},
        "values": {"verb": {"3": "READ", "4": "OTHER"}},
    },
    "response": {"present": "modbus.func_code", "sent_by": "server", "fields": {"status": "modbus.func_code"}},
}
"""


@needs_tshark
def test_a_grammars_mapping_tells_the_sides_apart_and_translates(
    tmp_path: Path, capfd: Capture
) -> None:
    """Both sides have the same fields; the mapping stands beside the grammar, whose details are derived."""
    plugin = tmp_path / "toy.py"
    plugin.write_text(MODBUS)
    talk = [
        (C, bytes.fromhex("0001 0000 0006 01 03 0000 0001")),
        (S, bytes.fromhex("0001 0000 0005 01 03 02 0001")),
        (C, bytes.fromhex("0002 0000 0006 01 04 0000 0001")),
        (S, bytes.fromhex("0002 0000 0003 01 84 02")),
    ]
    path = str(pcap(tmp_path / "x.pcap", talk))
    arguments = ["verify", path, "--protocol", "toy", "--plugin", str(plugin), "--assume", "47=toy"]
    out, _ = said(capfd, 1, *arguments)
    assert "toy: 3 messages are the same, 1 differ" in out  # tshark's code has no 0x80
    plugin.write_text(MODBUS.replace('status="code"', "status=lambda m: m.code & 127"))
    out, _ = said(capfd, 0, *arguments)
    assert "toy: 4 messages are the same, 0 differ" in out
    plugin.write_text(plugin.read_text().replace(', "4": "OTHER"', ""))
    out, _ = said(capfd, 1, *arguments)
    assert (
        "only kshark: 10.0.0.1:40000 -> 10.0.0.2:47 request" in out
    )  # 4 is none, as the mapping has it


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[http\n", "--map"),
        ("[htp]\n", "no protocol 'htp'"),
        ("[http]\n", "missing required field `filter`"),
        ("[http]\nfilter = 'http'\nrequests = {}\n", "unknown field `requests`"),
    ],
)
def test_a_wrong_mapping_is_one_line(text: str, told: str, tmp_path: Path, capfd: Capture) -> None:
    fields = tmp_path / "map.toml"
    fields.write_text(text)
    path = str(pcap(tmp_path / "x.pcap", HTTP))
    _, err = said(capfd, 2, "verify", path, "--protocol", "http", "--map", str(fields))
    assert told in err
    _, err = said(capfd, 2, "verify", path, "--map", "/nonexistent")
    assert "--map /nonexistent" in err


# ---------------------------------------------------------------- what a newcomer would otherwise search for


@pytest.mark.parametrize("group", ["kshark.plugins", "kshark_plugins", "Kshark"])
def test_a_group_that_is_nearly_ours_is_pointed_out(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    info = tmp_path / "kshark_near-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kshark-near\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nnear = kshark_near\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    out, err = said(capfd, 0, "plugins", "--json")
    assert f"kshark-near: its entry point 'near' is in the group '{group}' and is not loaded" in err
    assert "the group must be exactly 'kshark'" in err
    assert all(row["name"] != "near" for row in json.loads(out))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("grpc", "it comes in http2 or http: say that"),
        ("tcp", "it is what nobody dissects"),
        ("gprc", "did you mean grpc?"),
    ],
)
def test_what_has_no_dissector_is_the_users_mistake(
    name: str, why: str, tmp_path: Path, capfd: Capture
) -> None:
    """And of no plugin's; nor is it passed over in silence."""
    path = str(pcap(tmp_path / "x.pcap", PINGS))
    dissect = [] if name == "grpc" else [["dissect", "--protocol", name]]  # which follows layers
    for arguments in (*dissect, ["run", "--read", path, "--assume", f"47={name}"]):
        _, err = said(capfd, 2, *arguments)
        assert err.startswith("kshark: --")
        assert why in err
        assert err.count("\n") == 1


def test_the_closing_line_counts_dissect_errors(tmp_path: Path, capfd: Capture) -> None:
    text = PLUGIN.replace(
        "            head =",
        "            if b'BAD' in line: raise DissectError('bad')\n            head =",
    )
    plugin = tmp_path / "toy.py"
    plugin.write_text(text)
    talk = [*[(C, b"GET  k\r\n"), (S, b"OK  k\r\n")] * 3, (C, b"BAD\r\n")]
    path = pcap(tmp_path / "x.pcap", talk)
    options = ["--plugin", str(plugin), "--assume", "47=toy", "--sink", "jsonl:-"]
    _, err = said(capfd, 0, "run", "--read", str(path), *options)
    assert "; 1 dissect error: kshark doctor shows which; " in err
    _, err = said(capfd, 0, "run", "--read", str(pcap(tmp_path / "y.pcap", talk[:-1])), *options)
    assert "dissect error" not in err
