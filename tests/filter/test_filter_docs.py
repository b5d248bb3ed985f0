"""Every example of docs/filter.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from calls import PROTOCOLS, UNANSWERED

from kshark import limits
from kshark.cli import main
from kshark.filter import compile_filter
from kshark.filter.mistakes import FUNCTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "filter.md").read_text()


def block(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(found) == 1
    return [line for line in found[0].splitlines() if line]


@pytest.mark.parametrize("text", block("cel"))
def test_examples_compile(text: str) -> None:
    assert compile_filter(text, PROTOCOLS).match(UNANSWERED) in (True, False)


ROWS = re.findall(r"^\| `(.+?)` \| (yes|no) \|", PAGE, re.M)


@pytest.mark.parametrize(("text", "answer"), ROWS)
def test_what_is_not_there(text: str, answer: str) -> None:
    assert compile_filter(text, PROTOCOLS).match(UNANSWERED) is (answer == "yes")


def test_errors_are_those_of_the_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = "\n".join(block("console")).split("$ ")[1:]
    assert len(commands) == 3
    for command in commands:
        line, _, wanted = command.rstrip().partition("\n")
        before, text = re.findall(r"kshark (.*) '(.*)'", line)[0]
        assert main([*before.split(), text]) == 2
        assert capsys.readouterr().err.rstrip() == wanted


def test_functions_and_bounds_are_named() -> None:
    assert [name for name in FUNCTIONS if f"`{name}`" not in PAGE] == []
    for bound in (limits.FILTER_TEXT, limits.FILTER_DEPTH, limits.FILTER_ELEMENTS):
        assert f"{bound:,} " in PAGE


def test_rows_were_found() -> None:
    assert len(ROWS) == 12
