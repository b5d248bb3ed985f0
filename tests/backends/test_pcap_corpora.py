"""Captures against tshark: how many packets, their times, lengths and interfaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import captures
import pytest
from captures import Got, got

from kshark.backends.pcap import PcapBackend, PcapOptions

HERE = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("KSHARK_CORPORA", HERE / "../shared/corpora"))
CAPTURES = sorted(p for kind in ("pcap", "pcapng", "trace") for p in CORPORA.rglob(f"*.{kind}"))
EACH = 12  # every twelfth is compared packet by packet

pytestmark = pytest.mark.corpora


def tool(name: str) -> str:
    """The path of a tool, a visible skip without it, a failure where CI should have it."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return str(path)


def run(*command: str | Path) -> list[str]:
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.stdout.splitlines()


def test_the_corpora_are_there() -> None:
    if not CAPTURES:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no captures in {CORPORA}")


def test_counts() -> None:
    """One call of capinfos for all: name and count a line."""
    if not CAPTURES:
        pytest.skip(f"no captures in {CORPORA}")
    lines = run(tool("capinfos"), "-c", "-M", "-T", "-r", *CAPTURES)
    counts = dict(line.split("\t") for line in lines)
    assert len(counts) == len(CAPTURES)
    for path in CAPTURES:
        source = PcapBackend(PcapOptions(target=str(path)))
        assert len(got(source.read())) == int(counts[str(path)]), path
        assert source.stats().dropped == {}


def by_tshark(path: Path) -> list[Got]:
    """Packets as tshark tells them; their bytes are as many zeros, their linktype is left out."""
    fields = ["time_epoch", "cap_len", "len", "interface_name"]
    wanted = [part for field in fields for part in ("-e", f"frame.{field}")]
    packets = []
    for line in run(tool("tshark"), "-n", "-r", path, "-T", "fields", *wanted):
        time, captured, wire, iface = line.split("\t")
        ns = int(Decimal(time or 0) * 10**9)
        packets.append(Got(ns, bytes(int(captured)), int(wire), iface, 0))
    return packets


def by_us(path: Path) -> list[Got]:
    packets = got(PcapBackend(PcapOptions(target=str(path))).read())
    return [p._replace(data=bytes(len(p.data)), linktype=0) for p in packets]


@pytest.mark.parametrize("path", CAPTURES[::EACH], ids=lambda path: path.stem)
def test_times_and_lengths(path: Path) -> None:
    theirs = by_tshark(path)
    names = any(packet.iface for packet in theirs)
    assert [p if names else p._replace(iface="") for p in by_us(path)] == theirs


@pytest.mark.parametrize("order", "<>")
def test_every_pcapng_block(tmp_path: Path, order: str) -> None:
    """The capture made by hand; tshark gives a simple packet no time, we its predecessor's.

    The last two are of a second section: tshark 4.0 names the first section's interface there.
    """
    path = tmp_path / "everything.pcapng"
    path.write_bytes(captures.everything(order))
    ours, theirs = by_us(path), by_tshark(path)
    assert theirs[3].ns == 0
    assert ours[3].ns == ours[2].ns
    ours[3] = ours[3]._replace(ns=0)
    assert ours[:6] == theirs[:6]
    assert [p._replace(iface="") for p in ours[6:]] == [p._replace(iface="") for p in theirs[6:]]
