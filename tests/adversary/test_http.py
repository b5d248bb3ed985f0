"""HTTP that is legal, or nearly: never a wrong pair, never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from numbered import Talk, answer, ask, outcomes, played, timed
from record import CLASSES

from kshark.api import Entry
from kshark.engine import Engine

CLIENT, SERVER = 0, 1


def exchanged(
    turns: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch, cls: Any
) -> list[Entry]:
    """The entries of a conversation, in segments of at most 1,400 bytes."""
    talk = Talk().open()
    for side, data in turns:
        for at in range(0, len(data), 1_400):
            talk.send(side, data[at : at + 1_400])
    return played(timed(talk.close().packets), monkeypatch, cls)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("length", [2**60, 2**62, 2**63 - 100, 2**63 - 2, 2**63 - 1])
def test_lengths_near_the_largest_integer(
    length: int, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blamed: list[str] = []
    monkeypatch.setattr(Engine, "blame", lambda self, name, error: blamed.append(repr(error)))
    head = b"POST /id-1 HTTP/1.1\r\nContent-Length: %d\r\n\r\nxx" % length
    back = b"HTTP/1.1 200 OK\r\nX: id-1\r\nContent-Length: %d\r\n\r\nyyy" % length
    [entry] = exchanged([(CLIENT, head), (SERVER, back)], monkeypatch, cls)
    assert entry.request is not None
    assert entry.response is not None
    assert (entry.outcome, entry.request.size, entry.response.size) == ("cut", len(head), len(back))
    assert not blamed


@pytest.mark.parametrize("cls", CLASSES)
def test_an_early_answer(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(1, b"x" * 10_000)
    turns = [
        (CLIENT, whole[:5_000]),
        (SERVER, b"HTTP/1.1 413 Too Large\r\nX: id-1\r\nContent-Length: 0\r\n\r\n"),
        (CLIENT, whole[5_000:]),
        *((side, f(n)) for n in (2, 3, 4) for side, f in ((CLIENT, ask), (SERVER, answer))),
    ]
    assert outcomes(exchanged(turns, monkeypatch, cls)) == {"ok": 3, "error": 1}


@pytest.mark.parametrize("cls", CLASSES)
def test_an_early_answer_that_ends_the_connection(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [
        (CLIENT, ask(1, b"x" * 10_000)[:5_000]),
        (SERVER, b"HTTP/1.1 413 Too Large\r\nX: id-1\r\nContent-Length: 0\r\n\r\n"),
    ]
    [entry] = exchanged(turns, monkeypatch, cls)
    assert entry.response is not None
    assert entry.response.status == 413


def test_tunnels_in_tunnels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    [cls] = CLASSES[0].values
    count = 200
    turns = [
        (CLIENT, b"CONNECT a:1 HTTP/1.0\n\n" * count),
        (SERVER, b"HTTP/1.0 200\n\n" * count),
    ]
    found = exchanged(turns, monkeypatch, cls)
    assert len([entry for entry in found if entry.protocol == "http"]) <= 32
