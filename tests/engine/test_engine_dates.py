"""One wrong date in a capture: no pair is lost, nothing is given up, and it shows in no latency."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from fakes import TOY

from kshark import wire
from kshark.api import INDEX_FORMAT, Block, Entry, Outcome
from kshark.engine import Engine
from kshark.limits import SECOND
from kshark.wire import pure

START = 1_700_000_000 * SECOND
YEAR = 365 * 24 * 3600 * SECOND


def packet(client: bool, seqs: list[int], text: bytes, flags: int = 0x10) -> bytes:
    """A segment of the connection 10.0.0.1:40000 to 10.0.0.2:7, on raw IPv4."""
    me, ports = (0, (40_000, 7)) if client else (1, (7, 40_000))
    ends = [b"\x0a\0\0\1", b"\x0a\0\0\2"]
    tcp = struct.pack(">HHIIBBHHH", *ports, seqs[me], seqs[1 - me], 5 << 4, flags, 9, 0, 0) + text
    seqs[me] += len(text) + (flags & 2) // 2
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    return head + ends[me] + ends[1 - me] + tcp


def entries(*rows: tuple[int, bytes]) -> tuple[list[Entry], dict[str, Any]]:
    """Each line is one packet, "> asks" or "< answers"; before them, both sides' SYN."""
    engine, seqs = Engine([TOY]), [100, 900]
    packets = [(0, packet(True, seqs, b"", 0x02)), (0, packet(False, seqs, b"", 0x12))]
    packets += [(ns, packet(line[:1] == b">", seqs, line[2:] + b"\n")) for ns, line in rows]
    out: list[Entry] = []
    for ns, data in packets:
        index = struct.pack(INDEX_FORMAT, START + ns, 0, len(data), len(data), 0, 0)
        out += engine.feed(Block(data, index, 1, 101))
    out += engine.finish()
    assert engine.ledger.check() == []
    return out, engine.ledger.snapshot()


@pytest.fixture(params=["as built", "pure"])
def built(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure":
        monkeypatch.setattr(wire, "load", lambda: pure.Wire)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_one_wrong_date(wrong: int) -> None:
    lines = [b"> TOY a", b"> GET b", b"< OK a", b"< OK b", b"> GET c", b"< OK c"]
    got, books = entries(*((YEAR if n == wrong else n, line) for n, line in enumerate(lines)))
    assert books["wire"]["misdated"] == 1
    assert [e.outcome for e in got] == [Outcome.OK] * 3
    for entry in got:
        assert entry.request is not None
        assert entry.response is not None
        assert START <= entry.request.first_ns <= entry.response.last_ns < START + 10


@pytest.mark.usefixtures("built")
def test_a_pause_shows_in_the_latency() -> None:
    """An answer after a minute of silence."""
    got, books = entries(
        (0, b"> TOY a"), (60 * SECOND, b"< OK a"), (60 * SECOND + 1, b"> GET b"), (60 * SECOND + 2, b"< OK b")
    )  # fmt: skip
    first = [e for e in got if e.response is not None and e.response.target == "a"]
    assert [e.response.last_ns for e in first if e.response] == [START + 60 * SECOND]
    assert books["wire"]["misdated"] == 0
