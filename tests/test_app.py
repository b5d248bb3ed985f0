"""A run from backend to sink: its end, its books and its exit code, whoever misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kshark import app, clock, drain, limits, session
from kshark.cli import main
from kshark.interrupts import SIGNALS
from kshark.places import places
from kshark.plan import make_plan
from kshark.source import Source
from kshark.testing._packets import Peers

FAKE = str(Path(__file__).parent / "fake_plugin.py")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; gives the exit code and standard error."""

    def call(*arguments: str) -> tuple[int, str]:
        code = main(["run", "--plugin", FAKE, *arguments])
        return code, capfd.readouterr().err

    return call


def packets(text: str) -> int:
    """What the closing line says came in."""
    found = re.search(r"([\d,]+) packets", text)
    assert found
    return int(found[1].replace(",", ""))


def got(text: str) -> list[int]:
    """What the fake sinks were given."""
    return [int(n) for n in re.findall(r"fakesink got (\d+)", text)]


# ---------------------------------------------------------------- how runs end


def test_a_run_to_its_end(run: Run) -> None:
    code, text = run("--backend", "fakefile", "--sink", "fakesink")
    assert (code, got(text), packets(text)) == (0, [100], 100)
    assert re.search(r"kshark: fakefile; protocols .*; sinks fakesink", text)
    assert "100 entries (100 unanswered); fakesink 100" in text


def test_quiet(run: Run) -> None:
    code, text = run("-q", "--backend", "fakefile", "--sink", "fakesink")
    assert (code, [t for t in text.splitlines() if "refused" not in t]) == (0, ["fakesink got 100"])


def test_two_backends_and_two_sinks(run: Run) -> None:
    two = ("--backend", "fakefile", "--backend", "fakelive,packets=50")
    code, text = run(*two, "--sink", "fakesink:a", "--sink", "fakesink:b")
    assert (code, got(text), packets(text)) == (0, [150, 150], 150)
    assert "fakesink 150; fakesink:b 150" in text


def test_duration(run: Run) -> None:
    code, text = run("--backend", "fakelive,ends=no", "--duration", "50ms", "--sink", "fakesink")
    assert (code, got(text)) == (0, [100])


def test_duration_of_a_backend_that_never_waits(run: Run) -> None:
    code, _ = run("--backend", "fakefile,spins", "--duration", "50ms", "--sink", "fakesink")
    assert code == 0


def test_count(run: Run) -> None:
    code, text = run("--backend", "fakefile", "--count", "33", "--sink", "fakesink")
    assert (code, got(text)) == (0, [33])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", ["fakefile,spins", "fakelive,ends=no"])
def test_a_signal_stops_and_drains(run: Run, number: int, backend: str) -> None:
    kills = f"{backend},packets=50,kills={int(number)}"
    code, text = run("--backend", kills, "--sink", "fakesink,how=slow")
    assert code == 0
    assert got(text) == [packets(text)]
    assert "stopping; once more to leave" in text


def test_signal_handlers_are_put_back(run: Run) -> None:
    before = [signal.getsignal(n) for n in (*SIGNALS, signal.SIGALRM)]
    run("--backend", "fakefile", "--sink", "fakesink")
    assert [signal.getsignal(n) for n in (*SIGNALS, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# ---------------------------------------------------------------- who fails


def test_a_backend_that_fails_at_once_by_the_users_mistake(run: Run) -> None:
    code, text = run("--backend", "fakefile,fails=1,how=plugin", "--sink", "fakesink")
    assert (code, got(text)) == (2, [0])
    assert "kshark: fake: the interface is gone\n" in text


def test_a_backend_that_fails_later(run: Run) -> None:
    code, text = run("--backend", "fakelive,fails=3,how=plugin", "--sink", "fakesink")
    assert (code, got(text)) == (1, [20])
    code, text = run("--backend", "fakelive,fails=3", "--sink", "fakesink")
    assert (code, got(text)) == (1, [20])
    assert "kshark: backend fakelive failed: RuntimeError: fake trouble\n" in text


def test_the_other_backend_goes_on(run: Run) -> None:
    two = ("--backend", "fakelive,fails=1", "--backend", "fakefile")
    code, text = run(*two, "--sink", "fakesink")
    assert (code, got(text)) == (1, [100])


def test_a_backend_without_readable_books_is_said_once(run: Run) -> None:
    code, text = run("--backend", "fakefile,how=stats", "--sink", "fakesink")
    assert (code, got(text), text.count("no books")) == (1, [100], 1)


def test_kernel_drops_and_notes_are_reported(run: Run) -> None:
    code, text = run("--backend", "fakelive,lost=3,note=eth1 appeared", "--sink", "fakesink")
    assert code == 1
    assert text.count("kshark: fakelive: eth1 appeared\n") == 1
    assert "100 packets, 3 lost (fakelive: kernel)" in text


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("make", 2, "sink fakesink: ValueError: cannot be made"),
        ("open", 2, "fake sink: no such place"),
        ("raise", 1, "sink fakesink failed: RuntimeError: fake sink trouble"),
        ("close", 1, "sink fakesink failed to close: RuntimeError: cannot close"),
        ("slow", 0, "fakesink 100"),
    ],
)
def test_sinks(run: Run, how: str, code: int, said: str) -> None:
    found, text = run("--backend", "fakefile", "--sink", f"fakesink,how={how}")
    assert found == code
    assert said in text
    assert "Traceback" not in text


