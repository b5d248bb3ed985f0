"""What is around the programs that copy packets: their times, and what is said when they cannot be had."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from kshark.backends import _loaded, _shift
from kshark.backends._loaded import explained, missing
from kshark.backends._shift import LOOK, STEP, Shift


class Clocks:
    """Both clocks of a machine, `between` ns apart."""

    def __init__(self) -> None:
        self.now = 5_000_000_000
        self.between = 1_700_000_000_000_000_000

    def monotonic_ns(self) -> int:
        self.now += 40  # a look takes a while
        return self.now

    def time_ns(self) -> int:
        return self.monotonic_ns() + self.between


def test_times_follow_a_clock_that_is_set_and_no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(_shift, "time", clocks)
    shift = Shift()
    first = shift.now()
    assert abs(first - clocks.between) < 100
    clocks.between += STEP // 2
    clocks.now += 2 * LOOK
    assert shift.now() == first
    clocks.between += 3_600_000_000_000
    assert shift.now() == first, "it is looked at now and then only"
    clocks.now += 2 * LOOK
    assert abs(shift.now() - clocks.between) < 100


def test_what_the_verifier_refuses_is_no_lack_of_privileges() -> None:
    refused = explained(OSError(errno.EACCES, "packet.bpf.o: cannot be loaded: invalid access"))
    assert refused == "packet.bpf.o: cannot be loaded: invalid access"
    assert explained(OSError(errno.EPERM, "no")).startswith("needs CAP_BPF and CAP_NET_ADMIN")


def test_without_the_objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_loaded, "program", lambda name: tmp_path / f"{name}.bpf.o")
    assert "built without its eBPF programs" in missing(("frame",))


def test_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert missing(("frame",)).startswith("needs Linux, this is darwin: read a capture file")
