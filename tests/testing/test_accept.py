"""`assert_dissector` beyond the laws, `assert_harmless`, case files, golden files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from dissectors import FRAME_ROWS, FRAME_TALK, C, Frames, Line, S, spec

from kshark import talk
from kshark.api import Details, Message, ProtocolSpec, Redact, Side, Verdict, doc
from kshark.testing import (
    _cases,
    assert_dissector,
    assert_harmless,
    case,
    cases,
    check_laws,
    converse,
    rows,
    shown,
)

QUICK: dict[str, Any] = {"examples": 3, "fuzz": 2_000, "skip": ("memory", "time", "packets")}


class Frame(Details):
    body: Annotated[str, doc("The body")] = ""


def details(message: Message) -> Frame:
    return Frame(body=message.body.decode("utf-8", "replace"))


def frames(**more: Any) -> ProtocolSpec:
    schema = {"request": Frame, "response": Frame, "details": details}
    made: ProtocolSpec = spec(Frames, **{"magic": (b"\xc3F",), **schema, **more})
    return made


def test_a_good_one_passes() -> None:
    assert_dissector(frames(), FRAME_TALK, FRAME_ROWS, **QUICK)


class Bare(Details):
    body: str = ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"magic": (b"",)}, "kshark would refuse this plugin: toy: magic must be a tuple of bytes"),
        ({"request": Bare}, r"Bare.body has no doc line: annotate it"),
        ({"magic": (b"FRAME",)}, r"not recognised by its bytes \(no dissector matched\)"),
        (
            {"details": lambda m: Details()},
            r"details\(\) gives Details for 'frame', not Frame or Frame",
        ),
        (
            {"details": lambda m: msgspec.structs.replace(Frame(), body=5)},
            r"are not what their types say: Frame.body is int: expected `str`",
        ),
        (
            {"details": lambda m: msgspec.structs.replace(Frame(), body=b"x")},
            r"are not what their types say: Frame.body is bytes: expected `str`",
        ),
        ({"details": None}, r"declares request= or response= and no details=, which makes them"),
        ({"magic": ()}, r"toy is not recognised by anything: give it magic, replies or a probe"),
        ({"probe": lambda data, side: Verdict.NO}, "not recognised by its bytes"),
    ],
    ids=[
        "refused",
        "undocumented",
        "magic",
        "type",
        "value",
        "bytes",
        "no details",
        "nothing",
        "probe",
    ],
)
def test_what_the_laws_do_not_see(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_dissector(frames(**changes), FRAME_TALK, **QUICK)


def test_the_name_of_a_dissector_of_kshark_is_taken() -> None:
    redis = msgspec.structs.replace(frames(), name="redis")
    with pytest.raises(AssertionError, match="the name 'redis' is that of kshark's own dissector"):
        assert_dissector(redis, FRAME_TALK, **QUICK)


def test_a_protocol_that_is_never_recognised_says_so() -> None:
    assert_dissector(frames(magic=()), FRAME_TALK, recognised=False, **QUICK)


def test_entries_are_shown_beside_those_expected() -> None:
    with pytest.raises(AssertionError, match="other entries than expected") as error:
        assert_dissector(frames(), FRAME_TALK, [*FRAME_ROWS[:2], "frame -> - [cut]"], **QUICK)
    assert "- frame -> - [cut]" in str(error.value)
    assert "+ frame -> frame [ok]" in str(error.value)


def test_real_bytes_that_are_not_understood_do_no_harm() -> None:
    assert_harmless(frames(), [(C, b"what is this?"), (S, 7), (S, b"nobody knows")], examples=5)

    class Touchy(Line):
        def feed(self, side: Side, data: bytes) -> Any:
            if len(data) < 4:
                raise IndexError("short")
            return super().feed(side, data)

    with pytest.raises((AssertionError, IndexError), match=r"short|IndexError"):
        assert_harmless(spec(Touchy), [(C, b"what is this?")])


def test_a_case_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.txt"
    path.write_text(
        "# mine\n> c3 46 00 01 00 00 00 02 68 69\n< c3 46 00 01 00 00 00 00\n= old [ok]\n"
    )
    [one] = cases(tmp_path)
    assert (str(one), one.rows) == ("one", ["old [ok]"])
    with pytest.raises(AssertionError, match="other entries than expected"):
        assert_dissector(frames(), one, **QUICK)
    monkeypatch.setattr(_cases, "UPDATE", True)
    assert_dissector(frames(), one, **QUICK)
    assert path.read_text().startswith("# mine\n> c3 46 00 01")
    assert case(path).rows == ["frame -> frame [ok]"]


def test_a_wrong_case_names_its_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no case"):
        cases(tmp_path)
    (tmp_path / "bad.txt").write_text("# fine\n> xyz\n")
    with pytest.raises(ValueError, match=r"bad\.txt: line 2 is not hex digits"):
        cases(tmp_path)


GOLDEN = """
import sys; sys.path[:0] = [{here!r}]
from test_accept import frames
def test_capture(kshark_golden):
    kshark_golden({capture!r}, frames())
"""


def pytest_in(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "kshark.testing.pytest_plugin",
    ]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_golden_files_are_written_and_compared(tmp_path: Path) -> None:
    from test_play import pcap

    from kshark.testing import _packets

    start, middle, end = _packets.packets(FRAME_TALK, 400)
    capture = pcap(tmp_path / "x.pcap", [*start, *middle, *end])
    text = GOLDEN.format(here=str(Path(__file__).parent), capture=str(capture))
    (tmp_path / "test_golden.py").write_text(text)
    code, out = pytest_in(tmp_path)
    assert code == 1
    assert "x.jsonl is missing: pytest --kshark-update writes it" in out
    assert pytest_in(tmp_path, "--kshark-update")[0] == 0
    golden = tmp_path / "x.jsonl"
    assert '"toy":{"request":{"body":"first question"}' in golden.read_text()
    assert pytest_in(tmp_path)[0] == 0
    golden.write_text(golden.read_text().replace("first question", "another"))
    code, out = pytest_in(tmp_path)
    assert code == 1
    assert '-   "body": "another"' in out
    assert '+   "body": "first question"' in out


def test_a_case_is_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text(talk.show(FRAME_TALK, FRAME_ROWS))
    one = case(path)
    assert list(one) == one.pieces == FRAME_TALK
    check_laws(frames(), one, one.rows, examples=2, skip=QUICK["skip"])
    assert rows(converse(frames(), one)) == FRAME_ROWS


def test_entries_are_shown_as_sinks_get_them() -> None:
    class Login(Details):
        word: Annotated[str, doc("The password", redact=Redact.VALUE)] = ""

    def details(message: Message) -> Login:
        return Login(word="pa55")

    spec = frames(request=Login, response=Login, details=details)
    first = shown(spec, converse(spec, FRAME_TALK))[0]
    assert first["toy"]["request"] == {"word": "REDACTED"}
    assert "pa55" not in str(first)
