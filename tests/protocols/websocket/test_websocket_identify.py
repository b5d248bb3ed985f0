"""What is taken for WebSocket without its upgrade: chains of frames, and nothing else."""

from __future__ import annotations

import os
import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_kit import BINARY, FIN, PING, RSV1, C, S, Talk, frame, packed, packer, text

from kshark.api import Side, Verdict
from kshark.engine import Engine, EngineSettings
from kshark.protocols import dns, http, http2, redis, websocket
from kshark.protocols.websocket.resync import READS, find, probe
from kshark.testing.play import MadeFlow

SPECS = [*dns.register_protocols(), http.SPEC, http2.SPEC, redis.SPEC, websocket.SPEC]


PINGS = [frame(C, FIN | PING, key=bytes([n, 2, 3, 4])) for n in range(9)]


def taken_for(talk: Talk) -> set[str]:
    """The protocols of a flow that was joined in mid-stream."""
    engine = Engine(SPECS, EngineSettings())
    flow = MadeFlow(midstream=True)
    consumer = engine.open(flow)
    for side, piece in talk:
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        if consumer.chunk(side, piece, flow.last_ns):
            break
    consumer.end(1, flow.last_ns)
    return {entry.protocol for entry in engine.take()}


@pytest.mark.parametrize(
    ("side", "frames", "verdict"),
    [
        (C, [text(C, "hello, hello"), text(C, "again, again")], Verdict.MORE),
        (
            C,
            [text(C, "hello, hello"), text(C, "again, again"), text(C, "and more")],
            Verdict.LIKELY,
        ),
        (S, [text(S, f"message {10**n}") for n in range(3)], Verdict.MORE),
        (S, [text(S, f"message {10**n}") for n in range(4)], Verdict.LIKELY),
        (S, [text(S, f"message {n}") for n in range(4)], Verdict.MORE),  # heads that are alike
        (S, [text(S, f"message {n}") for n in range(5)], Verdict.LIKELY),
        (C, PINGS[:6], Verdict.MORE),
        (C, PINGS[:7], Verdict.LIKELY),
        (C, [frame(C, FIN | PING)] * 99, Verdict.MORE),  # one mask for all
        (S, [frame(S, FIN | RSV1 | BINARY, bytes(n)) for n in range(7)], Verdict.LIKELY),
        (S, [frame(S, FIN | BINARY, bytes(n)) for n in range(99)], Verdict.MORE),
        (C, [*PINGS[:6], b"\x83\x80"], Verdict.NO),
        (C, [frame(C, 0x81, b"\xff\xff\xff")] * 9, Verdict.NO),  # no text
        (S, [b"\x80\x01a"], Verdict.NO),  # the end of a message whose beginning nobody saw
        (C, [b""], Verdict.MORE),
    ],
)
def test_probe(side: Side, frames: list[bytes], verdict: Verdict) -> None:
    assert probe(b"".join(frames), side) == verdict


def test_joined_either_way_round() -> None:
    """The wire may take the server for the client: masks tell."""
    engine = packer()
    for said in (
        [text(C, f'{{"number": {n}}}') for n in range(6)],
        [
            frame(C, FIN | RSV1 | BINARY, packed(engine, os.urandom(20)), os.urandom(4))
            for _ in range(8)
        ],
    ):
        assert taken_for([(C, one) for one in said]) == {"websocket"}
        assert taken_for([(S, one) for one in said]) == {"websocket"}


FOREIGN = {
    "zeros": bytes(3_000),
    "ones": b"\xff" * 3_000,
    "counter": bytes(range(256)) * 12,
    "pings": b"\x89" * 3_000,
    "chinese": ("\u4e01\u4e41\u5081\u8181 say" * 300).encode(),
    "json": b'{"a": [1, 2, {"b": "c"}]}' * 100,
    "tls": (b"\x16\x03\x03\x00\x40" + bytes(64)) * 20,
    "tls data": b"".join(b"\x17\x03\x03\x00\x40" + Random(n).randbytes(64) for n in range(40)),
    "kafka": b"".join(struct.pack(">IHHI", 20, 1, 7, n) + bytes(12) for n in range(90)),
    "mongo": b"".join(struct.pack("<IIII", 40, n, 0, 2013) + bytes(24) for n in range(60)),
    "mysql": b"".join(struct.pack("<I", 5 | n << 24) + b"\x03abcd" for n in range(99)),
    "cassandra": b"".join(b"\x84\x00\x00\x01\x08\x00\x00\x00\x04abcd" for _ in range(99)),
    "mqtt": b"".join(b"\x82\x09\x00\x01\x00\x04test\x00" for _ in range(99)),
    "amqp": b"".join(b"\x01\x00\x01\x00\x00\x00\x04abcd\xce" for _ in range(99)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_others(name: str) -> None:
    data = FOREIGN[name]
    for size in (7, 100, 1_000):
        for start in range(16):
            pieces = [data[at : at + size] for at in range(start, len(data), size)]
            for side in Side:
                assert "websocket" not in taken_for([(side, piece) for piece in pieces])


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=50, max_size=2_000), st.integers(1, 500), st.sampled_from(list(Side)))
def test_random_bytes(data: bytes, size: int, side: Side) -> None:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert "websocket" not in taken_for([(side, piece) for piece in pieces])


def test_noise_has_no_chain() -> None:
    """Two million places at which chance might begin one."""
    random = Random(7)
    for _ in range(20):
        data = random.randbytes(50_000)
        assert find(data, True)[0] == find(data, False)[0] == -1


def test_a_search_is_bounded() -> None:
    """Bytes made to be looked at for long: what is left is searched with what comes."""
    hostile = (b"\x89\x00\x8a\x00" * 3 + b"\x83\x00") * 2_000
    at, pending = find(hostile, False)
    assert at == -1
    assert 0 < pending < 2 * READS
