"""hpack-test-case and http2-frame-test-case, whole: every block, every frame, every error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from oracle import CORPORA

from kshark.api import DissectError, Message, Side
from kshark.protocols.http2 import hpack
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.faults import fault
from kshark.protocols.http2.frames import PREFACE, frame
from kshark.protocols.http2.hpack import fields

try:
    from kshark.protocols.http2 import _hpack as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

pytestmark = pytest.mark.corpora

STORIES = sorted((CORPORA / "hpack-test-case").rglob("story_*.json"))
FRAMES = sorted((CORPORA / "http2-frame-test-case").rglob("*.json"))
DECODERS: list[Any] = [hpack.Decoder]
DECODERS += [compiled.Decoder] if compiled else []


def test_all_are_there(corpora: Path) -> None:
    assert len(STORIES) > 50
    assert len(FRAMES) > 30


@pytest.mark.parametrize("make", DECODERS, ids=lambda one: one.__module__.rsplit(".", 1)[1])
@pytest.mark.parametrize("story", STORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_headers(corpora: Path, story: Path, make: type[hpack.Decoder]) -> None:
    """Each block of a connection, in order; the table's size as the story says."""
    decoder = make()
    for case in json.loads(story.read_text())["cases"]:
        if "header_table_size" in case:
            decoder.widen(case["header_table_size"])
        wire = bytes.fromhex(case["wire"])
        assert decoder.decode(wire, 0, len(wire)) == 0
        wanted = [(n.encode(), v.encode()) for one in case["headers"] for n, v in one.items()]
        assert list(fields(decoder.head)) == wanted


# ---------------------------------------------------------------- frames

LENIENT = {
    "window_update-frame-increment": "an increment of 0: flow control does not matter to a listener",
    "push_promise-frame-promised_stream-odd": "the promise is passed over, its block is decoded",
    "push_promise-frame-promised_stream-zero": "likewise",
    "window_update-frame-stream": "likewise",
}
"""Errors that do not hurt the framing, and that are no reason to give up a connection."""


def vector(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_frame(corpora: Path, path: Path) -> None:
    case = vector(path)
    wire = bytes.fromhex(case["wire"])
    head = frame(wire, 0)
    if case["error"] is None:
        told = case["frame"]
        assert list(head) == [told[k] for k in ("length", "type", "flags", "stream_identifier")]
        assert fault(*head) == ""
        return
    dissector = Http2Dissector()
    side = Side.SERVER if "push_promise" in path.stem else Side.CLIENT
    dissector.feed(Side.CLIENT, PREFACE)
    if path.stem in LENIENT:
        assert dissector.feed(side, wire) == []
        return
    with pytest.raises(DissectError):
        dissector.feed(side, wire)


def test_what_frames_carry(corpora: Path) -> None:
    """Padding and priorities are cut off: the pieces of blocks and of content are those of the vectors."""
    for path in FRAMES:
        case = vector(path)
        if case["error"] is not None or path.parent.name not in ("headers", "data"):
            continue
        told = case["frame"]["frame_payload"]
        lane = Http2Dissector().client
        dissector = Http2Dissector()
        dissector.feed(Side.CLIENT, PREFACE)
        wire = bytes.fromhex(case["wire"])
        if path.parent.name == "headers":
            wire = wire[:4] + bytes([wire[4] & ~4]) + wire[5:]  # more of the block may follow
            assert dissector.feed(Side.CLIENT, wire) == []
            lane = dissector.client
            assert b"".join(lane.block) == told["header_block_fragment"].encode()
        else:
            wire = wire[:5] + b"\0\0\0\x01" + wire[9:]  # a client does not use the vector's 2
            start = bytes.fromhex("000001010400000001") + b"\x83"
            found = list(dissector.feed(Side.CLIENT, start + wire))
            found += dissector.close()
            (message,) = found
            assert isinstance(message, Message)
            assert message.body == told["data"].encode()
