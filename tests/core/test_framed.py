"""`Framed`: what a generator is given does not depend on how the stream was cut."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

import kshark
from kshark.api import DissectError, Framed, Kind, Message, Side, Step, Switch, Take

C, S = Side.CLIENT, Side.SERVER


@pytest.fixture(params=["installed", "pure"], autouse=True)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run everything on the compiled Stepper, where there is one, and on the plain one."""
    if request.param == "pure":
        path = Path(kshark.__file__).with_name("_framed.py")
        spec = importlib.util.spec_from_file_location("kshark._framed", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "kshark._framed", module)
    return str(request.param)


class Record(Framed):
    """``<length>:<body>`` with lines ``!`` that emit a switch, and a counted body after ``#``."""

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        while True:
            head = yield b":"
            if head == b"!:":
                yield Switch("next")
            elif head[:1] == b"#":
                body = yield Take(int(head[1:-1]), keep=4)
                yield Message(Kind.REQUEST, "take", body=body)
            elif head == b"end:":
                return
            else:
                try:
                    body = yield int(head[:-1])
                except EOFError as end:
                    yield Message(Kind.REQUEST, "cut", body=end.args[0], cut=True)
                    return
                except ValueError:
                    raise DissectError("no length") from None
                yield Message(Kind.REQUEST, "record", body=body)

    def resync(self, side: Side, data: bytes) -> int:
        return data.find(b"3:")


def shape(found: Iterable[object]) -> list[Any]:
    return [(m.verb, m.body, m.size) if isinstance(m, Message) else m for m in found]


def drain(framed: Framed, *pieces: bytes) -> list[Any]:
    """What the client's pieces give."""
    return [m for piece in pieces for m in shape(framed.feed(C, piece))]


STREAM = b"3:abc0:#10:0123456789!:5:hello#0:12:twelve bytes"
WANTED = [
    ("record", b"abc", 5),
    ("record", b"", 2),
    ("take", b"0123", 14),
    Switch("next"),
    ("record", b"hello", 9),
    ("take", b"", 3),
    ("record", b"twelve bytes", 15),
]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 11, 100])
def test_any_split_gives_the_same(step: int) -> None:
    framed = Record()
    pieces = (STREAM[at : at + step] for at in range(0, len(STREAM), step))
    assert drain(framed, *pieces) == WANTED
    assert shape(framed.close()) == []


def test_sides_do_not_mix() -> None:
    framed = Record()
    assert shape(framed.feed(C, b"3:a")) == []
    assert shape(framed.feed(S, b"1:x")) == [("record", b"x", 3)]
    assert shape(framed.feed(C, b"bc")) == [("record", b"abc", 5)]


def test_return_ends_one_side() -> None:
    framed = Record()
    assert shape(framed.feed(C, b"end:3:abc")) == []
    assert shape(framed.feed(C, b"3:abc")) == []
    assert shape(framed.feed(S, b"3:abc")) == [("record", b"abc", 5)]


def test_error_comes_after_the_messages_before_it() -> None:
    framed = Record()
    found = iter(framed.feed(C, b"3:abcnothing:3:abc"))
    assert shape([next(found)]) == [("record", b"abc", 5)]
    with pytest.raises(DissectError, match="no length"):
        next(found)


def test_after_an_error_a_side_is_silent_until_a_gap_lets_it_start_over() -> None:
    framed = Record()
    with pytest.raises(DissectError, match="no length"):
        framed.feed(C, b"nothing:")
    assert drain(framed, b"3:abc") == []
    assert shape(framed.feed(S, b"3:abc")) == [("record", b"abc", 5)]
    assert list(framed.gap(C, 0)) == []
    assert drain(framed, b"...3:abc") == [("record", b"abc", 8)]
    assert list(framed.close()) == []


@pytest.mark.parametrize("step", [1 << 20, 1_000, 999])
@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"x" * 5_000 + b":", "frame over 2 KiB"),
        (b"2049:" + b"x" * 3_000, "frame over 2 KiB"),
        (b"-1:", "length -1"),
        (b"#-5:", "length -5"),
    ],
)
def test_pieces_are_bounded(step: int, stream: bytes, text: str) -> None:
    class Small(Record):
        limit = 2_048

    with pytest.raises(DissectError, match=text):
        drain(Small(), *(stream[at : at + step] for at in range(0, len(stream), step)))


@pytest.mark.parametrize("size", [2_047, 2_048, 2_049])
def test_a_delimiter_counts_to_the_limit_however_cut(size: int) -> None:
    class Small(Record):
        limit = 2_048

        def parse(self, side: Side) -> Generator[Step, Any, None]:
            yield Message(Kind.REQUEST, body=(yield b"\r\n"))

    stream = b"x" * (size - 2) + b"\r\n"
    for cut in (0, 1, 2, 3, 1_000, size - 1, size):
        if size > 2_048:
            with pytest.raises(DissectError):
                drain(Small(), stream[:cut], stream[cut:])
        else:
            assert drain(Small(), stream[:cut], stream[cut:]) == [("", stream, size)]


