"""For pytest, where it is asked for: ``addopts = "-p kshark.testing.pytest_plugin"``.

``pytest --kshark-update`` writes what comes out now as what is expected: the ``=`` lines of case files, and golden
files of captures. Read the diff before you commit it. The fixture `kshark_golden` compares a capture file with
the entries beside it:

    def test_capture(kshark_golden):
        kshark_golden(HERE / "traffic.pcap", SPEC)  # with traffic.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from os import PathLike
from pathlib import Path

import pytest

from kshark.api import ProtocolSpec
from kshark.render import Renderer
from kshark.testing import _cases
from kshark.testing.play import replay

Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """One switch."""
    group = parser.getgroup("kshark")
    text = "write what comes out now as what is expected: cases and golden files"
    group.addoption("--kshark-update", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Cases are read and written without a fixture: tell them."""
    _cases.UPDATE = bool(config.getoption("--kshark-update"))


@pytest.fixture
def kshark_golden() -> Golden:
    """Compare the entries of a capture file with the golden file beside it."""
    return golden


def golden(
    capture: str | PathLike[str],
    protocol: ProtocolSpec,
    *,
    assume: dict[int, str] | None = None,
    full: bool = True,
) -> None:
    """The entries as JSON lines, with their typed details (`full`), against ``capture.jsonl``.

    `assume` says which protocol a port speaks, for one that is not recognised by its bytes.
    """
    entries = replay(capture, protocol, assume=assume)
    got = Renderer({protocol.name: protocol}).encode(entries, full=full).decode()
    path = Path(capture).with_suffix(".jsonl")
    if _cases.UPDATE:
        path.write_text(got)
        return
    if not path.exists():
        pytest.fail(f"{path} is missing: pytest --kshark-update writes it", pytrace=False)
    wanted = path.read_text()
    if wanted != got:
        pytest.fail(difference(path, wanted, got), pytrace=False)


def difference(path: Path, wanted: str, got: str) -> str:
    """Both as a diff, each entry over several lines so that a person finds the field."""
    lines = unified_diff(_indented(wanted), _indented(got), "expected", "now", lineterm="", n=2)
    shown = list(lines)[:200]
    return f"{path} differs (pytest --kshark-update takes it over):\n" + "\n".join(shown)


def _indented(text: str) -> list[str]:
    import msgspec

    found: list[str] = []
    for line in text.splitlines():
        found += msgspec.json.format(line, indent=1).splitlines()
    return found
