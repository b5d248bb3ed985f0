"""The command line from outside: exit codes, what goes where, and no traceback, whatever is typed."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import fake_plugin
import pytest
from click.testing import CliRunner

from kshark import cli, settings
from kshark.places import RunOptions

FAKE = fake_plugin.__file__
KSHARK = [sys.executable, "-m", "kshark"]
Done = subprocess.CompletedProcess[str]


def environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KSHARK_")}
    return {**clean, **more}


def kshark(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run the program; no traceback reaches anybody."""
    done = subprocess.run(
        [*KSHARK, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=environment(**(env or {})),
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def said(done: Done) -> list[str]:
    """The lines on standard error, each of which begins with our name."""
    lines = done.stderr.splitlines()
    assert all(line.startswith("kshark: ") for line in lines), done.stderr
    return lines


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    """A capture of twenty datagrams."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number in range(20):
        frame = fake_plugin.packet(number)
        data += struct.pack("<IIII", 1_700_000_000 + number, 0, len(frame), len(frame)) + frame
    path = tmp_path / "x.pcap"
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- results and exit code 0


def test_a_file_to_json_lines_on_standard_output(pcap: Path) -> None:
    done = kshark("run", "--read", str(pcap), "--sink", "jsonl:-")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(rows)) == (0, 20)
    assert {row["protocol"] for row in rows} == {"udp"}
    opening, closing = said(done)
    assert re.search(
        r"kshark: pcap .*x\.pcap; protocols dns, grpc, http, http2, redis, tls, websocket; sinks jsonl",
        opening,
    )
    assert re.search(r"20 packets; 20 entries \(20 unanswered\); jsonl 20", closing)


def test_a_replay_gives_the_same_bytes(pcap: Path) -> None:
    one, two = (kshark("run", "--read", str(pcap), "--sink", "jsonl:-").stdout for _ in range(2))
    assert one == two != ""


def test_standard_input(pcap: Path) -> None:
    done = kshark("run", "-q", "--read", "-", "--sink", "jsonl", stdin=pcap.read_bytes())
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 20, "")


def test_closed_standard_output_is_a_quiet_stop(pcap: Path) -> None:
    command = [*KSHARK, "run", "--plugin", FAKE, "--backend", "fakelive,spins", "--sink", "jsonl:-"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.stderr is not None
    text = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) == 0, text
    assert "failed" not in text
    assert "Traceback" not in text


def test_closed_standard_output_of_a_listing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*KSHARK, "plugins"], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("redirected", [">&-", ">/dev/full"])
@pytest.mark.parametrize("command", ["protocols", "doctor", "run --read {pcap} --sink jsonl:-"])
def test_standard_output_that_cannot_be_written(redirected: str, command: str, pcap: Path) -> None:
    line = f"{sys.executable} -m kshark {command.format(pcap=pcap)} {redirected}"
    done = subprocess.run(line, shell=True, capture_output=True, env=environment(), check=False)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert re.search("full|space|descriptor", said)
    assert "Traceback" not in said
    assert "mistake" not in said


def test_closed_standard_streams_and_a_file(pcap: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ndjson"
    line = f"{sys.executable} -m kshark run --read {pcap} --sink jsonl:{out} <&- >&- 2>&-"
    done = subprocess.run(line, shell=True, env=environment(), check=False)
    assert done.returncode == 0
    assert [json.loads(row)["protocol"] for row in out.read_text().splitlines()] == ["udp"] * 20


def test_closed_standard_error_does_not_reach_standard_output(pcap: Path) -> None:
    line = f"{sys.executable} -m kshark run --read {pcap} --sink jsonl:- 2>&-"
    done = subprocess.run(line, shell=True, capture_output=True, env=environment(), check=False)
    assert done.returncode == 0
    assert all(row.startswith(b"{") for row in done.stdout.splitlines())


def interrupted(*arguments: str, times: int = 1) -> tuple[int, str]:
    """Start a run that does not end, send Ctrl-C once it writes; its exit code and what it said."""
    process = subprocess.Popen(
        [*KSHARK, "run", "--plugin", FAKE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    time.sleep(0.5)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    return process.returncode, (first + err).decode()


@pytest.mark.parametrize("backend", ["fakefile,spins", "fakelive,ends=no"])
def test_interrupt(backend: str) -> None:
    code, text = interrupted("--backend", backend, "--sink", "fakesink")
    assert code == 0, text
    assert re.search(r"kshark: [\d,]+ packets; [\d,]+ entries", text)
    assert "Traceback" not in text


def test_second_interrupt_does_not_wait_for_a_sink_that_hangs() -> None:
    code, text = interrupted("--backend", "fakelive", "--sink", "fakesink,how=hang", times=2)
    assert code == 1
    assert "not waiting for fakesink any longer" in text
    assert "lost (stopped)" in text


def test_third_interrupt_leaves_a_sink_that_blocks_the_loop() -> None:
    code, text = interrupted("--backend", "fakelive", "--sink", "fakesink,how=block", times=3)
    assert code == 1
    assert "left at once" in text


# ---------------------------------------------------------------- exit code 2: wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "no command 'rnu'; did you mean run?"),
        (["run", "--sinc", "x"], "--sinc"),
        (["run", "--sink", "jsonk"], "--sink jsonk: no sink 'jsonk'; did you mean jsonl?"),
        (["run", "--backend", "pcpa:x"], "no backend 'pcpa'; did you mean pcap?"),
        (["run", "--protocol", "htp"], "--protocol: no protocol 'htp'; did you mean http?"),
        (["run", "--plugin", "no.py"], "--plugin no.py: there is no such file"),
        (["run", "--config", "no.toml"], "--config no.toml: No such file"),
        (["run", "--read", "no.pcap"], "no.pcap"),
        (["run", "--read", "."], "."),
        (["run", "--sink", "jsonl,rotate_byte=1"], "did you mean rotate_bytes?"),
        (["run", "--sink", "jsonl,rotate_bytes=x"], "rotate_bytes = x: is not a size"),
        (["run", "--sink", "jsonl:/no/such/place"], "/no/such/place"),
        (["run", "--assume", "http=80"], "--assume http=80: must be PORT=NAME"),
        (["run", "--assume", "80=htp"], "did you mean http?"),
        (["run", "--workers", "many"], "--workers many: must be a number"),
        (["run", "--workers", "0"], "--workers 0: must be a number"),
        (["run", "--count", "x"], "--count x: must be a whole number"),
        (
            ["run", "--read", "x", "--sink", "jsonl,policy=x"],
            "must be block or drop_oldest or sample",
        ),
        (
            ["run", "--read", "/dev/null", "--sink", "jsonl", "--sink", "console"],
            "sink console: standard output is written by jsonl, choose another target",
        ),
        (
            ["run", "--read", "/dev/null", "--sink", "jsonl:-,rotate_bytes=1MiB"],
            "standard output cannot rotate, only a file can: give the sink one",
        ),
        (["run", "--duration", "soon"], "--duration soon: is not a time"),
        (["run", "--count", "-3"], "--count -3"),
        (["run", "--backend", "pcap"], "--read"),
        (["run", "--iface", "nosuch0", "--backend", "af_packet"], "nosuch0"),
        (["run", "--backend", "af_packet", "--follow"], "af_packet has no such option"),
        (["sinks", "jsnl"], "did you mean jsonl?"),
        (["dissect"], "--protocol"),
        (["dissect", "--protocol", "htp"], "did you mean http?"),
        (["doctor", "--read", "no.pcap"], "no.pcap"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, pcap: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "run" and not {"--read", "--backend"} & set(arguments):
        arguments = [*arguments, "--read", str(pcap)]
    code = cli.main(arguments)
    done = subprocess.CompletedProcess(arguments, code, *capfd.readouterr())
    assert done.returncode == 2, done.stderr
    lines = [line for line in said(done) if "; protocols " not in line and " packets;" not in line]
    assert len(lines) == 1, lines
    assert message in lines[0]


@pytest.mark.parametrize("content", [b"", b"hello world, I am no capture", b"\xd4\xc3\xb2\xa1"])
def test_a_file_that_is_no_capture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    done = kshark("run", "--read", str(path), "--sink", "jsonl:-")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "x.pcap" in done.stderr


def test_wrong_variable_and_wrong_file(pcap: Path, tmp_path: Path) -> None:
    run = ("run", "--read", str(pcap), "--sink", "jsonl:-")
    done = kshark(*run, env={"KSHARK_SINK_JSONL_ROTATE_BYTE": "1"})
    assert done.returncode == 2
    assert "did you mean KSHARK_SINK_JSONL_ROTATE_BYTES?" in done.stderr
    config = tmp_path / "k.toml"
    config.write_text("[sink.jsonl]\nful = true\n")
    done = kshark(*run, "--config", str(config))
    assert done.returncode == 2
    assert f"{config} [sink.jsonl] ful: sink jsonl has no option 'ful'; did you mean full?" in (
        done.stderr
    )


def test_a_table_that_nobody_knows_is_only_noted(pcap: Path, tmp_path: Path) -> None:
    config = tmp_path / "k.toml"
    config.write_text("[sink.jsonk]\nx = 1\n")
    done = kshark("run", "--read", str(pcap), "--sink", "jsonl:-", "--config", str(config))
    assert done.returncode == 0
    assert "[sink.jsonk]: no such sink; did you mean jsonl?" in done.stderr


# ---------------------------------------------------------------- exit code 1: lost or failed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--backend", "fakefile,fails=2", "--sink", "fakesink"],
        ["--backend", "fakefile", "--sink", "fakesink,how=raise"],
        ["--backend", "fakelive,lost=1", "--sink", "fakesink"],
        ["--backend", "fakefile", "--sink", "jsonl:/dev/full"],
    ],
)
def test_something_was_lost(arguments: list[str]) -> None:
    assert kshark("run", "--plugin", FAKE, *arguments).returncode == 1


def test_a_truncated_file_is_read_and_reported(pcap: Path) -> None:
    pcap.write_bytes(pcap.read_bytes()[:-5])
    done = kshark("run", "--read", str(pcap), "--sink", "jsonl:-")
    assert len(done.stdout.splitlines()) == 19
    assert "truncated" in done.stderr or "cut" in done.stderr


def test_a_refused_plugin_is_a_line_and_the_run_goes_on(pcap: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name")
    bad = ("--plugin", str(tmp_path / "bad.py"))
    done = kshark("run", *bad, "--read", str(pcap), "--sink", "jsonl:-")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 20)
    assert "refused: ModuleNotFoundError" in said(done)[0]


def test_our_own_mistake_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise LookupError("gone\nsecond")

    monkeypatch.setattr("kshark.cli_run.make_plan", broken)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == (
        "kshark: LookupError: gone (a mistake in kshark; KSHARK_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("KSHARK_DEBUG", "1")
    with pytest.raises(LookupError):
        cli.main(["run"])


COMMANDS = """
import sys
from kshark.api import hookimpl
@hookimpl
def register_commands(cli):
    HOW
    @cli.command()
    def crash(): raise LookupError("gone\\nsecond")
    @cli.command()
    def leave(): sys.exit(7)
"""


@pytest.mark.parametrize(
    ("command", "how", "code", "line"),
    [
        ("crash", "", 1, "the command crash, of a plugin, failed: LookupError: gone"),
        ("leave", "", 7, ""),
        (
            "crash",
            "1 / 0",
            2,
            "register_commands: ZeroDivisionError: division by zero (p.py line 6)",
        ),
        ("crash", "sys.exit(3)", 2, "register_commands: SystemExit: 3 (p.py line 6)"),
        ("crash", "raise KeyboardInterrupt", 2, "register_commands: KeyboardInterrupt"),
        ("crash", "raise GeneratorExit", 2, "register_commands: GeneratorExit"),
    ],
)
def test_a_plugins_command(tmp_path: Path, command: str, how: str, code: int, line: str) -> None:
    plugin = tmp_path / "p.py"
    plugin.write_text(COMMANDS.replace("HOW", how))
    done = kshark(command, env={"KSHARK_PLUGINS": str(plugin)})
    assert done.returncode == code
    assert line in "".join(said(done)[:1])
    assert len(said(done)) == (0 if code == 7 else 2 if how else 1)


# ---------------------------------------------------------------- the other commands


def test_alone_it_shows_help() -> None:
    done = kshark()
    assert (done.returncode, done.stderr) == (0, "")
    assert "kshark run --read capture.pcap" in done.stdout
    assert "Exit codes: 0 done; 1 something was lost" in done.stdout
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli.cli, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_every_flag_of_a_run_comes_from_its_options() -> None:
    run = cli.cli.get_command(click.Context(cli.cli), "run")
    assert run is not None
    names = {p.name for p in run.params} - {"plugins", "config", "quiet"}
    assert names == {f.key for f in settings.fields(RunOptions)}
    assert all(getattr(p, "help", "") for p in run.params)


@pytest.mark.parametrize("command", ["protocols", "backends", "sinks", "plugins"])
def test_lists_as_text_and_json(command: str) -> None:
    done = kshark(command)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(kshark(command, "--json").stdout)
    lines = done.stdout.splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[0].startswith("name ")
    assert "\x1b" not in done.stdout
    for row, line in zip(rows, lines[1:], strict=True):
        assert line.startswith(row["name"])


def test_options_of_a_sink() -> None:
    rows = {row["option"]: row for row in json.loads(kshark("sinks", "jsonl", "--json").stdout)}
    assert rows["rotate_bytes"]["environment"] == "KSHARK_SINK_JSONL_ROTATE_BYTES"
    assert rows["rotate_bytes"]["type"] == "bytes"
    assert {"policy", "queue", "target"} <= set(rows)


def test_plugins_says_why_one_was_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    rows = json.loads(kshark("plugins", "--json", "--plugin", str(tmp_path / "bad.py")).stdout)
    assert rows[-1]["refused"] == "ZeroDivisionError: division by zero (bad.py line 1)"
    assert rows[0]["distribution"] == "kshark"


def test_doctor_of_the_machine() -> None:
    report = json.loads(kshark("doctor", "--json").stdout)
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(report["backends"]) == {"pcap", "af_packet", "cgroup", "ebpf", "tc"}
    assert "core       " in kshark("doctor").stdout


def test_doctor_of_a_pure_run_says_what_it_costs(pcap: Path) -> None:
    pure = {"KSHARK_PURE": "1"}
    assert "plain Python, six to nine times the CPU time" in kshark("doctor", env=pure).stdout
    done = kshark("run", "--read", str(pcap), "--sink", "jsonl:-", env=pure)
    assert "plain Python, without the compiled core" in said(done)[0]


def test_doctor_accounts_for_a_file(pcap: Path) -> None:
    done = kshark("doctor", "--read", str(pcap))
    assert done.returncode == 0
    for stage in (
        "seen",
        "decoded",
        "reassembled",
        "identified",
        "dissected",
        "paired",
        "delivered",
    ):
        assert re.search(rf"^{stage} +[\d,]+", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("the books balance\n")
    report = json.loads(kshark("doctor", "--read", str(pcap), "--json").stdout)
    assert report["packets"]["received"] == 20
    assert report["wrong"] == []


def test_schema() -> None:
    schema = json.loads(kshark("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    ("stdin", "flags", "lines"),
    [
        (b"PING\r\n", [], ["> request PING"]),
        (b"50494e47 0d0a\n", ["--hex"], ["> request PING"]),
        (b"> 50:49:4e:47:0d:0a\n< 2b504f4e470d0a\n", ["--hex"], ["> request PING", "< response"]),
        (b"+PONG\r\n", ["--side", "server"], ["< "]),
        (b"", [], []),
    ],
)
def test_dissect(stdin: bytes, flags: list[str], lines: list[str]) -> None:
    done = kshark("dissect", "--protocol", "redis", *flags, stdin=stdin)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == len(lines)
    for line, start in zip(shown, lines, strict=True):
        assert line.startswith(start)


def test_dissect_json_and_wrong_hex() -> None:
    done = kshark("dissect", "--protocol", "redis", "--json", "--full", stdin=b"GET a\r\n")
    row = json.loads(done.stdout)
    assert (row["verb"], row["kind"], row["side"], row["size"]) == ("GET", "request", "client", 7)
    assert "details" in row
    done = kshark("dissect", "--protocol", "redis", "--hex", stdin=b"5049\nxyz\n")
    assert done.returncode == 2
    assert said(done) == ["kshark: line 2 is not hex digits: 'xyz'"]


def test_dissect_bytes_that_are_not_the_protocol() -> None:
    done = kshark("dissect", "--protocol", "http", stdin=b"\x00\x01\x02\x03" * 100)
    assert done.returncode == 1
    assert len(said(done)) == 1
    assert said(done)[0].startswith("kshark: http: ")


# ---------------------------------------------------------------- terminals


def on_a_terminal(*arguments: str) -> str:
    """Run with a terminal for everything; what it showed."""
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*KSHARK, *arguments], stdout=child, stderr=child, env=environment(TERM="xterm")
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65_536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    assert process.wait(30) == 0, shown
    return shown.decode()


def test_tables_on_a_terminal() -> None:
    shown = on_a_terminal("sinks")
    assert "─" in shown
    assert "jsonl" in shown


def test_a_long_read_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    run = ("run", "--plugin", FAKE, "--backend", "fakefile,spins", "--duration", "2500ms")
    shown = on_a_terminal(*run, "--sink", f"jsonl:{tmp_path / 'x'}")
    assert re.search(r"packets, [\d,]+/s", shown)
    assert "Traceback" not in shown


def test_a_signal_that_the_shell_ignores_stays_ignored() -> None:
    process = subprocess.Popen(
        [*KSHARK, "run", "--plugin", FAKE, "--backend", "fakelive,ends=no", "--sink", "fakesink"],
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.terminate()
    assert b"fakesink got 100" in process.communicate(timeout=30)[1]
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_a_signal_before_there_is_a_run(number: int, more: tuple[str, ...], tmp_path: Path) -> None:
    """Sent while plugins are loaded: the run ends at once, with its account."""
    plugin = tmp_path / "sends.py"
    plugin.write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    backend = "shared,ends=no" if more else "fakelive,ends=no"
    run = ("run", "--plugin", str(plugin), "--plugin", FAKE, "--backend", backend, *more)
    done = kshark(*run, "--sink", "fakesink")
    assert done.returncode == 0
    assert "kshark: stopping" in done.stderr
    assert re.search(r"kshark: [\d,]+ packets; [\d,]+ entries", done.stderr.splitlines()[-1])


def test_two_signals_before_there_is_a_run(tmp_path: Path) -> None:
    plugin = tmp_path / "sends.py"
    plugin.write_text("import os\nos.kill(os.getpid(), 15)\nos.kill(os.getpid(), 15)\n")
    done = kshark("run", "--plugin", str(plugin), "--read", "/nonexistent")
    assert (done.returncode, done.stderr) == (1, "kshark: left at once\n")


def test_a_signal_after_the_run_changes_nothing(tmp_path: Path) -> None:
    plugin = tmp_path / "sends.py"
    plugin.write_text("import atexit, os\natexit.register(os.kill, os.getpid(), 15)\n")
    done = kshark("run", "--plugin", str(plugin), "--plugin", FAKE, "--backend", "fakefile",
                  "--sink", "fakesink")  # fmt: skip
    assert done.returncode == 0


@pytest.mark.parametrize("redirected", ["2>{err}", "2>&1"])
def test_a_signal_while_nobody_reads_standard_output(redirected: str, tmp_path: Path) -> None:
    err = tmp_path / "err"
    run = f"run --plugin {FAKE} --backend fakefile,spins --sink jsonl:-"
    process = subprocess.Popen(
        f"exec {sys.executable} -m kshark {run} {redirected.format(err=err)}",
        shell=True,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    time.sleep(2)
    process.terminate()
    assert process.wait(15) == 1
    process.stdout.close()
    if err.exists():
        shown = err.read_text()
        found = re.search(r"; ([\d,]+) entries .* jsonl ([\d,]+), ([\d,]+) lost \(stopped\)", shown)
        assert found is not None, shown
        made, written, lost = (int(part.replace(",", "")) for part in found.groups())
        assert made == written + lost


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--read", "missing.pcap"],
        ["doctor", "--read", "missing.pcap"],
        ["run", "--plugin", FAKE, "--backend", "fakelive,fails=1,how=plugin"],
        ["run", "--plugin", FAKE, "--backend", "shared,wrong=99", "--workers", "2"],
        ["run", "--plugin", FAKE, "--backend", "fakefile", "--sink", "fakesink,how=make"],
        ["run", "--plugin", FAKE, "--backend", "fakefile", "--sink", "jsonl:/nonexistent/x"],
    ],
)
def test_a_mistake_stands_alone(arguments: list[str]) -> None:
    """Nothing was opened, so nothing is said to run, and there is no account."""
    done = kshark(*arguments)
    assert (done.returncode, done.stdout, len(said(done))) == (2, "", 1), done.stderr


def test_what_runs_is_said_before_the_first_packet_comes() -> None:
    process = subprocess.Popen(
        [*KSHARK, "run", "--plugin", FAKE, "--backend", "fakelive,packets=0,ends=no"],
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stderr is not None
    assert b"fakelive on all interfaces" in process.stderr.readline()
    process.terminate()
    assert b"kshark: 0 packets; 0 entries" in process.communicate(timeout=30)[1]


@pytest.mark.parametrize(
    ("sinks", "told"),
    [
        (["pcap:{pcap}"], "sink pcap: {pcap} is what pcap reads, choose another target"),
        (
            ["jsonl:{folder}/link"],
            "sink jsonl: {folder}/link is what pcap reads, choose another target",
        ),
        (
            ["jsonl:{folder}/new", "console:{folder}/./new"],
            "sink console: {folder}/./new is written by jsonl, choose another target",
        ),
    ],
)
def test_no_sink_writes_what_is_read_or_written(
    sinks: list[str], told: str, pcap: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(pcap)
    before = pcap.read_bytes()
    names = {"pcap": pcap, "folder": tmp_path}
    flags = [part for sink in sinks for part in ("--sink", sink.format(**names))]
    for read in (str(pcap), str(tmp_path / "*.pcap")):
        done = kshark("run", "--read", read, *flags)
        assert (done.returncode, done.stderr) == (2, f"kshark: {told.format(**names)}\n")
    assert pcap.read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_devices_may_be_shared(pcap: Path) -> None:
    sinks = ("--sink", "jsonl:/dev/null", "--sink", "console:/dev/null")
    assert kshark("run", "--read", str(pcap), *sinks).returncode == 0


def test_a_missing_file_costs_no_earlier_one(pcap: Path, tmp_path: Path) -> None:
    """The sink would begin it anew."""
    done = kshark("run", "--read", str(tmp_path / "missing.pcap"), "--sink", f"pcap:{pcap}")
    assert done.returncode == 2
    assert pcap.stat().st_size


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KSHARK_SINK", "jsonk", "KSHARK_SINK=jsonk: no sink 'jsonk'; did you mean jsonl?"),
        (
            "KSHARK_BACKEND",
            "x",
            "KSHARK_BACKEND=x: no backend 'x'; there is af_packet, cgroup, ebpf, pcap, tc",
        ),
        ("KSHARK_ASSUME", "x", "KSHARK_ASSUME=x: must be PORT=NAME, as in 6380=redis"),
        ("KSHARK_WORKERS", "0", "KSHARK_WORKERS=0: must be a number from 1 to 256, or auto"),
        ("KSHARK_CONFIG", "none", "KSHARK_CONFIG=none: No such file or directory"),
        ("KSHARK_PROTOCOL", "htp", "KSHARK_PROTOCOL: no protocol 'htp'; did you mean http?"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, told: str) -> None:
    done = kshark("run", "--read", "/dev/null", env={name: value})
    assert (done.returncode, done.stderr) == (2, f"kshark: {told}\n")
