"""Worker processes: what they send comes whole, one that dies is said, none is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_plugin
import msgspec
import pytest

from kshark import limits, session, workers
from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome, Packet, PluginError
from kshark.app import Capture
from kshark.places import places
from kshark.plan import make_plan
from kshark.settings import Given

FAKE = fake_plugin.__file__


class Kept(msgspec.Struct):
    """What a protocol keeps for its details()."""

    size: int


def entry(seq: int, extra: Any = None, target: str = "/x") -> Entry:
    flow = Flow("f", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2, pid=7), "x", "eth0")
    packets = (Packet(5, b"raw", 3, 1, "eth0"),)
    request = Message(Kind.REQUEST, "GET", target, head=b"\xff", notes=("a",), extra=extra)
    return Entry(flow, seq, "http", request, None, Outcome.CUT, packets=packets)


@pytest.mark.parametrize("extra", [None, "text", 5, Kept(3), (b"a", [1])])
@pytest.mark.parametrize("target", ["/x", "/\udc80"], ids=["text", "no UTF-8"])
def test_entries_come_as_they_went(extra: Any, target: str) -> None:
    batch = [entry(1, extra, target), entry(2, extra, target)]
    found = workers.Unpacker().unpack(workers.pack([entry_copy(one) for one in batch]))
    for one in found:
        one.packets = tuple(one.packets)
    assert found == batch
    assert isinstance(found[0].outcome, Outcome)


class Leaves:
    """Goes out, and does not come in."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


class Stays:
    def __reduce__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize("extra", [lambda: 0, iter(()).__next__, Leaves(), Stays()])
@pytest.mark.parametrize("target", ["/x", "/\udc80"], ids=["text", "no UTF-8"])
def test_an_object_that_cannot_go_along_stays_behind_alone(extra: Any, target: str) -> None:
    if not isinstance(extra, Leaves | Stays):
        extra = (extra, threading.Lock())
    batch = [entry(1, Kept(3)), entry(2, extra, target), entry(3, (b"a",))]
    found = workers.Unpacker().unpack(workers.pack(batch))
    extras = [one.request.extra for one in found if one.request is not None]
    assert extras == [Kept(3), None, (b"a",)]


def test_wide_numbers_go_along() -> None:
    one = entry(1, 1 << 200)
    assert one.request is not None
    one.request.key = 1 << 127
    (found,) = workers.Unpacker().unpack(workers.pack([one]))
    assert found.request is not None
    assert (found.request.key, found.request.extra) == (1 << 127, 1 << 200)


def entry_copy(one: Entry) -> Entry:
    copied = msgspec.structs.replace(one)
    assert copied.request is not None
    copied.request = msgspec.structs.replace(copied.request)
    return copied


def test_entries_of_a_flow_share_it_again_until_it_changes() -> None:
    unpacker = workers.Unpacker()
    one, two = unpacker.unpack(workers.pack([entry(1), entry(2)]))
    assert one.flow is two.flow
    three = entry(3)
    three.flow.protocol = "redis"
    (found,) = unpacker.unpack(workers.pack([three]))
    assert found.flow.protocol == "redis"


def test_what_an_enricher_made_of_a_flow_stays_with_it() -> None:
    """Also while others come and go; one that has long been silent starts afresh."""
    unpacker = workers.Unpacker()

    def unpacked(name: str) -> Endpoint:
        one = entry(1)
        one.flow.id = name
        [found] = unpacker.unpack(workers.pack([one]))
        if name == "f":
            found.flow.server = msgspec.structs.replace(found.flow.server, dns="a.example")
            return unpacker.unpack(workers.pack([entry(2)]))[0].flow.server
        return found.flow.server

    assert unpacked("f").dns == "a.example"
    for number in range(limits.ROW_FLOWS - 1):
        unpacked(str(number))
    [kept] = unpacker.unpack(workers.pack([entry(3)]))
    assert kept.flow.server.dns == "a.example"
    for number in range(2 * limits.ROW_FLOWS):
        unpacked(f"other {number}")
    [lost] = unpacker.unpack(workers.pack([entry(4)]))
    assert lost.flow.server.dns is None


