"""The breakers of a library: what spins is interrupted, the caller is not, and his signals stay his."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fake_plugin
import hostile_plugin
import pytest
from test_face import write_pcap

import kshark
from kshark import alarm, limits

HERE = Path(__file__).parent
HOSTILE = hostile_plugin.__file__


def untouched() -> bool:
    return signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and not any(
        signal.getitimer(signal.ITIMER_REAL)
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limits, "BREAKER_CALL", limits.SECOND // 10)
    assert untouched()
    yield
    assert untouched()


@pytest.fixture
def capture_file(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "x.pcap", 7)


def seconds_of(count: int) -> float:
    return count * limits.BREAKER_FEED / limits.SECOND


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_a_dissector_that_hangs(
    how: str, capture_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three calls are interrupted, then it is switched off; all packets are there."""
    monkeypatch.setenv("BAD_HOW", f"feed:{how}")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "kshark"):
        entries = list(kshark.read(capture_file, plugins=[HOSTILE]))
    assert time.monotonic() - started >= seconds_of(3)  # how much more, a busy machine decides
    assert [entry.protocol for entry in entries] == ["udp"] * 7
    assert "ask is switched off: a call took over 0.25 s, 3 times" in caplog.messages


def test_the_caller_is_not_interrupted(capture_file: Path) -> None:
    """Between two entries nothing of ours is installed, and his timer and handler may be."""
    rings = []

    def ring(number: int, frame: FrameType | None) -> None:
        rings.append(number)

    for entry in kshark.read(capture_file, plugins=[HOSTILE]):
        assert entry.protocol == "ask"
        assert untouched()
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(0.05)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert len(rings) == 7


def test_a_signal_that_is_used_stays_with_its_user(capture_file: Path) -> None:
    def ring(number: int, frame: FrameType | None) -> None: ...

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        assert len(list(kshark.read(capture_file, plugins=[HOSTILE]))) == 7
        assert signal.getsignal(signal.SIGALRM) is ring
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 90
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_another_thread_has_none(capture_file: Path) -> None:
    found: list[Any] = []

    def reads() -> None:
        found.extend(kshark.read(capture_file, plugins=[HOSTILE]))
        found.append(alarm.free())

    thread = threading.Thread(target=reads)
    thread.start()
    thread.join()
    assert (len(found), found[-1]) == (8, False)


@pytest.mark.parametrize("place", ["feed", "enricher"])
def test_live(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller's loop stays his."""
    monkeypatch.setenv("BAD_HOW", f"{place}:spin")
    options: dict[str, Any] = {"plugins": [fake_plugin.__file__, HOSTILE], "packets": 50}

    async def work() -> int:
        count = 0
        async with kshark.capture("fakelive", **options) as entries:
            async for _ in entries:
                assert untouched()
                count += 1
        return count

    async def limited() -> int:
        return await asyncio.wait_for(work(), 20)

    with caplog.at_level(logging.WARNING, "kshark"):
        assert asyncio.run(limited()) == 50
    assert any("is switched off" in text or "it took over" in text for text in caplog.messages)


def test_nothing_is_left_on_its_way() -> None:
    """A timer that has just expired does not end the process once the handler is gone."""
    code = (
        "from kshark import alarm, breaker\n"
        "alarm.PERIOD = 3e-5\n"
        "post = alarm.Alarm(print)\n"
        "for n in range(20_000): post.work(len, ())\n"
        "print('lives')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "lives\n", "")
