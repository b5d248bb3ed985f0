"""What becomes of frames: messages, sizes, errors, what is lost, what is inflated."""

from __future__ import annotations

import os

import pytest
from websocket_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    RSV1,
    TEXT,
    C,
    S,
    closed,
    dissector,
    frame,
    packed,
    packer,
    text,
)

from kshark import limits
from kshark.api import DissectError, Message, Side
from kshark.protocols.websocket.details import details as shown
from kshark.protocols.websocket.dissector import WebSocketDissector
from kshark.protocols.websocket.inflate import WINDOWS, Inflater, inflate
from kshark.protocols.websocket.negotiated import Deflate, negotiated

DEFLATE = "permessage-deflate"


def fed(made: WebSocketDissector, side: Side, *pieces: bytes | int) -> list[Message]:
    """The messages of these pieces; numbers are bytes that were lost."""
    found: list[Message] = []
    for piece in pieces:
        given = made.gap(side, piece) if isinstance(piece, int) else made.feed(side, piece)
        found += [message for message in given if isinstance(message, Message)]
    return found


def bodies(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]


# ---------------------------------------------------------------- frames


def test_a_message_of_each_kind() -> None:
    made = dissector()
    stream = text(C, "hi") + frame(C, FIN | BINARY, b"\0\1") + frame(C, FIN | PING, b"p")
    found = fed(made, C, stream)
    assert [(m.verb, m.target, m.body, m.size) for m in found] == [
        ("text", "/chat", b"hi", 8),
        ("binary", "/chat", b"\0\1", 8),
        ("ping", "/chat", b"p", 7),
    ]


def test_a_control_frame_between_fragments() -> None:
    made = dissector()
    found = fed(made, S, frame(S, TEXT, b"one "), frame(S, FIN | PING, b"?"), frame(S, FIN, b"two"))
    assert [(m.verb, m.body) for m in found] == [("ping", b"?"), ("text", b"one two")]
    assert shown(found[1]).frames == 2


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_lengths(size: int) -> None:
    data = os.urandom(size)
    for side in Side:
        [found] = fed(dissector(), side, frame(side, FIN | BINARY, data))
        assert found.body == data[: limits.BODY_KEPT]
        assert found.truncated == (size > limits.BODY_KEPT)
        assert shown(found).payload_size == size


@pytest.mark.parametrize(
    ("side", "data", "said"),
    [
        (S, b"\x83\x00", "reserved opcode 3"),
        (S, b"\x8b\x00", "reserved opcode 11"),
        (S, b"\xa1\x00", "a reserved bit"),
        (S, b"\xc1\x00", "a reserved bit"),
        (S, b"\x89\x7e", "long or in fragments"),
        (S, b"\x09\x00", "long or in fragments"),
        (S, b"\x80\x00", "a fragment of no message"),
        (S, b"\x01\x00\x81\x00", "a message within another"),
        (S, b"\x82\x7e\x00\x7d", "a length"),
        (S, b"\x82\x7f" + (65_535).to_bytes(8), "a length"),
        (S, b"\x82\x7f\x80" + bytes(7), "a length"),
        (S, b"\x88\x01", "a close frame of one byte"),
        (S, b"\x88\x00\x81\x00", "after a close"),
    ],
)
def test_what_breaks_rfc_6455(side: Side, data: bytes, said: str) -> None:
    with pytest.raises(DissectError, match=said):
        list(dissector().feed(side, data))


def test_who_should_mask_and_does_not() -> None:
    """After an upgrade it is noted; where no upgrade was seen, it is a reason not to believe that these are frames."""
    [found] = fed(dissector(), C, b"\x89\x02hi")
    assert (found.body, found.notes) == (b"hi", ("unmasked",))
    [found] = fed(dissector(), S, frame(C, FIN | TEXT, b"hi"))
    assert (found.body, found.notes) == (b"hi", ("masked",))
    for side, data in ((C, b"\x81\x00"), (S, b"\x81\x80")):
        with pytest.raises(DissectError, match="mask"):
            list(WebSocketDissector().feed(side, data))


def test_control_frames_are_never_compressed() -> None:
    with pytest.raises(DissectError, match="reserved bit"):
        list(dissector(DEFLATE).feed(S, frame(S, FIN | RSV1 | PING)))


def test_bits_of_an_extension_that_nobody_knows_are_its_own() -> None:
    [found] = fed(dissector("x-own"), S, frame(S, FIN | 0x30 | TEXT, b"own"))
    assert found.body == b"own"


# ---------------------------------------------------------------- closes


@pytest.mark.parametrize(
    ("code", "ok", "name"),
    [
        (1000, True, "normal"), (1001, True, "going-away"), (1002, False, "protocol-error"),
        (1011, False, "internal-error"), (4401, False, None),
    ],
)  # fmt: skip
def test_codes_of_a_close(code: int, ok: bool, name: str | None) -> None:
    [found] = fed(dissector(), S, closed(S, code, "why"))
    assert (found.verb, found.ok) == ("close", ok)
    assert found.notes == (() if ok else (f"close-{code}",))
    told = shown(found)
    assert (told.close_code, told.close_name, told.close_reason) == (code, name, "why")


