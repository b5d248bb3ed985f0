"""The sink pcap, read back by tshark."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kshark.api import Entry, Outcome, Packet, PluginError, SinkBusy
from kshark.sinks import pcap as module
from kshark.sinks.pcap import Pcap, PcapOptions

NOON = 1_767_323_045_000_000_006
ETHERNET, RAW = 1, 101

if shutil.which("tshark") is None and os.environ.get("CI") == "true":
    raise RuntimeError("tshark is needed to read back what the sink writes")
tshark_needed = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is missing")


def udp(port: int, payload: bytes) -> bytes:
    """An IPv4 UDP packet; checksums zero, which is "none"."""
    head = struct.pack("!HHHH", port, 9, 8 + len(payload), 0)
    total = 28 + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 1, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2")
    return ip + head + payload


def packets(seq: int, count: int = 2, iface: str = "eth0", size: int = 3) -> list[Packet]:
    made = []
    for n in range(count):
        data = udp(1000 + seq, b"x" * (size + n))
        made.append(Packet(NOON + seq * 1000 + n, data, len(data) + 5, RAW, iface))
    return made


def write(context: Any, *batches: list[Entry], **options: Any) -> None:
    async def go() -> None:
        sink = Pcap(PcapOptions(**options), context)
        await sink.open()
        for batch in batches:
            await sink.write(batch)
        await sink.close()

    asyncio.run(go())


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """The values of fields of every packet; fails on any complaint of tshark's."""
    command = ["tshark", "-n", "-r", str(path), "-T", "json"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    assert (done.returncode, complaints) == (0, [])
    layers = [one["_source"]["layers"] for one in json.loads(done.stdout)]
    return [[layer.get(field, [""])[0] for field in fields] for layer in layers]


@tshark_needed
def test_packets_with_a_comment_on_the_first_of_an_entry(
    tmp_path: Path, context: Any, make_entry: Any
) -> None:
    out = tmp_path / "out.pcapng"
    batch = [
        make_entry(0, packets=packets(0)),
        make_entry(1, target="/é?a=1\n", packets=packets(1, 1, "cni0")),
        make_entry(2, packets=packets(2, 1), response=None, outcome=Outcome.UNANSWERED),
        make_entry(3),
    ]
    write(context, batch, target=str(out))
    got = tshark(
        out, "frame.comment", "frame.time_epoch", "frame.interface_name", "udp.srcport", "frame.len"
    )
    assert [(row[0], row[2], row[3]) for row in got] == [
        ("f1-0 http GET /r -> 200 ok", "eth0", "1000"),
        ("", "eth0", "1000"),
        ("f1-1 http GET /é?a=1\\n -> 200 ok", "cni0", "1001"),
        ("f1-2 http GET /r -> unanswered", "eth0", "1002"),
    ]
    assert [row[1].removesuffix("Z")[-9:] for row in got] == [
        "000000006",
        "000000007",
        "000001006",
        "000002006",
    ]
    assert got[0][4] == str(28 + 3 + 5)
    assert out.stat().st_mode & 0o077 == 0
    (said,) = context.said
    assert "not redacted" in said


@tshark_needed
def test_it_can_be_read_while_it_grows(tmp_path: Path, context: Any, make_entry: Any) -> None:
    out = tmp_path / "out.pcapng"

    async def go() -> None:
        sink = Pcap(PcapOptions(target=str(out)), context)
        await sink.open()
        assert tshark(out, "udp.srcport") == []
        for n in range(2):
            await sink.write([make_entry(n, packets=packets(n, 1))])
            assert len(tshark(out, "udp.srcport")) == n + 1
        await sink.close()

    asyncio.run(go())


@tshark_needed
def test_each_rotated_file_stands_alone(tmp_path: Path, context: Any, make_entry: Any) -> None:
    out = tmp_path / "out.pcapng"
    batch = [make_entry(n, packets=packets(n, 2, f"if{n % 2}")) for n in range(10)]
    write(context, batch[:5], batch[5:], target=str(out), rotate_bytes=1000)
    files = sorted(tmp_path.iterdir(), key=lambda path: (path == out, len(path.name), path.name))
    assert len(files) > 2
    assert all(path.stat().st_size <= 1000 for path in files)
    got = [row for path in files for row in tshark(path, "udp.srcport", "frame.interface_name")]
    assert got == [[str(1000 + n // 2), f"if{n // 2 % 2}"] for n in range(20)]


@tshark_needed
@pytest.mark.parametrize("rotate", [0, 1000])
def test_an_entry_that_cannot_be_stored_costs_that_entry(
    tmp_path: Path, context: Any, make_entry: Any, rotate: int
) -> None:
    out = tmp_path / "out.pcapng"
    batch = [make_entry(n, packets=packets(n, 1, f"if{n}")) for n in range(4)]
    batch[1].outcome = None
    batch[2].packets = [*packets(2, 1, "if2"), None, *packets(2, 1, "if3")]
    write(context, batch, target=str(out), rotate_bytes=rotate)
    files = sorted(tmp_path.iterdir(), key=lambda path: (path == out, len(path.name), path.name))
    got = [row[0] for path in files for row in tshark(path, "frame.interface_name")]
    assert got == ["if0", "if2", "if3"]
    assert context.lost == batch[1:3]


@tshark_needed
def test_too_many_interfaces_begin_a_new_section(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PCAPNG_IFACES", 2)
    out = tmp_path / "out.pcapng"
    batch = [make_entry(n, packets=packets(n, 1, f"if{n}")) for n in range(5)]
    write(context, batch, target=str(out))
    assert out.read_bytes().count(struct.pack("<I", 0x1A2B3C4D)) == 3
    assert [row[0] for row in tshark(out, "udp.srcport")] == [str(1000 + n) for n in range(5)]


@tshark_needed
def test_hostile_names_sizes_and_times(tmp_path: Path, context: Any, make_entry: Any) -> None:
    out = tmp_path / "out.pcapng"
    odd = Packet(-5, b"", 0, RAW, "\ud800" + "é" * 1000)
    late = Packet(2**70, udp(7, b""), 2**40, RAW, "eth0")
    made = make_entry(0, target="\x1b[2J\ud800" + "é" * 100_000, packets=[odd, late])
    write(context, [made], target=str(out))
    got = tshark(out, "frame.comment", "frame.len")
    assert got[0][0].startswith(r"f1-0 http GET \x1b[2J\ud800éé")
    assert len(got) == 2


@tshark_needed
def test_a_full_disk_leaves_no_hole(
    tmp_path: Path, context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write takes 50 bytes and then finds the disk full, in the midst of files that rotate."""
    out = tmp_path / "out.pcapng"
    genuine = os.write
    calls = 0

    def reluctant(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise OSError(28, "No space left on device")
        return genuine(fd, data[:50])

    async def go() -> None:
        sink = Pcap(PcapOptions(target=str(out), rotate_bytes=800), context)
        await sink.open()
        monkeypatch.setattr(os, "write", reluctant)
        batch = [make_entry(n, packets=packets(n)) for n in range(6)]
        while True:
            try:
                await sink.write(batch)
                break
            except SinkBusy:
                pass
        monkeypatch.undo()
        await sink.close()

    asyncio.run(go())
    files = sorted(tmp_path.iterdir(), key=lambda path: (path == out, path.name))
    got = [row[0] for path in files for row in tshark(path, "udp.srcport")]
    assert got == [str(1000 + n // 2) for n in range(12)]


def test_a_terminal_is_refused(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    with pytest.raises(PluginError, match="use pcap:FILE or a pipe"):
        write(context, [])
