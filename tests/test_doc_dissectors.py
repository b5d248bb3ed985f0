"""What README and docstrings show as a dissector keeps the laws: a newcomer copies it."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kshark.api
import kshark.testing
import kshark.testing.play
from kshark.api import Framed, ProtocolSpec, Side
from kshark.testing import check_laws

README = Path(__file__).parent.parent / "README.md"
TALK = [(Side.CLIENT, b"HELLO one\n"), (Side.SERVER, b"HELLO two\n")]
MODULES = (kshark.api, kshark.testing, kshark.testing.play)


def shown() -> Iterator[tuple[str, str]]:
    """The code of each place that defines a `Framed`."""
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    ):
        yield f"README {number}", block
    for module in MODULES:
        for found in doctest.DocTestFinder(exclude_empty=True).find(module):
            code = "".join(
                example.source for example in found.examples if "check_laws(" not in example.source
            )
            yield found.name, code


PLACES = [(name, code) for name, code in shown() if "(Framed)" in code]


@pytest.mark.parametrize(("name", "code"), PLACES, ids=[name for name, _ in PLACES])
def test_an_example_keeps_the_laws(name: str, code: str) -> None:
    names: dict[str, Any] = {**vars(kshark.api), **vars(kshark.testing)}
    exec(compile(code, name, "exec"), names)
    made = [one for one in names.values() if isinstance(one, type) and issubclass(one, Framed)]
    [dissector] = [one for one in made if one is not Framed]
    check_laws(ProtocolSpec(name="shown", dissector=dissector), TALK, examples=30)


def test_examples_are_looked_at() -> None:
    assert {name.partition(" ")[0] for name, _ in PLACES} >= {
        "README",
        "kshark.api.Framed",
        "kshark.testing",
    }
