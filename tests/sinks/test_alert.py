"""Alerts: a burst is told once, its end once, and a dead webhook holds nothing up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kshark import limits
from kshark.api import Kind, Message, PluginError
from kshark.sinks.alert import Alert, AlertOptions, Window
from sinks.conftest import NOON, FakeContext, MakeEntry
from sinks.http_peer import Answer, Peer, serving

ROOT = Path(__file__).parent.parent.parent
SECOND = limits.SECOND


def made(context: FakeContext, **options: Any) -> Alert:
    return Alert(AlertOptions(**{"target": "errors", **options}), context)


def at(make_entry: MakeEntry, seq: int, seconds: float) -> Any:
    first = NOON + int(seconds * SECOND)
    return make_entry(seq, request=Message(Kind.REQUEST, first_ns=first), response=None)


def generated(capture: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "generate.py", "http", "--transactions", "500",
         "--out", capture],
        check=True, capture_output=True,
    )  # fmt: skip


def kshark(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kshark", "run", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def use(sink: Alert, batch: list[Any], until: Callable[[], object] = lambda: True) -> None:
    async def run() -> None:
        await sink.open()
        await sink.write(batch)
        while not until():
            await asyncio.sleep(0.01)
        await sink.flush()
        await sink.close()

    asyncio.run(run())


def notices(peer: Peer) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in peer.taken]


def test_a_burst_is_told_once_and_its_end_once(context: FakeContext, make_entry: MakeEntry) -> None:
    batch = [at(make_entry, n, n / 1000) for n in range(1_000)]
    with serving() as peer:
        sink = made(context, rate="5/min", to="webhook", url=peer.url + "/hook", quiet=0.1)
        use(sink, batch, lambda: len(peer.taken) == 2)
    first, last = notices(peer)
    assert (first["alert"], first["state"], first["rate"]) == ("errors", "firing", "5/min")
    assert first["entry"]["id"] == "f1-4"
    assert (last["state"], last["entries"]) == ("resolved", 996)
    assert peer.requests[0].path == "/hook"


def test_below_the_rate_nothing_is_told(context: FakeContext, make_entry: MakeEntry) -> None:
    sink = made(context, rate="5/min")
    use(sink, [at(make_entry, n, n * 15) for n in range(100)])
    assert (context.said, sink.told) == ([], 0)


def test_slack_and_log(context: FakeContext, make_entry: MakeEntry, tmp_path: Path) -> None:
    with serving() as peer:
        (tmp_path / "url").write_text(f"{peer.url}/services/SECRET\n")
        use(made(context, to="slack", url_file=str(tmp_path / "url")), [at(make_entry, 0, 0)])
    assert notices(peer) == [{"text": "kshark: errors: firing, 1/min reached"}]
    use(made(context), [at(make_entry, 0, 0)])
    assert context.said == ["alert errors: firing, 1/min reached"]


@pytest.mark.parametrize("answer", [Answer(400, "no"), Answer(0), Answer(delay=1.0)])
def test_a_dead_webhook_holds_nothing_up(
    context: FakeContext, make_entry: MakeEntry, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kshark.sinks.alert.PATIENCE", 0.05)
    with serving(lambda request, number: answer) as peer:
        sink = made(context, to="webhook", url=f"{peer.url}/SECRET", timeout=0.1)
        use(sink, [at(make_entry, n, 0) for n in range(10_000)])
    assert sink.told == 0
    assert "SECRET" not in "".join(context.said)


def test_what_waits_to_be_told_is_bounded(
    context: FakeContext, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ALERT_NOTICES", 2)
    sink = made(context)
    for _ in range(5):
        sink._notify("firing")
    assert sink.untold == 3
    assert "too many wait" in context.said[0]


def test_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window("3/s")
    times = (0, 4, 8, 13, 17, 30, 31, 32)  # tenths of a second
    assert [window.reached(NOON + t * SECOND // 10) for t in times] == [
        False, False, True, True, True, False, False, True,
    ]  # fmt: skip
    monkeypatch.setattr(limits, "ALERT_ENTRIES", 9)
    for wrong in ("", "5", "0/min", "x/min", "5/day", "-1/s", "10/s"):
        with pytest.raises(PluginError, match="rate"):
            Window(wrong)


def test_mistakes_are_said_without_the_address(context: FakeContext) -> None:
    for wrong in ({"url": ""}, {"url": "ftp://SECRET"}, {"url_file": "/nonexistent"}):
        with pytest.raises(PluginError) as caught:
            made(context, to="webhook", **wrong)
        assert "SECRET" not in str(caught.value)


@pytest.mark.slow  # it has five seconds at the end to be told
def test_a_dead_webhook_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """End to end: a burst of errors, nobody at the webhook's address, all entries in the file."""
    capture, config = tmp_path / "x.pcap", tmp_path / "kshark.toml"
    generated(capture)
    config.write_text(
        "[[alert]]\nname = 'errors'\nwhen = 'http'\nrate = '5/min'\nto = 'webhook'\n"
        "url = 'http://127.0.0.1:9/SECRET'\n"
    )
    done = kshark("--config", config, "--read", capture, "--sink", f"jsonl:{tmp_path}/out")
    assert len((tmp_path / "out").read_text().splitlines()) == 500
    assert done.stderr.count("nobody could be told") == 1, done.stderr
    assert "SECRET" not in done.stderr


def test_alerts_of_a_file_run_beside_the_sinks(tmp_path: Path) -> None:
    """``[[alert]]``, end to end: two rules, one of which fires."""
    capture, config = tmp_path / "x.pcap", tmp_path / "kshark.toml"
    generated(capture)
    with serving() as peer:
        config.write_text(
            "[[alert]]\nname = 'errors'\nwhen = 'http && error'\nrate = '2/h'\nto = 'webhook'\n"
            f"url = '{peer.url}'\n"
            "[[alert]]\nname = 'never'\nwhen = 'redis'\n"
        )
        done = kshark("--config", config, "--read", capture, "--sink", f"jsonl:{tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert [(n["alert"], n["state"]) for n in notices(peer)] == [("errors", "firing")]
    assert "filtered out" in done.stderr
    config.write_text("[[alert]]\nwhen = 'http'\n")
    done = kshark("--config", config, "--read", capture)
    assert (done.returncode, "every [[alert]] needs" in done.stderr) == (2, True)
