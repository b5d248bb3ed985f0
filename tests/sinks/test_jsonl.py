"""The sink jsonl: whole lines, whatever rotates, fills up or goes away."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kshark.api import Entry, PluginError, SinkBusy
from kshark.sinks import _output
from kshark.sinks.jsonl import Jsonl, JsonlOptions


def write(context: Any, *batches: list[Entry], **options: Any) -> None:
    async def go() -> None:
        sink = Jsonl(JsonlOptions(**options), context)
        await sink.open()
        for batch in batches:
            await sink.write(batch)
        await sink.close()

    asyncio.run(go())


def ids(data: bytes) -> list[str]:
    assert data.endswith(b"\n")
    return [json.loads(line)["id"] for line in data.splitlines()]


def rotated(folder: Path) -> list[Path]:
    """Files put aside, oldest first."""
    found = [path for path in folder.iterdir() if "Z-" in path.name]
    return sorted(
        found, key=lambda p: (p.name.split("-")[0], int(p.name.split("-")[1].split(".")[0]))
    )


def test_a_file_gets_a_line_an_entry(tmp_path: Path, context: Any, make_entry: Any) -> None:
    out = tmp_path / "out.ndjson"
    write(context, [make_entry(0), make_entry(1)], [make_entry(2)], target=str(out))
    assert ids(out.read_bytes()) == ["f1-0", "f1-1", "f1-2"]


def test_append_is_the_default_and_truncate_begins_anew(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.ndjson"
    write(context, [make_entry(0)], target=str(out))
    write(context, [make_entry(1)], target=str(out))
    assert ids(out.read_bytes()) == ["f1-0", "f1-1"]
    write(context, [make_entry(2)], target=str(out), mode="truncate")
    assert ids(out.read_bytes()) == ["f1-2"]


def test_half_a_line_left_by_a_crash_is_not_joined(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.ndjson"
    out.write_bytes(b'{"id":"half')
    write(context, [make_entry(0)], target=str(out))
    assert out.read_bytes().splitlines()[0] == b'{"id":"half'
    assert ids(out.read_bytes().split(b"\n", 1)[1]) == ["f1-0"]


def test_an_entry_that_cannot_be_shown_costs_that_entry(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.ndjson"
    batch = [make_entry(n) for n in range(5)]
    batch[1].flow = None
    del batch[3].request.verb
    write(context, batch, [make_entry(5)], target=str(out))
    assert ids(out.read_bytes()) == ["f1-0", "f1-2", "f1-4", "f1-5"]
    assert context.lost == [batch[1], batch[3]]


def test_rotation_by_size_never_divides_a_line(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.ndjson"
    batch = [make_entry(n) for n in range(40)]
    line = len(context.encode(batch[:1]))
    limit = line * 3 + 100
    write(context, batch[:25], batch[25:], target=str(out), rotate_bytes=limit)
    files = [*rotated(tmp_path), out]
    assert len(files) == 14
    assert all(path.stat().st_size <= limit for path in files)
    assert [i for path in files for i in ids(path.read_bytes())] == [f"f1-{n}" for n in range(40)]


def test_a_line_larger_than_a_file_gets_one_of_its_own(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.ndjson"
    batch = [make_entry(n, target="/" + "x" * 500) for n in range(3)]
    write(context, batch, target=str(out), rotate_bytes=100)
    files = [*rotated(tmp_path), out]
    assert [ids(path.read_bytes()) for path in files] == [["f1-0"], ["f1-1"], ["f1-2"]]


def test_rotation_by_age(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = tmp_path / "out.ndjson"

    async def go() -> None:
        nonlocal now
        sink = Jsonl(JsonlOptions(target=str(out), rotate_seconds=60), context)
        await sink.open()
        now += 100  # an empty file is not put aside
        await sink.write([make_entry(0)])
        await sink.write([make_entry(1)])
        now += 61
        await sink.write([make_entry(2)])
        await sink.close()

    asyncio.run(go())
    (aside,) = rotated(tmp_path)
    assert ids(aside.read_bytes()) == ["f1-0", "f1-1"]
    assert ids(out.read_bytes()) == ["f1-2"]


def test_names_tell_time_and_order_and_the_oldest_go(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: (2026, 1, 2, 3, 4, 5, 4, 2, 0))
    out = tmp_path / "my.out.ndjson"
    other = tmp_path / "my.out.other.ndjson"
    other.touch()
    batch = [make_entry(n) for n in range(13)]
    write(context, batch, target=str(out), rotate_bytes=1, keep=3)
    assert [path.name for path in rotated(tmp_path)] == [
        f"my.out.20260102T030405Z-{n}.ndjson" for n in (10, 11, 12)
    ]
    assert other.exists()
    write(context, batch[:2], target=str(out), rotate_bytes=1, keep=3)
    assert rotated(tmp_path)[-1].name == "my.out.20260102T030405Z-14.ndjson"


def unpack(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    zstandard = pytest.importorskip("zstandard")
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return bytes(reader.read())


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_rotated_files_are_packed(
    tmp_path: Path, context: Any, make_entry: Any, packing: Any
) -> None:
    if packing == "zst":
        pytest.importorskip("zstandard")
    out = tmp_path / "out.ndjson"
    batch = [make_entry(n) for n in range(3)]
    write(context, batch, target=str(out), rotate_bytes=1, compress=packing)
    aside = rotated(tmp_path)
    assert [path.suffix for path in aside] == [f".{packing}"] * 2
    assert [ids(unpack(path)) for path in aside] == [["f1-0"], ["f1-1"]]
    assert ids(out.read_bytes()) == ["f1-2"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("by_name", [True, False])
def test_live_compression_is_readable_after_each_batch(
    tmp_path: Path, context: Any, make_entry: Any, packing: Any, by_name: Any
) -> None:
    if packing == "zst":
        pytest.importorskip("zstandard")
    out = tmp_path / f"out.ndjson.{packing}"
    options = (
        JsonlOptions(target=str(out))
        if by_name
        else JsonlOptions(target=str(tmp_path / "out.ndjson"), compress=packing)
    )

    async def go() -> None:
        sink = Jsonl(options, context)
        await sink.open()
        await sink.write([make_entry(0)])
        if packing == "gz":
            with pytest.raises(EOFError):
                gzip.decompress(out.read_bytes())
            told = subprocess.run(["gzip", "-dc", out], capture_output=True, check=False).stdout
            assert ids(told) == ["f1-0"]
        await sink.write([make_entry(1)])
        await sink.close()

    asyncio.run(go())
    write(context, [make_entry(2)], target=str(out))  # a second member, a second frame
    assert ids(unpack(out)) == ["f1-0", "f1-1", "f1-2"]


def test_a_full_disk_is_asked_again_and_loses_nothing(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.ndjson"
    batch = [make_entry(n) for n in range(5)]
    size = len(context.encode(batch))
    room = size // 2
    genuine = os.write

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = genuine(fd, data[:room])
        room -= written
        return written

    async def go() -> None:
        nonlocal room
        sink = Jsonl(JsonlOptions(target=str(out)), context)
        await sink.open()
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(SinkBusy, match="disk is full"):
            await sink.write(batch)
        with pytest.raises(SinkBusy):
            await sink.write(batch)
        room = size
        await sink.write(batch)
        room = size
        await sink.write([make_entry(5)])
        await sink.close()

    asyncio.run(go())
    assert ids(out.read_bytes()) == [f"f1-{n}" for n in range(6)]


def test_a_disk_that_stays_full_ends_the_sink_with_one_line(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    async def go() -> None:
        sink = Jsonl(JsonlOptions(target=str(tmp_path / "out")), context)
        await sink.open()
        monkeypatch.setattr(os, "write", full)
        batch = [make_entry()]
        for _ in range(_output.FULL_TRIES):
            with pytest.raises(SinkBusy):
                await sink.write(batch)
        with pytest.raises(PluginError, match="/out: the disk is full; free space or choose"):
            await sink.write(batch)
        monkeypatch.undo()
        await sink.close()

    asyncio.run(go())


def test_a_device_that_is_full_stays_so(context: Any, make_entry: Any) -> None:
    with pytest.raises(PluginError, match=r"^/dev/full: the disk is full"):
        write(context, [make_entry()], target="/dev/full")


@pytest.mark.parametrize(
    ("target", "told"),
    [("nowhere/out.ndjson", "no such file or directory"), (".", "is a directory")],
)
def test_what_cannot_be_opened_is_told_in_one_line(
    tmp_path: Path, context: Any, target: Any, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=f"{target}: {told}"):
        write(context, target=target)


def test_only_a_file_rotates(context: Any) -> None:
    with pytest.raises(PluginError, match="cannot rotate, only a file can"):
        write(context, target="/dev/null", rotate_bytes=100)


def test_a_fifo_without_a_reader_is_refused(tmp_path: Path, context: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(PluginError, match="nobody reads it"):
        write(context, target=str(tmp_path / "fifo"))


@pytest.mark.parametrize("when", ["never", "rotate", "batch"])
def test_fsync_when_asked(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch, when: Any
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    batches = [[make_entry(0)], [make_entry(1)]]
    write(context, *batches, target=str(tmp_path / "o.ndjson"), rotate_bytes=1, fsync=when)
    assert len(calls) == {"never": 0, "rotate": 2, "batch": 4}[when]


def test_a_slow_disk_is_written_in_a_thread(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_output, "SLOW_WRITE", -1.0)
    out = tmp_path / "out.ndjson"
    write(context, [make_entry(0)], [make_entry(1)], [make_entry(2)], target=str(out))
    assert ids(out.read_bytes()) == ["f1-0", "f1-1", "f1-2"]


SCRIPT = """
import asyncio, sys
from kshark.api import PluginError
from kshark.sinks.jsonl import Jsonl, JsonlOptions
class Context:
    def encode(self, batch, full): return b"x" * 999 + b"\\n"
    def say(self, text): pass
