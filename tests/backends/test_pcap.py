"""The backend `pcap` on whole files: formats, damage, patterns, its books."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path

import captures
import pytest
from captures import BIG, EVERYTHING, KUZNETZOV, LITTLE, NSEC, USEC, Got, got

from kshark import limits
from kshark.api import PluginError
from kshark.backends.pcap import PcapBackend, PcapOptions, read_blocks, register_backends

NOBODY = 65_534
orders = pytest.mark.parametrize("order", [LITTLE, BIG])


def backend(path: Path | str, **options: object) -> PcapBackend:
    return PcapBackend(PcapOptions(target=str(path), **options))  # type: ignore[arg-type]


def wrote(folder: Path, data: bytes, name: str = "x.pcap") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def notes(data: bytes, folder: Path) -> tuple[list[Got], list[str]]:
    source = backend(wrote(folder, data))
    packets = got(source.read())
    assert source.stats().received == len(packets)
    return packets, source.stats().notes


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(PluginError) as caught:
        got(backend(path, **options).read())
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------ formats


@orders
@pytest.mark.parametrize(("magic", "unit"), [(USEC, 1_000), (NSEC, 1), (KUZNETZOV, 1_000)])
def test_classic(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    extra = bytes(8) if magic == KUZNETZOV else b""
    data = captures.header(order, magic, linktype=0x4000_0071)  # 113, with an FCS length above
    data += captures.record(1_700_000_000, 123, b"abc", order, wire=60, extra=extra)
    data += captures.record(1_700_000_001, 999, b"", order, extra=extra)
    assert notes(data, tmp_path) == (
        [
            Got(1_700_000_000_000_000_000 + 123 * unit, b"abc", 60, "", 113),
            Got(1_700_000_001_000_000_000 + 999 * unit, b"", 0, "", 113),
        ],
        [],
    )


@orders
def test_pcapng_with_everything(tmp_path: Path, order: str) -> None:
    source = backend(wrote(tmp_path, captures.everything(order)))
    assert got(source.read()) == EVERYTHING
    stats = source.stats()
    assert (stats.received, stats.dropped, stats.notes) == (8, {"interface": 10, "kernel": 2}, [])


def test_pcapng_starts_a_block_where_the_linktype_changes(tmp_path: Path) -> None:
    path = wrote(tmp_path, captures.everything())
    assert [(b.count, b.linktype) for b in read_blocks(str(path))] == [
        (4, 1),
        (1, 101),
        (1, 1),
        (2, 113),
    ]


@pytest.mark.parametrize(
    ("resolution", "offset", "stamp", "ns"),
    [
        (0x03, 0, 1_500, 1_500_000_000),
        (0x06, 1_000, 1, 1_000_000_001_000),
        (0x06, -5, 6_000_000, 1_000_000_000),
        (0x0C, 0, 1_234_567, 1_234),
        (0x8A, 0, 512, 500_000_000),
        (0xBF, 0, 2**62, 0),  # 2**-63: beyond us
    ],
)
@orders
def test_pcapng_times(
    tmp_path: Path, order: str, resolution: int, offset: int, stamp: int, ns: int
) -> None:
    options = [(9, bytes([resolution])), (14, struct.pack(order + "q", offset))]
    data = captures.section(order) + captures.interface(order, options=options)
    packets, said = notes(data + captures.enhanced(stamp, b"x", order), tmp_path)
    assert [p.ns for p in packets] == [ns]
    assert bool(said) == (resolution == 0xBF)


def test_interface_names_are_bounded_and_fit_for_a_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2Jeth0 \u202e".encode() + b"\xff"
    data = captures.section()
    data += captures.interface(options=[(2, evil)])
    data += captures.interface(options=[(3, b"the second one")])
    data += captures.interface(options=[(2, b"n" * 5_000)])
    data += b"".join(captures.enhanced(1, b"x", iface=i) for i in range(3))
    names = [p.iface for p in notes(data, tmp_path)[0]]
    assert names == ["?[2Jeth0 ?\ufffd", "the second one", "n" * limits.IFACE_NAME]


def test_malformed_packet_blocks_are_counted_and_passed_over(tmp_path: Path) -> None:
    over = struct.pack("<IIIII", 0, 0, 1, 5, 5) + b"four"  # says five bytes, has four
    absurd = struct.pack("<IIIII", 0, 0, 1, limits.PACKET_BYTES + 4, 9) + bytes(
        limits.PACKET_BYTES + 4
    )
    data = captures.section() + captures.simple(b"no interface yet", 16) + captures.interface()
    data += captures.enhanced(1, b"a") + captures.enhanced(1, b"no such interface", iface=1)
    data += captures.block(6, over) + captures.block(6, b"short") + captures.block(6, absurd)
    data += captures.block(3, b"") + captures.enhanced(2, b"b")
    source = backend(wrote(tmp_path, data))
    assert [p.data for p in got(source.read())] == [b"a", b"b"]
    assert source.stats().dropped == {"malformed": 6}


# ------------------------------------------------------------------------------- damage


@orders
def test_classic_cut_anywhere_gives_the_whole_packets_before(tmp_path: Path, order: str) -> None:
    data = captures.classic(4, order)
    ends = [24]
    for i in range(4):
        ends.append(ends[-1] + 26 + i)
    assert ends[-1] == len(data)
    for cut in range(len(data) + 1):
        if cut < 24:
            assert ("is empty" if cut == 0 else "header") in refusal(
                wrote(tmp_path, data[:cut])
            ) or (cut < 4)
            continue
        packets, said = notes(data[:cut], tmp_path)
        assert len(packets) == sum(end <= cut for end in ends) - 1
        assert (said == []) == (cut in ends)
        for note in said:
            assert f"at byte {max(end for end in ends if end <= cut)} " in note


@orders
def test_pcapng_cut_anywhere_gives_a_prefix(tmp_path: Path, order: str) -> None:
    data, whole = captures.everything(order), 0
    first = len(captures.section(order))
    for cut in range(len(data) + 1):
        path = wrote(tmp_path, data[:cut])
        if cut < first:
            refusal(path)
            continue
        packets = got(read_blocks(str(path)))
        assert packets == EVERYTHING[: len(packets)]
        assert len(packets) >= whole
        whole = len(packets)
    assert whole == len(EVERYTHING)


def test_garbage_in_the_middle_stops_there_and_says_so(tmp_path: Path) -> None:
    data = captures.classic(3)
    packets, said = notes(data + b"\xff" * 40 + captures.classic(3)[24:], tmp_path)
    assert len(packets) == 3
    assert said == [
        f"{tmp_path}/x.pcap: a record of 4294967295 bytes at byte {len(data)}, "
        "the rest is not read (3 packets read)"
    ]


@pytest.mark.parametrize(
    ("garbage", "text"),
    [
        (struct.pack("<II", 77, 13) + bytes(8), "a block of type 77 with a length of 13"),
        (struct.pack("<II", 77, 8) + bytes(8), "a block of type 77 with a length of 8"),
        (struct.pack("<II", 77, limits.PCAPNG_BLOCK + 4) + bytes(8), "length of 16777220"),
        (struct.pack("<III", 77, 12, 16), "two lengths differ"),
        (captures.block(1, b"abcd"), "a block of type 1 with a length of 16"),
        (captures.section(major=2), "version 2.0"),
        (captures.section()[:8] + b"abcd" + captures.section()[12:], "byte-order magic"),
        (captures.interface() * limits.PCAPNG_IFACES, "more than 4096 interfaces"),
    ],
)
def test_broken_pcapng_frames_stop_there(tmp_path: Path, garbage: bytes, text: str) -> None:
    data = captures.section() + captures.interface() + captures.enhanced(1, b"x")
    packets, said = notes(data + garbage + captures.enhanced(2, b"y"), tmp_path)
    assert [p.data for p in packets] == [b"x"]
    assert len(said) == 1
    assert text in said[0]
    assert said[0].endswith("the rest is not read (1 packets read)")


@orders
def test_blocks_longer_than_the_buffer(tmp_path: Path, order: str) -> None:
    big = b"p" * limits.PACKET_BYTES
    data = captures.section(order) + captures.interface(order)
    data += captures.enhanced(1, b"a", order) + captures.block(9, bytes(3_000_000), order)
    data += captures.enhanced(2, big, order, options=captures.option(1, b"c" * 60_000, order) * 3)
    data += captures.enhanced(3, b"z", order)
    path = wrote(tmp_path, data)
    assert [len(p.data) for p in got(read_blocks(str(path), block_bytes=4_096))] == [1, len(big), 1]


@pytest.mark.parametrize("block_bytes", [4_096, 5_001, 1 << 20])
def test_block_size_does_not_change_what_is_read(tmp_path: Path, block_bytes: int) -> None:
    path = wrote(tmp_path, captures.classic(20_000))
    packets = got(read_blocks(str(path), block_bytes=block_bytes))
    assert len(packets) == 20_000
    assert packets == got(read_blocks(str(path)))
    assert [p.ns // 10**9 for p in packets] == list(range(1_000, 21_000))


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty: nothing was captured yet"),
        (b"\xd4\xc3\xb2", "is not a capture"),
        (captures.header()[:20], "ends within its header (20 bytes)"),
        (captures.section()[:20], "ends within its header (20 bytes)"),
        (captures.header(version=7), "pcap version is 7.4, and only 2.x is known"),
        (captures.section(major=3), "a section of version 3.0"),
        (captures.section()[:8] + bytes(40), "byte-order magic"),
        (b"PK\3\4" + bytes(60), "zip archive"),
        (b"\x7fELF" + bytes(60), "a program"),
        (b"snoop\0\0\0" + bytes(60), "convert it with editcap"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "seems to be text"),
        (b'{"a": 1}' * 9, "JSON"),
        (bytes(100), "begins with zeros"),
        (b"\x01\x02\x03\xff" * 9, "begins with 01 02 03 ff"),
    ],
)
def test_what_is_no_capture_is_named(tmp_path: Path, data: bytes, text: str) -> None:
    path = wrote(tmp_path, data)
    said = refusal(path)
    assert text in said
    assert said.startswith(str(path))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "none.pcap")
    assert "cannot be opened" in refusal("a\0b")
    assert "cannot be opened" in refusal("n" * 5_000)
    assert f"is a directory, give a file or a pattern such as '{tmp_path}/*.pcap'" in refusal(
        tmp_path
    )
    assert "no file matches" in refusal(tmp_path / "*.pcap")
    assert "say what to read" in refusal("")
    assert "block_bytes" in refusal("x", block_bytes=1)


def test_no_permission(tmp_path: Path) -> None:
    path = wrote(tmp_path, captures.classic())
    path.chmod(0)
    here = os.getcwd()
    os.chdir(tmp_path)  # pytest's folders above are closed to others
    tmp_path.chmod(0o711)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(NOBODY)
        assert "no permission to read it" in refusal("x.pcap")
    finally:
        if root:
            os.seteuid(0)
        os.chdir(here)


# ------------------------------------------------------------------ many files, the face


def test_pattern_reads_in_the_order_of_first_packets(tmp_path: Path) -> None:
    def at(second: int) -> bytes:
        return captures.header() + captures.record(second, 0, b"%d" % second)

    for name, second in (("a", 30), ("b", 10), ("c", 20)):
        wrote(tmp_path, at(second), f"{name}.pcap")
    wrote(tmp_path, captures.header(), "d.pcap")
    wrote(tmp_path, b"", "e.pcap")
    (tmp_path / "f.pcap").mkdir()
    source = backend(tmp_path / "*.pcap")
    assert [p.data for p in got(source.read())] == [b"10", b"20", b"30"]
    assert source.stats().notes == [
        f"{tmp_path}/e.pcap is empty: nothing was captured yet (skipped)"
    ]
    size = 3 * len(at(10)) + 24
    assert source.progress() == (size, size)
    assert "takes one file, and 5 match" in refusal(tmp_path / "*.pcap", follow=True)


def test_pattern_of_which_none_can_be_read(tmp_path: Path) -> None:
    wrote(tmp_path, b"", "a.pcap")
    wrote(tmp_path, b"", "b.pcap")
    assert refusal(tmp_path / "*").endswith("a.pcap is empty: nothing was captured yet")


def test_notes_are_bounded(tmp_path: Path) -> None:
    for number in range(limits.NOTES + 5):
        wrote(tmp_path, captures.classic(1) + b"tail", f"{number}.pcap")
    source = backend(tmp_path / "*.pcap")
    assert len(got(source.read())) == limits.NOTES + 5
    assert len(source.stats().notes) == limits.NOTES


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    path = wrote(tmp_path, captures.classic(2), "x[1].pcap")
    assert len(got(read_blocks(str(path)))) == 2


def test_progress_moves_from_nothing_to_all(tmp_path: Path) -> None:
    path = wrote(tmp_path, captures.classic(1_000))
    source = backend(path, block_bytes=4_096)
    seen = [source.progress() for _ in source.read()]
    size = path.stat().st_size
    assert seen == sorted(seen)
    assert 0 < seen[0][0] < size
    assert {total for _, total in seen} == {size}
    assert source.progress() == (size, size)


def test_the_event_loop_gets_the_same(tmp_path: Path) -> None:
    source = backend(wrote(tmp_path, captures.everything()))

    async def collect() -> list[Got]:
        packets = []
        async for block in source.blocks():
            packets += got([block])
        await source.close()
        return packets

    assert asyncio.run(collect()) == EVERYTHING
    assert source.stats().received == 8


def test_close_ends_the_reading(tmp_path: Path) -> None:
    source = backend(wrote(tmp_path, captures.classic(5_000)), block_bytes=4_096)
    blocks = source.read()
    first = next(blocks).count
    asyncio.run(source.close())
    assert list(blocks) == []
    assert source.stats().received == first < 5_000


def test_blocks_are_read_only_and_their_memory_is_reused(tmp_path: Path) -> None:
    path = wrote(tmp_path, captures.classic(5_000))
    blocks = read_blocks(str(path), block_bytes=4_096)
    first, second = next(blocks), next(blocks)
    assert first.data.readonly
    assert first.index.readonly
    assert first.data.obj is second.data.obj


def test_it_is_registered() -> None:
    (spec,) = register_backends()
    assert (spec.name, spec.rank, spec.options) == ("pcap", 0, PcapOptions)
    assert spec.make(PcapOptions(target="x")).live is False
