"""The Python face: entries of a file and of a live backend, and what is raised."""

from __future__ import annotations

import asyncio
import doctest
import struct
import subprocess
import sys
from pathlib import Path

import fake_plugin
import pytest

import kshark
from kshark import face
from kshark.api import PluginError

FAKE = fake_plugin.__file__


def write_pcap(path: Path, count: int) -> Path:
    """A classic capture file with `count` fake packets."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number in range(count):
        frame = fake_plugin.packet(number)
        data += struct.pack("<IIII", 1_700_000_000 + number, 0, len(frame), len(frame)) + frame
    path.write_bytes(data)
    return path


def run(work: object) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work(), 20)  # type: ignore[operator]

    asyncio.run(limited())


def test_examples() -> None:
    assert doctest.testmod(face).failed == 0


def test_read(tmp_path: Path) -> None:
    entries = list(kshark.read(write_pcap(tmp_path / "x.pcap", 7)))
    assert [entry.src.port for entry in entries] == list(range(1024, 1031))
    assert {entry.protocol for entry in entries} == {"udp"}


def test_read_is_lazy_and_wrong_names_are_not(tmp_path: Path) -> None:
    kshark.read(tmp_path / "no.pcap")
    with pytest.raises(PluginError, match=r"no\.pcap"):
        next(kshark.read(tmp_path / "no.pcap"))
    with pytest.raises(PluginError, match="no protocol 'htpt'; did you mean http"):
        kshark.read(tmp_path / "no.pcap", protocols=["htpt"])


def test_the_environment_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHARK_COUNT", "1")
    monkeypatch.setenv("KSHARK_CONFIG", "/nowhere")
    assert len(list(kshark.read(write_pcap(tmp_path / "x.pcap", 7)))) == 7


def test_capture_until_the_backend_ends() -> None:
    async def work() -> None:
        async with kshark.capture("fakelive", plugins=[FAKE], packets=50) as entries:
            assert len([entry async for entry in entries]) == 50
            assert [entry async for entry in entries] == []
        assert entries.snapshot()["sinks"]["python"]["delivered"] == 50

    run(work)


def test_capture_left_early() -> None:
    async def work() -> None:
        async with kshark.capture("fakelive", plugins=[FAKE], spins=True) as entries:
            async for entry in entries:
                assert entry.protocol == "udp"
                break
        books = entries.snapshot()["sinks"]["python"]
        assert books["entries"] == books["delivered"] + sum(books["dropped"].values())

    run(work)


def test_capture_left_by_an_exception() -> None:
    async def work() -> None:
        with pytest.raises(KeyError):
            async with kshark.capture("fakelive", plugins=[FAKE], ends=False):
                raise KeyError

    run(work)


def test_capture_that_cannot_start() -> None:
    async def work() -> None:
        async with kshark.capture("fakelive", plugins=[FAKE], fails=1, how="plugin") as entries:
            with pytest.raises(PluginError, match="the interface is gone"):
                async for _ in entries:
                    pass

    run(work)
    with pytest.raises(PluginError, match="has no option 'packet'; did you mean packets"):
        kshark.capture("fakelive", plugins=[FAKE], packet=5)


def test_importing_the_api_imports_no_more() -> None:
    code = "import kshark.api, sys; print(*[m for m in sys.modules if m.startswith('kshark')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"kshark", "kshark._pure", "kshark.api"}


def test_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kshark.nothing  # noqa: B018