def test_a_close_without_a_code() -> None:
    [found] = fed(dissector(), C, frame(C, FIN | CLOSE))
    assert (found.ok, shown(found).close_code) == (True, None)


# ---------------------------------------------------------------- loss


def test_a_hole_in_a_payload() -> None:
    data = frame(C, FIN | TEXT, b"0123456789" * 20)
    found = fed(dissector(), C, data[:50], 100, data[150:] + text(C, "next"))
    assert [(m.truncated, m.gap_bytes, m.notes) for m in found] == [(True, 100, ()), (False, 0, ())]
    assert found[0].body == (b"0123456789" * 20)[:42]
    assert found[1].body == b"next"


def test_a_hole_beyond_a_payload() -> None:
    """The message is cut, and the next one is believed when a chain of frames says so."""
    first, more = text(C, "first"), [text(C, f"message {n}") for n in range(5)]
    found = fed(dissector(), C, first[:8], len(first), *more)
    assert found[0].cut
    assert bodies(found[1:]) == [b"message %d" % n for n in range(5)]
    assert "resync" not in found[1].notes  # nothing was passed over


def test_after_a_loss_half_a_frame_is_passed_over() -> None:
    more = [text(S, f'{{"message": {n}}}') for n in range(6)]
    found = fed(dissector(), S, 7, b"the end of another", *more)
    assert found[0].notes == ("resync",)
    assert found[0].size == len(more[0]) + 18
    assert len(found) == 6


def test_a_search_keeps_little() -> None:
    made = dissector()
    noise = bytes([0x82, 0x7E, 0xFF, 0xFF]) * 40_000  # each may begin a frame
    fed(made, S, 1, *(noise[at : at + 1000] for at in range(0, len(noise), 1000)))
    assert made.slim() < 2 * limits.WS_SEARCHED


def test_slim() -> None:
    made = dissector()
    data = frame(S, FIN | BINARY, b"x" * 1000)
    assert fed(made, S, data[:500]) == []
    assert made.slim() == 0
    [found] = fed(made, S, data[500:])
    assert (found.body, found.truncated, found.size) == (b"", True, len(data))


# ---------------------------------------------------------------- what the upgrade says


def test_negotiated() -> None:
    made = dissector(f"{DEFLATE}; server_no_context_takeover; client_max_window_bits=10", "chat")
    terms = made.lanes[0].terms
    assert (terms.known, terms.target, terms.subprotocol) == (True, "/chat", "chat")
    assert terms.sides == (Deflate(True, 10), Deflate(False, 15))


@pytest.mark.parametrize("context", [None, (), (None, None), (1, 2, 3), ("a", "b"), object()])
def test_strange_contexts(context: object) -> None:
    assert not negotiated(context).known


def test_what_proves_who_somebody_is_is_no_subprotocol() -> None:
    assert (
        dissector("", "base64url.bearer.authorization.k8s.io.QQ").lanes[0].terms.subprotocol == ""
    )


# ---------------------------------------------------------------- permessage-deflate


def test_a_window_for_all_messages() -> None:
    made, engine = dissector(DEFLATE), packer()
    said = [b"the same words, and number %d" % n for n in range(5)]
    frames = [frame(S, FIN | RSV1 | TEXT, packed(engine, one)) for one in said]
    assert len(frames[-1]) < 12
    found = fed(made, S, *frames)
    assert bodies(found) == said
    assert all(shown(m).compressed for m in found)


def test_fragments_of_a_compressed_message() -> None:
    made, engine = dissector(DEFLATE), packer()
    for said in (b"first " * 30, b"second " * 30):
        data = packed(engine, said)
        pieces = [frame(C, RSV1 | BINARY, data[:3]), frame(C, FIN | PING), frame(C, CONTINUATION)]
        found = fed(made, C, *pieces, frame(C, FIN, data[3:]))
        assert bodies(found) == [b"", said]


def test_messages_that_are_not_compressed_in_between() -> None:
    made, engine = dissector(DEFLATE), packer()
    one = frame(S, FIN | RSV1 | TEXT, packed(engine, b"words, words"))
    two = frame(S, FIN | RSV1 | TEXT, packed(engine, b"words, words"))
    assert bodies(fed(made, S, one, text(S, "plain"), two)) == [
        b"words, words", b"plain", b"words, words",
    ]  # fmt: skip


def test_without_takeover_nothing_is_inflated_until_somebody_asks() -> None:
    made = dissector(f"{DEFLATE}; server_no_context_takeover")
    data = packed(packer(), b"words " * 50)
    [found] = fed(made, S, frame(S, FIN | RSV1 | TEXT, data))
    assert found.body == data
    assert shown(found).body == "words " * 50