def test_a_failing_sink_does_not_stop_the_other(run: Run) -> None:
    sinks = ("--sink", "fakesink:a,how=raise", "--sink", "fakesink:b")
    code, text = run("--backend", "fakelive,packets=50", *sinks)
    assert (code, got(text)) == (1, [0, 50])


def test_the_last_sink_that_fails_ends_the_run(run: Run) -> None:
    code, text = run(
        "--backend", "fakelive,spins", "--sink", "fakesink,how=raise", "--duration", "20"
    )
    assert code == 1
    assert "sink fakesink failed" in text


def test_a_sink_that_hangs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "STALL", 0.05)
    code, text = run("--backend", "fakefile", "--sink", "fakesink,how=hang")
    assert code == 1
    assert "not waiting for fakesink any longer" in text
    assert "fakesink 0, 100 lost (stopped)" in text


# ---------------------------------------------------------------- enrichers


@pytest.mark.parametrize(
    ("how", "code", "count", "said"),
    [
        ("ok", 0, 100, ""),
        ("drop", 0, 50, ""),
        ("raise", 1, 100, "enricher fake failed, entries go on without it: KeyError: 'pod'"),
        ("rubbish", 1, 100, "enrich() must return a list of entries"),
    ],
)
def test_enrichers(
    run: Run, monkeypatch: pytest.MonkeyPatch, how: str, code: int, count: int, said: str
) -> None:
    monkeypatch.setenv("KSHARK_ENRICHER_FAKE_HOW", how)
    found, text = run("--backend", "fakefile", "--sink", "fakesink")
    assert (found, got(text)) == (code, [count])
    assert said in text
    assert "do not balance" not in text


# ---------------------------------------------------------------- choice


def test_auto_takes_the_best_that_works_and_says_why_not_the_better(
    run: Run, tmp_path: Path
) -> None:
    config = tmp_path / "k.toml"
    config.write_text(
        '[plugins]\ndeny = ["backends.af_packet", "backends.ebpf", "backends.tc"]\n[backend.fakelive]\npackets = 20\n'
    )
    code, text = run("--config", str(config), "--sink", "fakesink")
    assert (code, got(text)) == (0, [20])
    assert (
        "backend fakelive chosen, the best that works here; "
        "not nowhere: needs another kernel: buy one"
    ) in text


def test_a_backend_that_cannot_run_here(run: Run) -> None:
    code, text = run("--backend", "nowhere", "--sink", "fakesink")
    assert code == 2
    assert "backend nowhere: needs another kernel: buy one" in text


@pytest.mark.parametrize(
    ("place", "target"),
    [("line", ["eth*", "lo"]), ("environment", ["eth*", "lo"]), ("own", "wlan0")],
)
def test_iface_is_the_target_of_a_live_backend(place: str, target: object) -> None:
    """Each place's flag is below the same place's own option, and below every later place."""
    line = {"backend": app_given(["fakelive"])}
    environ = {"KSHARK_IFACE": "eth*,lo"} if place == "environment" else {}
    if place == "line":
        line["iface"] = app_given(("eth*", "lo"))
    if place == "own":
        line = {"backend": app_given(["fakelive:wlan0"]), "iface": app_given(("lo",))}
    plan = make_plan(places(line, environ=environ), [FAKE])
    assert plan.backends[0].options.target == target


def app_given(value: object) -> Any:
    from kshark.settings import Given

    return Given(value, "--test")


def test_flags_that_no_backend_has(run: Run) -> None:
    code, text = run("--backend", "fakefile", "--iface", "lo", "--sink", "fakesink")
    assert (code, "--iface: the backend fakefile has no such option" in text) == (2, True)
    code, text = run("--backend", "fakefile", "--full", "--sink", "fakesink")
    assert (code, "--full: the sink fakesink has no such option" in text) == (2, True)


