"""Where captures come from: compressed files, slow pipes, growing files."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import captures
import pytest
from captures import EVERYTHING, Got, got

from kshark.api import PluginError
from kshark.backends import _packed, _source
from kshark.backends.pcap import PcapBackend, PcapOptions, read_blocks

ZSTD = shutil.which("zstd")


def zstd(data: bytes) -> bytes:
    if ZSTD is None:
        pytest.skip("the command zstd is not installed")
    return subprocess.run([ZSTD, "-cq"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.fixture(params=["package", "command"])
def either_zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once by the package, once by the command."""
    if request.param == "package":
        pytest.importorskip("zstandard")
    else:
        monkeypatch.setitem(sys.modules, "zstandard", None)


def wrote(folder: Path, data: bytes, name: str = "x.pcap") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def read(path: str) -> tuple[list[Got], list[str]]:
    source = PcapBackend(PcapOptions(target=path))
    return got(source.read()), source.stats().notes


# --------------------------------------------------------------------------- compression


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.usefixtures("either_zstd")
def test_packed(tmp_path: Path, packing: str) -> None:
    data = captures.classic(3_000)
    path = wrote(tmp_path, PACKERS[packing](data), "named-for-nothing.bin")
    assert read(path) == (got(read_blocks(wrote(tmp_path, data))), [])


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.usefixtures("either_zstd")
def test_packed_in_several_members(tmp_path: Path, packing: str) -> None:
    data = captures.everything()
    pieces = [PACKERS[packing](data[at : at + 100]) for at in range(0, len(data), 100)]
    assert read(wrote(tmp_path, b"".join(pieces))) == (EVERYTHING, [])


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.usefixtures("either_zstd")
def test_packed_and_cut(tmp_path: Path, packing: str) -> None:
    noise = Random(1).randbytes(1_300_000)  # more than one block of bzip2
    pieces = (noise[at : at + 1_000] for at in range(0, len(noise), 1_000))
    whole = captures.header() + b"".join(captures.record(1, 1, piece) for piece in pieces)
    packets = got(read_blocks(wrote(tmp_path, whole)))
    packed = PACKERS[packing](whole)
    found, notes = read(wrote(tmp_path, packed[: len(packed) * 3 // 4]))
    assert 800 < len(found) < 1_000
    assert found == packets[: len(found)]
    assert len(notes) == 1
    assert "ends early" in notes[0]


@pytest.mark.usefixtures("either_zstd")
@pytest.mark.parametrize("packing", PACKERS)
def test_packed_and_damaged(tmp_path: Path, packing: str) -> None:
    packed = bytearray(PACKERS[packing](captures.classic(50)))
    packed[20:] = b"\xff" * (len(packed) - 20)
    with pytest.raises(PluginError, match="compressed data is damaged"):
        read(wrote(tmp_path, bytes(packed)))


def test_packed_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="seems to be text"):
        read(wrote(tmp_path, gzip.compress(b"hello, this is no capture at all\n")))
    with pytest.raises(PluginError, match="packed twice"):
        read(wrote(tmp_path, gzip.compress(gzip.compress(captures.classic()))))
    with pytest.raises(PluginError, match="is empty"):
        read(wrote(tmp_path, gzip.compress(b"")))


def test_zstd_by_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wrote(tmp_path, zstd(captures.classic()))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="install the package zstandard"):
        read(path)


def bomb(packing: str) -> bytes:
    return PACKERS[packing](bytes(16 << 20))


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_comes_in_bounded_pieces(packing: str) -> None:
    make = _packed.maker(packing)
    if make is None:
        pytest.skip("the package zstandard is not installed")
    member, packed, total = make(), bomb(packing), 0
    while not member.eof:
        out = member.decompress(packed, 65_536)
        packed = b""
        assert len(out) <= 65_536
        assert len(getattr(member, "_out", b"")) <= 256 * 128 * 1024
        total += len(out)
    assert total == 16 << 20


def test_padding_after_the_last_member(tmp_path: Path) -> None:
    path = wrote(tmp_path, gzip.compress(captures.everything()) + bytes(512))
    assert read(path) == (EVERYTHING, [])


# -------------------------------------------------------------------------------- pipes

READER = """
import sys
from kshark.backends.pcap import read_blocks
for block in read_blocks("-"):
    print(block.count, flush=True)
"""


@pytest.fixture
def reader() -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads its standard input and prints each block's count."""
    with subprocess.Popen(
        [sys.executable, "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        yield process
        process.kill()


def test_slow_pipe_hands_over_each_whole_record_at_once(reader: subprocess.Popen[bytes]) -> None:
    assert reader.stdin
    assert reader.stdout
    data = captures.classic(3)
    for piece in (data[:3], data[3:24], data[24:45], data[45:50]):
        reader.stdin.write(piece)
    assert reader.stdout.readline() == b"1\n"  # the second record is not whole yet
    reader.stdin.write(data[50:])
    reader.stdin.close()
    assert sum(int(line) for line in reader.stdout) == 2
    assert reader.wait() == 0


@pytest.mark.usefixtures("either_zstd")
@pytest.mark.parametrize("packing", PACKERS)
def test_standard_input_may_be_packed(packing: str) -> None:
    packed = PACKERS[packing](captures.everything())
    with piped() as write:
        thread = threading.Thread(target=trickle, args=(write, packed))
        thread.start()
        packets = got(read_blocks("-"))
        thread.join()
    assert packets == EVERYTHING


class piped:
    """Standard input is a pipe: gives its writing end, and puts the old one back."""

    def __init__(self) -> None:
        self._saved = os.dup(0)

    def __enter__(self) -> int:
        read_end, write_end = os.pipe()
        os.dup2(read_end, 0)
        os.close(read_end)
        return write_end

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 0)
        os.close(self._saved)


def trickle(fd: int, data: bytes) -> None:
    """Write in odd pieces, then close."""
    for at in range(0, len(data), 61):
        os.write(fd, data[at : at + 61])
    os.close(fd)


async def collect(source: PcapBackend, into: list[Got], until: int = 1 << 30) -> None:
    async for block in source.blocks():
        into += got([block])
        if len(into) >= until:
            return


def test_a_waiting_pipe_leaves_the_loop_free_and_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main() -> list[Got]:
        source, packets = PcapBackend(PcapOptions(target=str(path))), list[Got]()
        task = asyncio.create_task(collect(source, packets))
        await asyncio.sleep(0.01)  # nobody has opened it for writing: no block, no end
        assert not task.done()
        fd = os.open(path, os.O_WRONLY)
        data = captures.classic(3)
        os.write(fd, data[: 24 + 26 + 27])
        while len(packets) < 2:
            await asyncio.sleep(0.001)
        os.write(fd, data[24 + 26 + 27 :])
        while len(packets) < 3:
            await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        os.close(fd)
        assert source.progress() == (len(data), len(data))
        return packets

    assert len(asyncio.run(asyncio.wait_for(main(), 10))) == 3


def test_a_terminal_is_refused() -> None:
    master, slave = os.openpty()
    try:
        with pytest.raises(PluginError, match="is a terminal, pipe a capture into it"):
            _source.open_file(os.ttyname(slave), follow=False)
    finally:
        os.close(master)
        os.close(slave)


def test_a_closed_standard_input_is_refused() -> None:
    with piped() as write:
        os.close(write)
        with select.epoll() as loop:  # what an event loop makes of the free number
            os.dup2(loop.fileno(), 0)
            with pytest.raises(PluginError, match="standard input is closed"):
                got(read_blocks("-"))
        os.close(0)
        with pytest.raises(PluginError, match="standard input is closed"):
            got(read_blocks("-"))


# ------------------------------------------------------------------------------- follow


class Growing:
    """A file that a test writes while a backend follows it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.packets: list[Got] = []
        monkeypatch.setattr("kshark.backends.pcap.PAUSE", 0.001)

    def add(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    async def expect(self, count: int) -> None:
        while len(self.packets) < count:
            await asyncio.sleep(0.001)
        assert len(self.packets) == count

    def run(self, script: Callable[[], object]) -> PcapBackend:
        """Follow the file while the coroutine function `script` runs, then cancel."""
        source = PcapBackend(PcapOptions(target=str(self.path), follow=True))

        async def main() -> None:
            task = asyncio.create_task(collect(source, self.packets))
            await asyncio.wait_for(script(), 10)  # type: ignore[arg-type]
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        return source


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    return Growing(tmp_path / "grows.pcap", monkeypatch)


def test_follow_waits_for_the_rest_of_a_record(growing: Growing) -> None:
    data = captures.classic(3)

    async def script() -> None:
        for cut in ((0, 5), (5, 60)):
            growing.add(data[slice(*cut)])
            await asyncio.sleep(0.01)
        await growing.expect(1)
        growing.add(data[60:])
        await growing.expect(3)

    growing.add(b"")
    source = growing.run(script)
    assert growing.packets == got(read_blocks(str(growing.path)))
    assert source.stats().notes == []


def test_follow_notices_a_cut_file(growing: Growing) -> None:
    async def script() -> None:
        await growing.expect(3)
        growing.path.write_bytes(captures.classic(1))
        await growing.expect(4)
        growing.add(captures.classic(2)[50:])
        await growing.expect(5)

    growing.add(captures.classic(3))
    notes = growing.run(script).stats().notes
    assert len(notes) == 1
    assert notes[0].startswith(f"{growing.path} was cut to ")
    assert notes[0].endswith("reading goes on at its start")


def test_follow_notices_another_file(growing: Growing) -> None:
    async def script() -> None:
        await growing.expect(3)
        growing.path.rename(growing.path.with_suffix(".1"))
        await asyncio.sleep(0.01)  # gone for a moment is not the end
        growing.path.with_suffix(".new").write_bytes(captures.everything())
        growing.path.with_suffix(".new").rename(growing.path)
        await growing.expect(3 + len(EVERYTHING))

    growing.add(captures.classic(3))
    source = growing.run(script)
    notes = [f"{growing.path} was replaced by another file; reading goes on at its start"]
    assert source.stats().notes == notes
    assert source.stats().dropped == {"interface": 10, "kernel": 2}
    assert growing.packets[3:] == EVERYTHING


def test_follow_takes_plain_files_only(tmp_path: Path) -> None:
    path = wrote(tmp_path, gzip.compress(captures.classic()))
    with pytest.raises(PluginError, match="follow works on plain captures only"):
        got(read_blocks(path, follow=True))