def test_a_take_may_be_longer_than_the_limit_and_keeps_little() -> None:
    framed = Record()
    list(framed.feed(C, b"#1000000:"))
    assert framed.inside(C)
    for _ in range(999):
        assert list(framed.feed(C, b"y" * 1_000)) == []
    (message,) = framed.feed(C, b"y" * 1_000)
    assert shape([message]) == [("take", b"yyyy", 1_000_009)]
    assert not framed.inside(C)


def test_a_gap_within_a_take_is_skipped_and_told() -> None:
    framed = Record()
    list(framed.feed(C, b"#10:ab"))
    assert list(framed.gap(C, 3)) == []
    (message, after) = framed.feed(C, b"567893:abc")
    assert isinstance(message, Message)
    assert (message.body, message.size, message.gap_bytes) == (b"ab", 14, 3)
    assert message.truncated
    assert not message.cut
    assert isinstance(after, Message)
    assert (after.body, after.gap_bytes, after.truncated) == (b"abc", 0, False)


def test_a_gap_that_ends_a_take_completes_it() -> None:
    framed = Record()
    list(framed.feed(C, b"#10:01234567"))
    (message,) = framed.gap(C, 2)
    assert isinstance(message, Message)
    assert (message.body, message.size, message.gap_bytes) == (b"0123", 14, 2)


@pytest.mark.parametrize("before", [b"", b"5:he", b"7", b"#4:1"])
@pytest.mark.parametrize("step", [1, 4, 100])
def test_after_a_gap_resync_finds_the_next_message(before: bytes, step: int) -> None:
    framed = Record()
    list(framed.feed(C, before))
    cut = list(framed.gap(C, 100))
    assert all(isinstance(m, Message) and m.cut and m.truncated for m in cut)
    assert len(cut) == (before == b"5:he")
    rest = b"the rest of it" * 100 + b"3:abc3:def"
    found: list[Any] = []
    for at in range(0, len(rest), step):
        found += framed.feed(C, rest[at : at + step])
    assert shape(found) == [("record", b"abc", 1_405), ("record", b"def", 5)]
    assert [m.notes for m in found] == [("resync",), ()]


def test_a_message_right_after_a_gap_has_no_note() -> None:
    framed = Record()
    list(framed.gap(C, 100))
    (message,) = framed.feed(C, b"3:abc")
    assert isinstance(message, Message)
    assert (message.size, message.notes) == (5, ())


def test_hunting_holds_a_small_tail_only() -> None:
    seen = []

    class Never(Record):
        def resync(self, side: Side, data: bytes) -> int:
            seen.append(len(data))
            return -1

    framed = Never()
    list(framed.gap(C, 1))
    for _ in range(1_000):
        list(framed.feed(C, b"x" * 1_000))
    assert max(seen) == 1_256


def test_close_lets_the_generator_say_what_the_end_completes() -> None:
    framed = Record()
    list(framed.feed(C, b"5:he"))
    found = list(framed.close())
    assert shape(found) == [("cut", b"he", 4)]
    assert isinstance(found[0], Message)
    assert found[0].side == C  # nobody fed it
    assert list(framed.close()) == []
    assert list(framed.feed(C, b"3:abc")) == []


def test_a_slow_drip_is_searched_once(twin: str) -> None:
    """White box, of the plain twin: the next search begins where the last one ended."""
    if twin != "pure":
        pytest.skip("the compiled Stepper hides its fields")
    framed = Record()
    stepper: Any = framed._steppers[C]
    for count in range(1, 1_000):
        assert list(framed.feed(C, b"x")) == []
        assert stepper._seen == count


def test_a_generator_that_turns_without_reading_is_stopped() -> None:
    class Idle(Framed):
        def parse(self, side: Side) -> Generator[Step, Any, None]:
            while True:
                yield 0

    with pytest.raises(RuntimeError, match=r"Idle.parse\(\) turns without reading"):
        Idle().feed(C, b"x")


def test_a_wrong_step_is_named() -> None:
    class Wrong(Framed):
        def parse(self, side: Side) -> Generator[Any, Any, None]:
            yield "\r\n"

    with pytest.raises(TypeError, match=r"Wrong.parse\(\) yielded str"):
        Wrong().feed(C, b"x")


def test_a_subclass_needs_no_super_init() -> None:
    class Own(Record):
        def __init__(self) -> None:
            self.seen = 0

    assert shape(Own().feed(C, b"1:x")) == [("record", b"x", 3)]
