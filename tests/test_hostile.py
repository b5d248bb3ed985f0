"""Runs with plugins that misbehave: one clear line, the rest goes on, the books balance, the exit code says it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kshark import app, drain, fanout, limits, loop
from kshark.cli import main

HERE = Path(__file__).parent
FAKE, HOSTILE = str(HERE / "fake_plugin.py"), str(HERE / "hostile_plugin.py")
Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A run in which a plugin misbehaves: exit code, what was said, and what the other sink wrote."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(fanout, "OPEN_WAIT", 0.3)
    monkeypatch.setattr(fanout, "CLOSE_WAIT", 0.3)
    monkeypatch.setattr(drain, "CANCEL_WAIT", 0.1)
    monkeypatch.setattr(drain, "STALL", 0.3)
    monkeypatch.setattr(app, "CLOSE_WAIT", 0.3)
    monkeypatch.setattr(app, "STOP", 0.2)
    monkeypatch.setattr(app, "DRAIN", 0.3)
    monkeypatch.setattr(loop, "END", 0.1)
    monkeypatch.setattr(limits, "BREAKER_CALL", limits.SECOND // 10)
    monkeypatch.setattr(limits, "PLUGIN_LOAD", limits.SECOND // 4)
    out = tmp_path / "out.ndjson"

    def call(how: str, *arguments: str) -> tuple[int, list[str], str]:
        monkeypatch.setenv("BAD_HOW", how)
        out.unlink(missing_ok=True)
        before = signal.getsignal(signal.SIGINT)
        sink = f"jsonl:{out},full,mode=truncate"
        code = main(["run", "--plugin", FAKE, "--plugin", HOSTILE, "--sink", sink, *arguments])
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        text = capfd.readouterr().err
        assert "Traceback" not in text
        assert "do not balance" not in text
        assert "secret" not in text or "of a peer" not in text
        lines = text.splitlines()
        written = out.read_text() if out.exists() else ""
        return code, lines, written

    return call


def told(lines: list[str]) -> list[str]:
    """What was said beside the closing line."""
    said = [line for line in lines if line.startswith("kshark: ")]
    return [line for line in said if " packets" not in line and "; protocols " not in line]


def entries(written: str) -> int:
    found = [json.loads(line) for line in written.splitlines()]
    return len(found)


# ---------------------------------------------------------------- sinks

SINK = ("--backend", "fakefile", "--sink", "badsink")
RAISED = {
    "exit": "SystemExit: secret",
    "interrupt": "KeyboardInterrupt: secret",
    "generator": "GeneratorExit: secret",
    "cancel": "CancelledError: secret",
    "value": "ValueError: secret",
    "evil": "Evil",
}


@pytest.mark.parametrize("how", RAISED)
def test_a_sink_that_raises_anything(run: Run, how: str) -> None:
    code, lines, written = run(f"sink.write:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    (line,) = told(lines)
    assert re.sub(r"\d+", "N", line) == (
        f"kshark: sink badsink failed: {RAISED[how]}; N waiting entries lost"
    )
    code, lines, written = run(f"sink.close:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    assert told(lines) == [f"kshark: sink badsink failed to close: {RAISED[how]}"]
    for place in ("make", "open"):
        code, lines, written = run(f"sink.{place}:{how}", *SINK)
        assert (code, entries(written)) == (2, 0)
        assert told(lines) == [f"kshark: sink badsink: {RAISED[how]}"]


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_a_sink_that_holds_everything_up(run: Run, how: str) -> None:
    code, lines, written = run(f"sink.write:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    (line,) = told(lines)
    assert re.match("kshark: sink badsink failed: it took over 0.1 s; \\d+ waiting entries", line)
    code, lines, written = run(f"sink.close:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    assert told(lines) == ["kshark: sink badsink failed to close: it took over 0.1 s"]
    code, lines, written = run(f"sink.open:{how}", *SINK)
    assert told(lines) == ["kshark: sink badsink: it took over 0.1 s"]
    code, lines, written = run(f"sink.make:{how}", *SINK)
    assert told(lines) == ["kshark: sink badsink: it took over 0.25 s"]
    assert code == 2


@pytest.mark.parametrize("how", ["hang", "deaf"])
def test_a_sink_that_waits_for_ever(run: Run, how: str) -> None:
    code, lines, written = run(f"sink.write:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    assert told(lines)[0] == "kshark: not waiting for badsink any longer"
    assert "100 lost (stopped)" in lines[-1]
    code, lines, written = run(f"sink.close:{how}", *SINK)
    assert (code, entries(written)) == (1, 100)
    assert told(lines)[0] == "kshark: sink badsink did not close within 0.3 s"
    code, lines, written = run(f"sink.open:{how}", *SINK)
    assert code == 2
    assert "kshark: sink badsink: it did not open within 0.3 s" in told(lines)


def test_a_sink_that_is_not_asynchronous(run: Run) -> None:
    code, lines, _ = run("", "--backend", "fakefile", "--sink", "notasync")
    assert code == 2
    assert told(lines) == [
        "kshark: sink notasync: TypeError: open() is not a coroutine function (async def)"
    ]


def test_a_sink_that_spoils_entries_which_others_show_later(run: Run) -> None:
    code, lines, written = run("sink.write:spoil", *SINK, "--sink", "console:/dev/null")
    assert code == 1
    assert entries(written) <= 100
    shown = re.search(r"jsonl:\S+ (\d+), (\d+) lost \(not shown\)", lines[-1])
    if shown:  # the order of sinks is theirs
        assert int(shown[1]) + int(shown[2]) == 100
        assert entries(written) == int(shown[1])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("task:exit", "a plugin's task raised SystemExit; the run goes on"),
        ("task:value", "a plugin's task failed: ValueError: secret"),
        ("task:spin", "a plugin's own task held everything up for"),
        ("task:deaf", "1 tasks of plugins do not end; left as they are"),
        ("callback:spin", "a plugin's own task held everything up for"),
        ("thread:value", "a plugin's thread failed: ValueError: secret"),
    ],
)
@pytest.mark.parametrize("backend", ["fakefile", "fakelive"])
def test_what_a_sink_leaves_running(run: Run, how: str, said: str, backend: str) -> None:
    code, lines, written = run(f"sink.{how}", "--backend", backend, "--sink", "badsink")
    assert (code, entries(written)) == (1, 100)
    (line,) = told(lines)
    assert line.startswith(f"kshark: {said}")


# ---------------------------------------------------------------- enrichers

ENRICHED = ("--backend", "fakefile")
BEGIN = "kshark: enricher bad failed, entries go on without it: "


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *RAISED.items(),
        ("clear", "ValueError: after that"),
        ("more", "it gave more"),
        ("tuple", "TypeError: enrich() must return a list of entries"),
        ("dict", "TypeError: enrich() must return a list of entries"),
        ("none", "TypeError: enrich() must return a list of entries"),
        ("spin", "it took over 0.1 s"),
    ],
)
def test_an_enricher(run: Run, how: str, said: str) -> None:
    code, lines, written = run(f"enricher:{how}", *ENRICHED)
    assert (code, entries(written)) == (1, 100)
    said = {"more": "Rubbish: enrich() gave more entries than it got"}.get(how, said)
    assert told(lines)[0] == BEGIN + said
    if how == "spin":
        assert told(lines)[1:] == [
            "kshark: enricher bad is switched off: a call took over 0.1 s, 3 times"
        ]
    else:
        assert len(told(lines)) == 1


def test_an_enricher_that_spoils_entries(run: Run) -> None:
    code, lines, written = run("enricher:spoil", *ENRICHED)
    assert (code, entries(written)) == (1, 60)
    assert told(lines) == [BEGIN + "it left entries that cannot be used; they are lost"]


def test_an_enricher_that_cannot_be_made(run: Run) -> None:
    code, lines, _ = run("enricher.make:exit", *ENRICHED)
    assert (code, told(lines)) == (2, ["kshark: enricher bad: SystemExit: secret"])


# ---------------------------------------------------------------- details


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator", "GeneratorExit"),
        ("cancel", "CancelledError"),
        ("value", "ValueError"),
        ("dict", "details() gave dict, not Details"),
        ("spin", "it took over 0.25 s"),
    ],
)
@pytest.mark.parametrize("filter", [[], ["--filter", 'ask.request.text == "fine" || udp || ask']])
def test_details(run: Run, how: str, shown: str, filter: list[str]) -> None:
    code, lines, written = run(f"details:{how}", "--backend", "fakefile", *filter)
    assert (code, entries(written)) == (1, 100)
    errors = {json.loads(line)["ask"]["error"] for line in written.splitlines()}
    assert f"details() failed: {shown}" in errors or (filter and how == "spin")
    assert len(told(lines)) == (2 if how == "spin" else 1)
    assert told(lines)[0].startswith(f"kshark: ask: {shown}")
    if how == "spin":
        off = "details() of ask is switched off: a call took over 0.25 s, 3 times"
        assert told(lines)[1] == f"kshark: {off}"
        assert f"details() failed: {off}" in errors


# ---------------------------------------------------------------- backends

BACK = ("--backend", "badback", "--backend", "fakefile")


@pytest.mark.parametrize("how", RAISED)
def test_a_backend_that_raises_anything(run: Run, how: str) -> None:
    code, lines, written = run(f"backend.blocks:{how}", *BACK)
    assert (code, entries(written)) == (1, 110)
    assert told(lines) == [f"kshark: backend badback failed: {RAISED[how]}"]
    code, lines, written = run(f"backend.close:{how}", *BACK)
    assert (code, entries(written)) == (1, 120)
    assert told(lines) == [f"kshark: backend badback failed to close: {RAISED[how]}"]
    code, lines, written = run(f"backend.stats:{how}", *BACK)
    assert (code, entries(written)) == (1, 120)
    assert told(lines) == [f"kshark: backend badback: no stats: {RAISED[how]}"]
    code, lines, written = run(f"backend.make:{how}", *BACK)
    assert (code, told(lines)) == (2, [f"kshark: backend badback: {RAISED[how]}"])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("stats:rubbish", ": no stats: Rubbish: stats() gave SimpleNamespace, not CaptureStats"),
        (
            "stats:fields",
            ": no stats: Rubbish: stats() gave books that are not of int, dict and list",
        ),
        ("stats:spin", ": no stats: it took over 0.1 s"),
        ("blocks:spin", " failed: it took over 0.1 s"),
        ("close:spin", " failed to close: it took over 0.1 s"),
        ("close:hang", " did not close within 0.3 s"),
    ],
)
def test_a_backend(run: Run, how: str, said: str) -> None:
    code, lines, written = run(f"backend.{how}", *BACK)
    assert (code, entries(written)) == (1, 110 if how.startswith("blocks") else 120)
    assert told(lines) == [f"kshark: backend badback{said}"]


@pytest.mark.parametrize("how", ["hang", "deaf"])
def test_a_backend_that_never_gives_another_block(run: Run, how: str) -> None:
    """It is given up when the run is to end."""
    code, lines, written = run(
        f"backend.blocks:{how}", "--backend", "badback", "--duration", "100ms"
    )
    assert entries(written) == 10
    expected = ["kshark: backend badback does not stop; left as it is"] if how == "deaf" else []
    assert (code, told(lines)[:1]) == (len(expected), expected)


def test_a_thread_that_would_keep_the_process(tmp_path: Path) -> None:
    flags = ("--plugin", FAKE, "--plugin", HOSTILE, "--backend", "fakefile", "--sink", "badsink")
    done = subprocess.run(
        [sys.executable, "-m", "kshark", "run", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"BAD_HOW": "sink.thread:sleep", "PYTHONPATH": str(HERE), "PATH": "/bin"},
    )
    assert done.returncode == 0
    assert "kshark: left without waiting for the thread sleeper" in done.stderr


@pytest.mark.parametrize(
    ("how", "count", "said"),
    [
        ("none", 100 + 10, ""),
        ("empty", 100 + 10, ""),
        ("count", 100 + 10, ""),
        ("far", 100 + 10, ""),
        ("late", 100 + 10, ""),
        ("early", 100 + 10, ""),
        ("int", 100, "blocks() gave int, not Block"),
        ("negative", 100, "blocks() gave a Block with a count below 0, or ifaces that are not str"),
        ("float", 100, "blocks() gave a Block whose count is float, not int"),
        ("text", 100, "blocks() gave a Block whose data is not a buffer of bytes"),
        ("ifaces", 100, "blocks() gave a Block whose ifaces is list, not tuple"),
        ("iface", 100, "blocks() gave a Block with a count below 0, or ifaces that are not str"),
        ("link", 100, "blocks() gave a Block with a link type out of range"),
    ],
)
def test_a_block(run: Run, how: str, count: int, said: str) -> None:
    code, lines, written = run(f"block:{how}", *BACK)
    assert entries(written) >= count
    assert code == (1 if said else 0)
    assert told(lines) == ([f"kshark: backend badback failed: Rubbish: {said}"] if said else [])


def test_blocks_that_are_no_asynchronous_iterator(run: Run) -> None:
    code, lines, written = run("", "--backend", "plainback", "--backend", "fakefile")
    assert (code, entries(written)) == (1, 100)
    assert told(lines) == [
        "kshark: backend plainback failed: Rubbish: blocks() gave list, not an async iterator"
    ]