def test_after_a_hole_nothing_is_guessed() -> None:
    """What refers to the lost message is not inflated; what needs no other is."""
    made, engine = dissector(DEFLATE), packer()
    said = [b"alpha beta gamma %d" % n for n in range(3)] + [b"0123456789abcdef"]
    frames = [frame(S, FIN | RSV1 | TEXT, packed(engine, one)) for one in said]
    first, *rest = frames
    found = fed(made, S, first[:6], len(first) - 6, *rest)
    assert [m.notes for m in found] == [("context-lost",)] * 3 + [()]
    assert all(m.truncated for m in found[:3])
    assert found[3].body == said[3]


def test_what_does_not_inflate() -> None:
    [found] = fed(dissector(DEFLATE), S, frame(S, FIN | RSV1 | TEXT, b"\xff" * 9))
    assert (found.notes, found.truncated, found.body) == (("bad-deflate",), True, b"")
    lazy = dissector(f"{DEFLATE}; server_no_context_takeover")
    [found] = fed(lazy, S, frame(S, FIN | RSV1 | TEXT, b"\xff" * 9))
    assert shown(found).notes == ["bad-deflate"]


def test_a_last_block_within_a_message() -> None:
    """RFC 7692 section 7.2.3.4: a block with BFINAL, and after it an empty one."""
    engine = packer()
    data = engine.compress(b"Hello") + engine.flush() + b"\0"
    found = fed(dissector(DEFLATE), S, *[frame(S, FIN | RSV1 | TEXT, data)] * 2)
    assert bodies(found) == [b"Hello", b"Hello"]


def test_a_bomb() -> None:
    """A thousand times what was sent: inflating stops, and goes on with messages that need no other."""
    made, engine = dissector(DEFLATE), packer()
    bomb = packed(engine, bytes(50 << 20))
    found = fed(made, S, frame(S, FIN | RSV1 | BINARY, bomb))
    found += fed(made, S, frame(S, FIN | RSV1 | TEXT, packed(packer(), b"small, and whole")))
    assert [m.notes for m in found] == [("unpack-limit",), ()]
    assert found[1].body == b"small, and whole"
    lazy, fault = inflate(bomb)
    assert (len(lazy), fault) == (limits.UNPACKED, "unpack-limit")


def test_many_last_blocks() -> None:
    ends = b"\x03\0" * 30_000
    [found] = fed(dissector(DEFLATE), S, frame(S, FIN | RSV1 | BINARY, ends))
    assert found.notes == ("unpack-limit",)


def test_windows_are_bounded() -> None:
    """Who has not used his own for longest loses it, between messages or within one."""
    made, engine = dissector(DEFLATE), packer()
    one, two, three = (
        frame(S, FIN | RSV1 | TEXT, packed(engine, b"again and again")) for _ in range(3)
    )
    half = len(three) // 2
    assert bodies(fed(made, S, one)) == [b"again and again"]
    others = [Inflater(15, True) for _ in range(limits.WS_WINDOWS)]
    for other in others:
        other.more(b"")
    assert len(WINDOWS.order) <= limits.WS_WINDOWS
    [lost] = fed(made, S, two)
    assert lost.notes == ("context-lost",)
    assert fed(made, S, three[:half]) == []
    for other in others:
        other.more(b"")
    [lost] = fed(made, S, three[half:])
    assert lost.notes == ("context-lost",)


def test_what_is_kept_of_messages_under_way_is_bounded_with_their_windows() -> None:
    """A hundred bytes may unpack to 64 KiB, and no flow is accounted for more than it was sent."""
    half = frame(S, RSV1 | BINARY, packed(packer(), bytes(60_000)))
    waiting = [dissector(DEFLATE) for _ in range(limits.WS_WINDOWS + 50)]
    for made in waiting:
        assert fed(made, S, half) == []
    under_way = [made.lanes[1].data for made in waiting]
    held = sum(len(piece) for one in under_way if one is not None for piece in one.pieces)
    assert held <= limits.WS_WINDOWS * 60_000
    [lost] = fed(waiting[0], S, frame(S, FIN))
    assert (lost.body, lost.truncated, lost.notes) == (b"", True, ("context-lost",))
    [whole] = fed(waiting[-1], S, frame(S, FIN))
    assert whole.body == bytes(60_000)


# ---------------------------------------------------------------- what is shown


def test_details() -> None:
    made = dissector("", "chat")
    [found] = fed(made, C, text(C, '{"user": "ann"}'))
    told = shown(found)
    assert (told.type, told.path, told.subprotocol, told.body) == (
        "text", "/chat", "chat", '{"user": "ann"}',
    )  # fmt: skip
    [found] = fed(made, S, frame(S, FIN | BINARY, b"\0\xff"))
    assert (shown(found).body, shown(found).body_encoding) == ("AP8=", "base64")
    [found] = fed(made, S, frame(S, FIN | TEXT, b"\xff\xfe"))
    assert shown(found).notes == ["bad-charset"]
