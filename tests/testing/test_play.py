"""Playing conversations and captures, and the strategies that make them."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from dissectors import LINE_ROWS, LINE_TALK, C, Counted, Frames, Line, S, frame, spec
from hypothesis import find, given, settings
from hypothesis import strategies as st

from kshark.api import DissectError, Framed, Kind, Message, Outcome, PluginError, ProtocolSpec, Side
from kshark.testing import (
    Piece,
    _packets,
    conversations,
    converse,
    cuts,
    garbage,
    messages,
    mutations,
    replay,
    rows,
)
from kshark.testing import strategies as kit
from kshark.testing.play import PORT, hear


def test_who_sent_what_the_end_gives() -> None:
    """An interim answer is the server's; of a one-way message its dissector says it, as `Framed` does."""

    class Ends(Framed):
        def parse(self, side: Side) -> Any:
            try:
                yield 100
            except EOFError:
                yield Message(Kind.ONEWAY, verb="end", cut=True)

    class Interim(Ends):
        def close(self) -> Any:
            return [Message(Kind.INTERIM, status=101, size=1, cut=True)]

    for kind in (Ends, Interim):
        [(side, _)] = hear(kind(), [(Side.SERVER, b"x")]).messages
        assert side == Side.SERVER
    [entry] = converse(ProtocolSpec(name="ends", dissector=Ends), [(Side.SERVER, b"x")])
    assert entry.swapped


def test_messages_of_a_dissector_alone() -> None:
    found = messages(Line(), [(C, b">get o"), (C, b"ne\n"), (S, b"<ok\n")])
    assert [(m.verb, m.target, m.size) for m in found] == [("get", "one", 9), ("ok", "", 4)]


def test_an_error_is_raised_where_there_is_no_engine() -> None:
    with pytest.raises(DissectError, match="not a line of ours"):
        messages(Line(), [(C, b"get\n")])


def test_a_hole_is_a_number() -> None:
    pieces: list[Piece] = [(C, frame(1, b"x" * 10)[:12]), (C, 6), (S, frame(1, b"y"))]
    (entry,) = converse(spec(Frames), pieces)
    assert entry.request is not None
    assert (entry.request.body, entry.request.gap_bytes) == (b"xxxx", 6)
    assert (entry.gap_bytes, entry.truncated, entry.outcome) == (6, True, Outcome.OK)


def test_entries_have_times_of_their_pieces() -> None:
    entries = converse(spec(Line), LINE_TALK)
    assert [e.latency_ns for e in entries] == [1_000_000] * 3
    assert rows(entries) == LINE_ROWS


def test_rows_tell_what_is_missing() -> None:
    assert rows(converse(spec(Line), [(C, b">get\n")])) == ["get -> - [unanswered]"]
    assert rows(converse(spec(Line), [(S, b"<ok\n")])) == ["- -> ok [orphan]"]


def test_a_bug_of_the_plugin_is_not_swallowed() -> None:
    class Bad(Line):
        def parse(self, side: Side) -> object:  # type: ignore[override]
            raise KeyError("x")
            yield

    with pytest.raises(AssertionError, match="toy: KeyError in the dissector"):
        converse(spec(Bad), LINE_TALK)


def pcap(path: Path, frames: list[bytes]) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, _packets.RAW_IPV4)
    records = [
        struct.pack("<IIII", 1_000, n * 1_000, len(f), len(f)) + f for n, f in enumerate(frames)
    ]
    path.write_bytes(head + b"".join(records))
    return path


def test_a_capture_is_replayed(tmp_path: Path) -> None:
    start, middle, end = _packets.packets(LINE_TALK, 4)
    path = pcap(tmp_path / "x.pcap", [*start, *middle, *end])
    toy = spec(Line, magic=(b">",))
    entries = replay(path, toy)
    assert rows(entries) == LINE_ROWS
    assert {e.flow.reason for e in entries} == {"prefix b'>get'"}
    assert rows(replay(path, spec(Line), assume={PORT: "toy"})) == LINE_ROWS
    assert [e.protocol for e in replay(path)] == ["tcp"]


def test_a_capture_is_replayed_with_a_plugin_file(tmp_path: Path) -> None:
    start, middle, end = _packets.packets(LINE_TALK, 100)
    path = pcap(tmp_path / "x.pcap", [*start, *middle, *end])
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from dissectors import Line, spec\n"
        "from kshark.api import hookimpl\n"
        "@hookimpl\n"
        "def register_protocols(): return [spec(Line, magic=(b'>',))]\n"
    )
    assert rows(replay(path, plugin=plugin)) == LINE_ROWS
    assert rows(replay(path, "toy", plugin)) == LINE_ROWS
    with pytest.raises(PluginError, match="no protocol 'tow'"):
        replay(path, "tow", plugin)
    plugin.write_text("import nothing_of_that_name\n")
    with pytest.raises(PluginError, match="nothing_of_that_name"):
        replay(path, plugin=plugin)


@given(st.binary(max_size=60).flatmap(lambda data: st.tuples(st.just(data), cuts(data))))
def test_cuts_lose_nothing(made: tuple[bytes, list[bytes]]) -> None:
    data, pieces = made
    assert b"".join(pieces) == data
    assert all(pieces)


def test_cuts_reach_every_place() -> None:
    assert find(cuts(b"abcdef"), lambda p: p[:2] == [b"abc", b"d"])


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (("set", 2, b"X"), b"abXdef"),
        (("put", 3, b"X"), b"abcXdef"),
        (("drop", 2, 1), b"abdef"),
        (("twice", 1, 2), b"abcbcdef"),
    ],
)
def test_mutations_change_insert_drop_and_double(step: tuple[str, int, Any], wanted: bytes) -> None:
    assert kit.mutated(b"abcdef", [step]) == wanted


@pytest.mark.parametrize("length", [4, 5, 6, 8, 20])
def test_mutations_shorten_and_lengthen(length: int) -> None:
    assert find(mutations(b"abcdef"), lambda data: len(data) == length) != b"abcdef"


@given(garbage())
@settings(max_examples=50)
def test_garbage_harms_nobody(data: bytes) -> None:
    converse(spec(Counted), [(C, data), (S, data)])


numbers = st.integers(0, 99)


@given(
    conversations(
        numbers.map(lambda n: b">get %d\n" % n),
        lambda asked: st.just(b"<is" + asked[4:]),
        pipelined=True,
    )
)
@settings(max_examples=50)
def test_conversations_answer_what_was_asked(talk: list[tuple[Side, bytes]]) -> None:
    for entry in converse(spec(Line), talk):
        assert entry.request is not None
        assert entry.response is not None
        assert entry.request.target == entry.response.target


def test_pipelines_are_made_when_asked_for() -> None:
    one = conversations(st.just(b"q"), st.just(b"a"), pipelined=True)
    assert find(one, lambda talk: [side for side, _ in talk] == [C, C, S, S])
    other = conversations(st.just(b"q"), st.just(b"a"))
    assert find(other, lambda talk: len(talk) == 6) == [(C, b"q"), (S, b"a")] * 3


def test_without_hypothesis_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install 'kshark\[testing\]'"):
        garbage()


def test_the_kit_imports_no_hypothesis() -> None:
    import subprocess

    code = "import sys, kshark.testing; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
