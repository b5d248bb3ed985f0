"""WebSocket against Zeek, Suricata and Arkime; and nothing else is ever taken for it."""

from __future__ import annotations

import base64
import codecs
import json
import re
from pathlib import Path

import pytest
from oracle import CAPTURES, CORPORA, replayed

from kshark.api import Entry
from kshark.protocols.websocket.details import WebSocketMessage, details

pytestmark = pytest.mark.corpora

SPEAKERS = {
    "arkime/websocket.pcap",
    "suricata-verify/websocket-ping/input.pcap",
    "suricata-verify/websocket/basic_websockets.pcap",
    "zeek/Traces/http/websocket.pcap",
    "zeek/Traces/websocket/jupyter-websocket.pcap",
    "zeek/Traces/websocket/two-binary-fragments.pcap",
}


def heard(name: str) -> list[tuple[Entry, WebSocketMessage]]:
    """The messages of a capture."""
    _, entries = replayed(CORPORA / name)
    return [
        (entry, details(entry.request))
        for entry in entries
        if entry.protocol == "websocket" and entry.request is not None
    ]


# ---------------------------------------------------------------- Zeek: every frame

FRAME = re.compile(
    r"websocket_frame, \w+, ([TF]), fin, ([TF]), rsv, (\d), opcode, (\w+), payload_len, (\d+)"
)
DATA = re.compile(r"websocket_frame_data, \w+, ([TF]), len, (\d+), data, (.*)", re.DOTALL)
CLOSED = re.compile(r"websocket_close, \w+, ([TF]), status, (\d+), reason, (.*)")
Said = tuple[str, str, int, int]  # side, type, frames, bytes


def events(capture: str) -> list[str]:
    """What Zeek's script printed for one of its captures."""
    path = CORPORA / "zeek/Baseline/scripts.base.protocols.websocket.events/out"
    lines, found = path.read_text().splitlines(), []
    current = ""
    for line in lines:
        if line.endswith(".pcap"):
            current = line
        elif current == capture:
            found.append(line)
    return found


def zeek(lines: list[str]) -> tuple[list[Said], dict[str, bytes]]:
    """Its frames as messages, and how the content of each side's first message begins."""
    said: list[Said] = []
    open_: dict[str, tuple[str, int, int]] = {}
    began: dict[str, bytes] = {}
    for line in lines:
        if found := FRAME.match(line):
            side, fin, _, opcode, size = found.groups()
            if opcode in ("close", "ping", "pong"):
                said.append((side, opcode, 1, int(size)))
                continue
            kind, frames, total = open_.pop(side, (opcode, 0, 0))
            one = (kind, frames + 1, total + int(size))
            if fin == "T":
                said.append((side, *one))
            else:
                open_[side] = one
        elif (found := DATA.match(line)) and found[1] not in began:
            began[found[1]] = codecs.escape_decode(found[3].encode("latin-1"))[0]
    return said, began


@pytest.mark.parametrize("name", ["jupyter-websocket", "two-binary-fragments"])
def test_zeek(corpora: Path, name: str) -> None:
    """Each message: who, what, in how many frames, of how many bytes; closes with code and reason."""
    lines = events(f"{name}.pcap")
    theirs, began = zeek(lines)
    mine = heard(f"zeek/Traces/websocket/{name}.pcap")
    ours = [("F" if e.swapped else "T", d.type, d.frames, d.payload_size) for e, d in mine]
    assert sorted(ours) == sorted(theirs)
    for side in "TF":
        assert [one for one in ours if one[0] == side] == [one for one in theirs if one[0] == side]
    closes = [found.groups() for line in lines if (found := CLOSED.match(line))]
    told = [
        ("F" if e.swapped else "T", str(d.close_code or 0), d.close_reason or "")
        for e, d in mine
        if d.type == "close"
    ]
    assert sorted(told) == sorted(closes)
    for side, start in began.items():
        contents = [content(d) for e, d in mine if e.swapped == (side == "F")]
        assert any(one.startswith(start[:20]) for one in contents)


def content(shown: WebSocketMessage) -> bytes:
    return base64.b64decode(shown.body) if shown.body_encoding else shown.body.encode()


def log(path: str) -> dict[str, str]:
    """The one line of a websocket.log."""
    lines = (CORPORA / path).read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    names = next(row for row in rows if "subprotocol" in row)
    names = names[1:] if names[0].startswith("#") else names
    values = next(row for row in rows if row[0].startswith("XXXX"))
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("baseline", "capture"),
    [
        ("scripts.base.protocols.websocket.jupyter-websocket", "websocket/jupyter-websocket"),
        ("scripts.base.protocols.http.101-switching-protocols", "http/websocket"),
    ],
)
def test_zeek_upgrade(corpora: Path, baseline: str, capture: str) -> None:
    told = log(f"zeek/Baseline/{baseline}/websocket.log")
    mine = heard(f"zeek/Traces/{capture}.pcap")
    assert {d.path for _, d in mine} == {told["uri"]}
    assert {d.subprotocol for _, d in mine} == {told["subprotocol"]}
    assert not any(d.compressed for _, d in mine)  # it was offered, and not taken


# ---------------------------------------------------------------- Suricata and Arkime


def test_suricata_ping(corpora: Path) -> None:
    """One ping, which is not masked though a client sends it, and one pong."""
    mine = heard("suricata-verify/websocket-ping/input.pcap")
    assert [(d.type, e.swapped, d.notes) for e, d in mine] == [
        ("ping", False, ["unmasked"]), ("text", True, []), ("pong", True, []),
    ]  # fmt: skip


def test_suricata_mask(corpora: Path) -> None:
    """One text has the mask 3803616749."""
    mine = heard("suricata-verify/websocket/basic_websockets.pcap")
    mask = (3_803_616_749).to_bytes(4, "big")
    masked = [d for e, d in mine if e.request and e.request.head[-4:] == mask and not e.swapped]
    assert len(masked) == 1
    assert masked[0].type == "text"
    assert all(d.body_encoding is None and d.notes == [] for _, d in mine if d.type == "text")


def test_arkime(corpora: Path) -> None:
    """Its session: the path, and bytes of each side after the heads of HTTP."""
    (session,) = json.loads((CORPORA / "arkime/websocket.test").read_text())["sessions3"]
    body = session["body"]
    _, entries = replayed(CORPORA / "arkime/websocket.pcap")
    sizes = [0, 0]
    for entry in entries:
        asked, answered = entry.request, entry.response
        sizes[int(entry.swapped)] += asked.size if asked else 0
        sizes[1] += answered.size if answered else 0
    assert {d.path for _, d in heard("arkime/websocket.pcap")} == {"/"}
    assert sizes == [body["client"]["bytes"], body["server"]["bytes"]]


# ---------------------------------------------------------------- nobody else


def test_nothing_else_is_taken_for_it(corpora: Path) -> None:
    """Of all captures, joined anywhere or not, these alone have WebSocket."""
    found = set()
    for name in CAPTURES:
        _, entries = replayed(CORPORA / name)
        if any(entry.protocol == "websocket" for entry in entries):
            found.add(name)
    assert found == SPEAKERS
