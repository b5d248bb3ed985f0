"""The layer under damage: any cut of a side is equal, garbage and holes never raise, and nothing grows."""

from __future__ import annotations

import pickle
from typing import Any

from grpc_kit import C, S, message
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Kind, Message, Side
from kshark.protocols._fields import field
from kshark.protocols.grpc.details import details
from kshark.protocols.grpc.layer import GrpcLayer
from kshark.protocols.grpc.states import Call

PARTS = st.lists(st.binary(max_size=40), max_size=5)
Said = list[tuple[int, bytes, int, int]]


def request(web: bool = False) -> Message:
    head = field(b"content-type", b"application/grpc-web+proto" if web else b"application/grpc")
    return Message(Kind.REQUEST, "POST", "/a.B/C", key=1, head=head)


def said(found: Any) -> Said:
    return [(one.kind, one.body, one.size, one.side) for one in found]


def run(pieces: list[bytes], web: bool = False) -> Said:
    """What a client's content gives, then its end."""
    layer = GrpcLayer(request(web))
    out: Said = []
    for piece in pieces:
        if piece:
            out += said(layer.feed(C, piece))
    return out + said(layer.end(C, request()))


@given(PARTS, st.data())
@settings(max_examples=200, deadline=None)
def test_any_cut_is_equal(bodies: list[bytes], more: st.DataObject) -> None:
    raw = b"".join(message(body) for body in bodies)
    cuts = sorted(more.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert run(pieces) == run([raw])
    assert [body for kind, body, _, _ in run([raw]) if kind == Kind.ONEWAY] == (
        bodies if len(bodies) > 1 else []
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([C, S]), st.binary(min_size=1, max_size=30)),
        st.tuples(st.sampled_from([C, S]), st.binary(max_size=9).map(message)),
        st.tuples(st.sampled_from([C, S]), st.integers(-1, 50).filter(bool)),
    ),
    max_size=12,
)


@given(STEPS, st.booleans(), st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_nothing_raises(steps: list[tuple[Side, Any]], web: bool, head: bytes) -> None:
    layer = GrpcLayer(request(web))
    found: list[Message] = []
    fed = [0, 0]
    for side, piece in steps:
        if isinstance(piece, int):
            found += layer.gap(side, piece)
        else:
            fed[side] += len(piece)
            found += layer.feed(side, piece)
    layer.slim(C)
    answer = Message(Kind.RESPONSE, status=200, head=b"HTTP/1.1 200 OK\r\n" + head)
    found += [*layer.end(C, request()), *layer.end(S, answer)]
    for one in found:
        details(one)
        assert one.protocol == "grpc"
        assert pickle.loads(pickle.dumps(one.extra)) == one.extra  # it goes from worker to parent
    for side in (C, S):
        own = [one.size for one in found if one.kind == Kind.ONEWAY and one.side == side]
        assert sum(own) <= fed[side]


def test_a_drip_holds_what_a_message_may() -> None:
    layer = GrpcLayer(request())
    layer.feed(C, b"\0\xff\xff\xff\xff")
    for _ in range(limits.BODY_KEPT // 16 * 3):
        layer.feed(C, b"0123456789abcdef")
    assert layer.client.kept == limits.BODY_KEPT
    assert len(layer.client.pieces or ()) <= 256


def test_what_details_need_crosses_a_process() -> None:
    """Entries come from workers; all that is said of a call comes with them."""
    call = Call("/shop.Cart/Get", True)
    for number, name in enumerate(("messages", "content", "packed", "number", "length", "flag")):
        setattr(call, name, number + 1)
    call.streamed = call.body_there = call.web = True
    call.coding, call.trailers = "gzip", b"trailers"
    found = pickle.loads(pickle.dumps(call))
    assert found == call
    assert found != Call("/shop.Cart/Get", True)
    assert (found.target, found.coding, found.flag, found.web) == (
        "/shop.Cart/Get",
        "gzip",
        6,
        True,
    )