def test_options_from_three_places(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "k.toml"
    config.write_text(
        '[run]\nsink = ["fakesink"]\nbackend = ["fakefile"]\n'
        "[backend.fakefile]\npackets = 30\nstep = 5\n"
    )
    assert got(run("--config", str(config))[1]) == [30]
    monkeypatch.setenv("KSHARK_BACKEND_FAKEFILE_PACKETS", "40")
    assert got(run("--config", str(config))[1]) == [40]
    assert got(run("--config", str(config), "--backend", "fakefile,packets=50")[1]) == [50]
    monkeypatch.setenv("KSHARK_CONFIG", str(config))
    monkeypatch.setenv("KSHARK_BACKEND", "'fakefile,packets=20' fakefile")
    assert got(run()[1]) == [60]


def test_sinks_listed_in_the_file(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "k.toml"
    config.write_text(
        '[[sink]]\nname = "fakesink"\ntarget = "a"\nhow = "raise"\npolicy = "sample"\n'
        '[[sink]]\nname = "fakesink"\ntarget = "b"\nqueue = 5\n'
    )
    code, text = run("--config", str(config), "--backend", "fakefile")
    assert (code, got(text)) == (1, [0, 100])
    plan = make_plan(places({"backend": app_given(["fakefile"])}, str(config), {}), [FAKE])
    assert [(s.label, s.lane.policy, s.lane.queue) for s in plan.sinks] == [
        ("fakesink", "sample", 0),
        ("fakesink:b", "", 5),
    ]


def test_policy_and_queue_are_options_of_every_sink(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSHARK_SINK_FAKESINK_QUEUE", "7")
    line = {
        "backend": app_given(["fakefile"]),
        "sink": app_given(["fakesink:x,policy=drop_oldest"]),
    }
    plan = make_plan(places(line), [FAKE])
    assert (plan.sinks[0].lane.policy, plan.sinks[0].lane.queue) == ("drop_oldest", 7)
    code, text = run("--backend", "fakefile", "--sink", "fakesink,policy=maybe")
    assert code == 2
    assert "policy = maybe" in text


# ---------------------------------------------------------------- books


def test_the_ledger_of_a_run_balances_and_is_json() -> None:
    line = {"backend": app_given(["fakefile"]), "sink": app_given(["fakesink"])}
    plan = make_plan(places(line, environ={}), [FAKE])
    capture = session.execute(plan, lambda text: None)
    snapshot = capture.snapshot()
    assert capture.check() == []
    assert snapshot["backends"] == {"fakefile": {"received": 100, "dropped": {}}}
    assert json.loads(json.dumps(snapshot)) == snapshot


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("sinks", "fakesink", "delivered"), "sink fakesink: 100 entries, 101 accounted for"),
        (("sinks", "fakesink", "entries"), "sink fakesink: 101 entries, 100 accounted for"),
        (("delivery", "made"), "entries: 100 made, 101 taken"),
        (("packets", "received"), "packets: 101 received, 100 accounted for"),
    ],
)
def test_a_loss_without_a_reason_is_found(path: tuple[str, ...], said: str) -> None:
    line = {"backend": app_given(["fakefile"]), "sink": app_given(["fakesink"])}
    capture = session.execute(make_plan(places(line, environ={}), [FAKE]), lambda text: None)
    snapshot = capture.snapshot()
    place: Any = snapshot
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] += 1
    assert said in app.check(snapshot)


def test_files_are_read_one_after_another() -> None:
    order: list[str] = []

    class Watching(app.Capture):
        def feed(self, source: Source, block: Any) -> Any:
            order.append(source.label)
            return super().feed(source, block)

    two = ["fakefile:a,packets=30", "fakefile:b,packets=30"]
    line = {"backend": app_given(two), "sink": app_given(["fakesink"])}
    plan = make_plan(places(line, environ={}), [FAKE])
    assert asyncio.run(Watching(plan, lambda text: None).run()) == 0
    assert order == ["fakefile"] * 3 + ["fakefile:b"] * 3
    assert os.environ.get("KSHARK_BACKEND") is None


# ---------------------------------------------------------------- time without packets


def a_request() -> bytes:
    """A capture of one, which nobody answers."""
    peers = Peers()
    frames = [peers.packet(0, 2), peers.packet(1, 18), peers.packet(0, 16)]
    frames.append(peers.packet(0, 24, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"))
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 228)
    for number, frame in enumerate(frames):
        data += struct.pack("<IIII", 1_700_000_000, number, len(frame), len(frame)) + frame
    return data


@pytest.mark.parametrize("kind", ["pipe", "growing file", "file"])
def test_what_is_never_answered_is_told_while_nothing_comes(
    run: Run, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "SECOND", 100 * limits.SECOND)  # so fast does time pass
    path, out = tmp_path / "in", tmp_path / "out"
    seen: list[str] = []

    def feed() -> None:
        """Write the request; look for its entry before the pipe ends, or the run is stopped."""
        file = path.open("wb", buffering=0) if kind == "pipe" else None
        if file is not None:
            file.write(a_request())
        for _ in range(200):
            time.sleep(0.05)
            if out.exists() and out.stat().st_size:
                seen.append(json.loads(out.read_text())["outcome"])
                break
        if file is not None:
            file.close()
        elif kind == "growing file":
            os.kill(os.getpid(), signal.SIGTERM)

    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(a_request())
    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    follow = ["--follow"] if kind == "growing file" else []
    code, _ = run("--read", str(path), *follow, "--sink", f"jsonl:{out}")
    feeder.join(15)
    assert (code, seen) == (0, ["unanswered"])