def children() -> set[str]:
    """Processes of this one, zombies too; other tests may keep a server."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def shared(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[Capture, str]]:
    """Run the shared fake backend in worker processes."""

    def call(options: str = "", count: int = 3) -> tuple[Capture, str]:
        line = {
            "backend": Given([f"shared{options}"], "--backend"),
            "sink": Given(["fakesink"], "--sink"),
            "workers": Given(str(count), "--workers"),
        }
        plan = make_plan(places(line, environ={}), [FAKE])
        before = children()
        capture = session.execute(plan, lambda text: None)
        assert children() == before, "no worker is left, not even as a zombie"
        return capture, capfd.readouterr().err

    return call


def test_all_workers_deliver(shared: Callable[..., tuple[Capture, str]]) -> None:
    capture, text = shared()
    snapshot = capture.snapshot()
    assert (capture.code, capture.check()) == (0, [])
    assert re.findall(r"fakesink got (\d+)", text) == ["300"]
    assert snapshot["packets"]["received"] == 300
    assert set(snapshot["backends"]) == {f"shared worker {n}" for n in range(3)}


def test_a_worker_that_dies(shared: Callable[..., tuple[Capture, str]]) -> None:
    capture, text = shared(",dies=1")
    assert capture.code == 1
    assert "kshark: worker 1 died (killed by signal 9); the others go on\n" in text
    assert re.findall(r"fakesink got (\d+)", text) == ["200"]
    assert capture.check() == []


def test_a_worker_that_cannot_start(shared: Callable[..., tuple[Capture, str]]) -> None:
    capture, text = shared(",wrong=1")
    assert (capture.code, text.count("shared: no such interface")) == (2, 1)
    assert re.findall(r"fakesink got (\d+)", text) == ["200"]


def test_workers_that_all_cannot_start_say_it_once(
    shared: Callable[..., tuple[Capture, str]],
) -> None:
    capture, text = shared(",wrong=99")
    assert (capture.code, text.count("shared: no such interface")) == (2, 1)


def test_stopping_takes_what_the_workers_have(
    shared: Callable[..., tuple[Capture, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSHARK_DURATION", "500ms")
    line = {
        "backend": Given(["shared,ends=no"], "--backend"),
        "sink": Given(["fakesink"], "--sink"),
        "workers": Given("2", "--workers"),
    }
    capture = session.execute(make_plan(places(line), [FAKE]), lambda text: None)
    assert (capture.code, capture.check()) == (0, [])
    assert capture.snapshot()["sinks"]["fakesink"]["delivered"] == 200


def test_a_file_is_read_by_one(tmp_path: Path) -> None:
    def plan(count: str) -> int:
        line = {
            "backend": Given(["fakefile"], "--backend"),
            "sink": Given(["fakesink"], "--sink"),
            "workers": Given(count, "--workers"),
        }
        return make_plan(places(line, environ={}), [FAKE]).workers

    assert plan("auto") == plan("1") == 1
    with pytest.raises(PluginError, match="--workers 2: fakefile is read by one process alone"):
        plan("2")


def test_lost_entries_of_a_worker_must_have_a_reason() -> None:
    remote = workers.Remote(workers.Child(0, 0, None), print, print)  # type: ignore[arg-type]
    ledger = {"entries": {"ok": 10}, "sinks": {"pipe": {"dropped": {"oldest": 3}}}}
    remote.account = workers.Account(ledger, [], 0, True, True)
    remote.received = 7
    assert (remote.lost(), remote.check()) == ({"worker 0": 3}, [])
    remote.received = 6
    assert remote.check() == ["worker 0: 4 entries missing, 3 accounted for"]


# ---------------------------------------------------------------- processes


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A run with two workers that does not end; comes back once they work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kshark", "run", "--plugin", FAKE, "--workers", "2", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    while process.stdout.readline().find(b"10.0.0.1") < 0:
        assert process.poll() is None
    return process


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except OSError:
        return True


def test_interrupt_ends_all_processes() -> None:
    process = start("--backend", "shared,ends=no")
    workers_ = children_of(process.pid)
    assert len(workers_) == 2
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 0, text
    assert b"Traceback" not in text
    assert all(gone(pid) for pid in workers_)


def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    process = start("--backend", "shared,ends=no")
    workers_ = children_of(process.pid)
    process.kill()
    process.communicate(timeout=30)
    for _ in range(500):
        if all(gone(pid) for pid in workers_):
            return
        time.sleep(0.02)
    pytest.fail("a worker outlived its parent by 10 s")
