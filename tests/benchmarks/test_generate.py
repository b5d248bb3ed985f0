"""The generator: the same bytes each time, every transaction in order once reassembled, sums right."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import generate
import pytest


def frames(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    at = 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def streams(path: Path) -> dict[bytes, bytes]:
    """The bytes of each direction, by sequence number: sorted, copies dropped."""
    parts: dict[bytes, dict[int, bytes]] = {}
    first: dict[bytes, int] = {}
    for frame in frames(path):
        key = frame[26:38]
        (seq,) = struct.unpack_from(">I", frame, 38)
        if frame[47] & 2:
            first[key] = seq + 1
        payload = frame[34 + (frame[46] >> 4) * 4 :]
        if payload:
            parts.setdefault(key, {})[(seq - first[key]) % (1 << 32)] = payload
    return {
        key: b"".join(payload for _, payload in sorted(of.items())) for key, of in parts.items()
    }


def ones(data: bytes) -> int:
    return int.from_bytes(data + b"\0" * (len(data) & 1)) % 65_535


def make(path: Path, **plan: object) -> generate.Written:
    return generate.generate(generate.Plan(**plan), path)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dns", "grpc", "http", "http2", "redis", "tls", "websocket"])
def test_the_same_arguments_write_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, kind=kind, transactions=300, seed=seed)
    one = (tmp_path / "a").read_bytes()
    assert one == (tmp_path / "b").read_bytes()
    assert one != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("kind", ["http", "http2", "redis", "tls", "websocket"])
def test_checksums_are_right(tmp_path: Path, kind: str) -> None:
    written = make(tmp_path / "x", kind=kind, transactions=500, retransmit=0.05)
    count = 0
    for frame in frames(tmp_path / "x"):
        ip, tcp = frame[14:34], frame[34:]
        assert ones(ip) == 0
        assert ones(ip[12:20] + struct.pack(">HH", 6, len(tcp)) + tcp) == 0
        count += 1
    assert count == written.packets
    assert (tmp_path / "x").stat().st_size == written.size


def test_every_http_transaction_is_there_and_answered_in_its_turn(tmp_path: Path) -> None:
    make(tmp_path / "x", transactions=3_000, connections=7)
    found = streams(tmp_path / "x")
    asked = {}
    for key, stream in found.items():
        if stream.startswith(b"HTTP/"):
            back = key[4:8] + key[:4] + key[10:12] + key[8:10]
            ids = re.findall(rb"X-Request-Id: (t\d+)", stream)
            asked[back] = ids
            assert re.findall(rb"/(t\d{9})[? ]", found[back]) == ids
    every = sorted(i for ids in asked.values() for i in ids)
    assert every == [b"t%09d" % n for n in range(3_000)]


def test_every_redis_transaction_is_there(tmp_path: Path) -> None:
    written = make(tmp_path / "x", kind="redis", transactions=2_000)
    asked = b"".join(s for k, s in streams(tmp_path / "x").items() if k[10:12] == b"\x18\xeb")
    assert sorted(set(re.findall(rb"t\d{9}", asked))) == [b"t%09d" % n for n in range(2_000)]
    assert written.transactions == 2_000


def test_every_dns_transaction_is_there_and_its_sums_are_right(tmp_path: Path) -> None:
    written = make(tmp_path / "x", kind="dns", transactions=2_000)
    asked: list[bytes] = []
    answered: list[bytes] = []
    for frame in frames(tmp_path / "x"):
        ip, udp = frame[14:34], frame[34:]
        assert ones(ip) == 0
        assert ones(ip[12:20] + struct.pack(">HH", 17, len(udp)) + udp) == 0
        [name] = re.findall(rb"t\d{9}", udp)
        (asked if udp[2:4] == b"\0\x35" else answered).append(name)
    assert asked.count(asked[0]) == 1
    assert sorted(asked) == sorted(answered) == [b"t%09d" % n for n in range(2_000)]
    assert written.packets == 4_000


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02])
def test_faults_come_at_the_rate_that_was_asked_for(tmp_path: Path, share: float) -> None:
    written = make(tmp_path / "x", transactions=3_000, reorder=share, retransmit=share)
    wanted = share * written.packets
    assert wanted * 0.9 - 1 <= written.swapped <= wanted + 1
    assert wanted * 0.9 - 1 <= written.repeated <= wanted + 1


def test_the_shape_of_the_traffic(tmp_path: Path) -> None:
    """About 4.2 packets and 2,100 bytes a transaction, whatever else is changed."""
    written = make(tmp_path / "x", transactions=5_000)
    assert 4.0 < written.packets / written.transactions < 4.5
    assert 1_900 < written.size / written.transactions < 2_300
