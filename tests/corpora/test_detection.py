"""Every flow is taken for what it is, or docs/detection.md says why not."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from shutil import which
from types import ModuleType

import pytest
from oracle import CORPORA

from kshark.engine import FLOWS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "detection.md"


@pytest.fixture(scope="module")
def parts() -> dict[str, ModuleType]:
    """The modules of docs/detection."""
    sys.path.insert(0, str(ROOT / "docs" / "detection"))
    return {name: importlib.import_module(name) for name in ("captured", "made", "matrix")}


@pytest.fixture(scope="module")
def protocols(parts: dict[str, ModuleType]) -> set[str]:
    return {spec.name for spec in parts["made"].BUILT_IN} - FLOWS


def test_made_flows(parts: dict[str, ModuleType], protocols: set[str]) -> None:
    """None is taken for anything else, and the page has the table."""
    matrix = parts["matrix"]
    assert matrix.made_wrong(matrix.made_cells(protocols), protocols) == []
    assert "\n".join(matrix.made_part(protocols)) in PAGE.read_text(), "run python docs/detection"


@pytest.mark.corpora
@pytest.mark.usefixtures("corpora")
@pytest.mark.skipif(which("tshark") is None, reason="tshark is not installed: make tools")
def test_captured_flows(parts: dict[str, ModuleType], protocols: set[str]) -> None:
    captured, matrix, built_in = parts["captured"], parts["matrix"], parts["made"].BUILT_IN
    flows = [
        f for path in captured.captures(CORPORA) for f in captured.judged(CORPORA, path, built_in)
    ]
    wrong = matrix.off(flows, protocols)
    assert [flow for flow in wrong if not matrix.explained(flow)] == []
    assert {one.why for one in matrix.KNOWN} == {matrix.explained(flow) for flow in wrong}, (
        "mended?"
    )
    page = PAGE.read_text()
    assert [flow for flow in wrong if matrix.explained(flow) not in page] == []
    assert len(flows) > 300
