"""What a peer sent is in no reason, error or line, wherever the protocol breaks."""

from __future__ import annotations

from typing import Any

import pytest
from numbered import SPECS, Talk, block, timed
from record import CLASSES

from kshark import wire
from kshark.engine import Engine

GOOD = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
BROKEN = [
    b"\x01hunter2 \r\n",
    b"*hunter2\r\n",
    b"*2\r\nhunter2\r\n",
    b"*2\r\n$hunter2\r\n",
    b"*1\r\n$7\r\nhunter2xx",
    b"*1\r\n$7hunter2\r\n",
]
BACK = [
    b"hunter2\r\n",
    b"$hunter2\r\n",
    b":hunter2\r\n",
    b"*hunter2\r\n",
    b"#hunter2\r\n",
    b"_hunter2",
]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("side", "data"), [*((0, data) for data in BROKEN), *((1, data) for data in BACK)]
)
def test_no_bytes_of_the_peer_in_the_books(
    side: int, data: bytes, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "load", lambda: cls)
    talk = Talk(ports=(40_000, 6379)).open()
    for _ in range(5):
        talk.send(0, GOOD)
        talk.send(1, b"+OK\r\n")
    talk.send(0, GOOD)
    for _ in range(10):
        talk.send(side, data)
    said: list[str] = []
    engine = Engine(SPECS, None, said.append)
    entries = engine.feed(block(timed(talk.close().packets))) + engine.finish()
    shown = [engine.ledger.snapshot(), said, [entry.flow for entry in entries]]
    assert engine.ledger.errors
    assert "hunter2" not in repr(shown)
    assert "hunt" not in repr(shown)