async def go():
    sink = Jsonl(JsonlOptions(), Context())
    await sink.open()
    try:
        for _ in range(COUNT):
            await sink.write([object()])
    except PluginError as error:
        sys.stderr.write(f"{error}\\n")
    await sink.close()
asyncio.run(go())
"""


def run(count: int, **pipes: Any) -> subprocess.Popen[bytes]:
    script = SCRIPT.replace("COUNT", str(count))
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, **pipes)


def test_a_closed_standard_output_is_told_once() -> None:
    process = run(100_000, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1000)
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b"standard output was closed\n"
    assert process.wait(10) == 0


def test_a_slow_reader_gets_every_byte_and_keeps_its_pipe_blocking() -> None:
    read, written = os.pipe()
    process = run(500, stdout=written)
    assert os.get_blocking(written)
    os.close(written)
    with open(read, "rb") as pipe:
        got = pipe.read(1000)
        got += pipe.read()
    assert got == (b"x" * 999 + b"\n") * 500
    assert process.wait(10) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_a_stalled_reader_does_not_stop_the_loop(
    context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is full: the write can be cancelled, and closing waits no longer than CLOSE_WAIT."""
    monkeypatch.setattr(_output, "CLOSE_WAIT", 0.05)
    read, written = os.pipe()

    async def go() -> None:
        sink = Jsonl(JsonlOptions(target=f"/proc/self/fd/{written}"), context)
        await sink.open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sink.write([make_entry(target="/" * 200_000)]), 0.05)
        with pytest.raises(PluginError, match="not taken by the reader"):
            await sink.close()

    asyncio.run(go())
    os.close(read)
    os.close(written)


def test_standard_output_as_a_socket() -> None:
    import socket

    ours, theirs = socket.socketpair()
    process = run(300, stdout=theirs.fileno())
    theirs.close()
    got = b""
    while data := ours.recv(1 << 16):
        got += data
    ours.close()
    assert len(got) == 300_000
    assert process.wait(10) == 0
    assert process.stderr is not None
    process.stderr.close()
