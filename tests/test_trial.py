"""`kshark dissect` is as strict as a capture, ends what does not end, and names the author's line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """from typing import Annotated
from kshark.api import *
class D(Details):
    text: Annotated[str, doc("the text")] = ""
"""
TAIL = """
@hookimpl
def register_protocols():
    return [ProtocolSpec(name="oops", dissector=P, request=D, response=D, details=details)]
"""
FRAMED = """class P(Framed):
    def parse(self, side):
        while True:
            line = yield b"\\n"
            {}
def details(message): return D({})
"""
FINE = 'yield Message(Kind.REQUEST, verb=line.decode("latin-1").strip(), body=line)'
LOOPS = "class P(Framed):\n    def parse(self, side):\n        {}\n        yield 1\ndef details(m): return D()\n"
BY_HAND = """class P:
    def feed(self, side, data):
        {}
    def gap(self, side, missing): return []
    def close(self): return []
def details(message): return D()
"""

MISTAKES = {
    "a status of str": (
        FRAMED.format("yield Message(Kind.REQUEST, status='200')", ""),
        "it gave a Message whose status is str, not int (oops.py line 9)",
    ),
    "a verb of bytes": (
        FRAMED.format("yield Message(Kind.REQUEST, verb=line)", ""),
        "it gave a Message whose verb is bytes, not str (oops.py line 9)",
    ),
    "no such kind": (
        FRAMED.format("yield Message('REQUEST')", ""),
        "it gave a Message whose kind is str, not int (oops.py line 9)",
    ),
    "kind 7": (
        FRAMED.format("yield Message(7)", ""),
        "it gave a Message whose kind is out of range (oops.py line 9)",
    ),
    "a wish of str": (
        FRAMED.format("yield '5'", ""),
        "P.parse() yielded str, not int, bytes, Take, Message, Switch or Inner (oops.py line 9)",
    ),
    "no yield": (
        "class P(Framed):\n    def parse(self, side):\n        return\ndef details(m): return D()\n",
        "P.parse() gives NoneType, not a generator: there is no yield in it (oops.py line 6)",
    ),
    "an exception": (
        FRAMED.format("1 / 0", ""),
        "ZeroDivisionError: division by zero (oops.py line 9)",
    ),
    "an exception of the library's": (
        FRAMED.format("import json; json.loads('[')", ""),
        "JSONDecodeError: Expecting value: line 1 column 2 (char 1) (oops.py line 9)",
    ),
    "details of a dict": (
        FRAMED.format(FINE, "").replace("return D()", "return {'text': 1}"),
        "details() gave dict, not Details",
    ),
    "details of another type": (
        FRAMED.format(FINE, "text=message.body"),
        "details(): D.text is bytes: expected `str`, got `bytes`",
    ),
    "details that raise": (
        FRAMED.format(FINE, "text=message.bodyy"),
        "AttributeError: 'Message' object has no attribute 'bodyy' (oops.py line 10)",
    ),
    "a spin": (LOOPS.format("while True: side = side"), "it took over 1 s (oops.py line 7)"),
    "a spin in details": (
        FRAMED.format(FINE, "text=[0 for _ in iter(int, 1)]"),
        "it took over 1 s (oops.py line 10)",
    ),
    "by hand, nothing": (BY_HAND.format("pass"), "it gave NoneType, not a list of messages"),
    "by hand, a number": (
        BY_HAND.format("yield 5"),
        "it gave int, not Message, Switch or Inner (oops.py line 7)",
    ),
    "by hand, a target of bytes": (
        BY_HAND.format("yield Message(Kind.REQUEST, target=data)"),
        "it gave a Message whose target is bytes, not str (oops.py line 7)",
    ),
    "by hand, a spin": (
        BY_HAND.format("while True: side = side"),
        "it took over 1 s (oops.py line 7)",
    ),
}


def dissected(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "kshark", "dissect", "--plugin", str(path), "--protocol", "oops", "--full"],
        input="PING a\n", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_one_line_with_the_place(name: str, tmp_path: Path) -> None:
    body, wanted = MISTAKES[name]
    done = dissected(tmp_path / "oops.py", HEAD + body + TAIL)
    assert done.returncode == 1
    assert done.stderr == f"kshark: oops: a mistake in the dissector: {wanted}\n"


def test_a_wrong_word_of_redaction_is_the_authors_line(tmp_path: Path) -> None:
    text = HEAD.replace('"the text"', '"the text", redact="hidden"')
    done = dissected(tmp_path / "oops.py", text + FRAMED.format(FINE, "") + TAIL)
    assert done.returncode == 2
    assert "redact must be one of Redact.NONE, Redact.VALUE, " in done.stderr
    assert "not 'hidden' (oops.py line 4)" in done.stderr


def test_what_is_fine_is_shown(tmp_path: Path) -> None:
    done = dissected(
        tmp_path / "oops.py", HEAD + FRAMED.format(FINE, "text=message.verb[:4]") + TAIL
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "> request PING a 7 bytes\n    text: PING\n"
