"""Every capture of the corpora, whole and damaged: no traceback, books that balance, no wrong pair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import damage
import pytest
from damage import KINDS, Right, Run, damaged, digest, pairs, run
from oracle import CAPTURES

from kshark.wire import COMPILED

pytestmark = [pytest.mark.corpora, pytest.mark.usefixtures("corpora")]

EACH = pytest.mark.parametrize("name", CAPTURES)
LOSSY = ("snapped", "dropped", "shuffled")


@cache
def undamaged(name: str) -> Run:
    return run(damaged(name, "whole"))


@EACH
def test_whole(name: str) -> None:
    """Balanced books, rows of valid JSON; and the same rows again, whatever the blocks. Only what waits for time to
    pass may come later: the engine looks once a block."""
    found = undamaged(name)
    assert found.wrong == []
    rows = [json.loads(line) for line in found.rows.splitlines()]
    assert len(rows) == len(found.entries)
    assert len({row["id"] for row in rows}) == len(rows)
    again = run(damaged(name, "whole"), size=5)
    assert again.wrong == []
    assert sorted(again.rows.splitlines()) == sorted(found.rows.splitlines())


@EACH
def test_mutated(name: str) -> None:
    found = run(damaged(name, "mutated"))
    assert found.wrong == []
    for line in found.rows.splitlines():
        json.loads(line)


@cache
def right(name: str) -> Right:
    return Right(undamaged(name).entries)


@pytest.mark.parametrize("kind", LOSSY)
@EACH
def test_lossy(name: str, kind: str) -> None:
    """What is left are pairs of the whole run: some may be missing, none may be new."""
    found = run(damaged(name, kind))
    assert found.wrong == []
    assert [pair for pair in pairs(found.entries) if not right(name).holds(pair)] == []


def test_no_limit_fires() -> None:
    """Where requests are given up on, a damaged run may know pairs that the whole one does not."""
    assert {name: found for name in CAPTURES if (found := undamaged(name).fired)} == {}


def cases() -> list[str]:
    """Every capture whole, and with one kind of damage in turn."""
    kinds = [kind for kind in KINDS if kind != "whole"]
    found = [f"{name}:whole" for name in CAPTURES]
    return found + [f"{name}:{kinds[i % len(kinds)]}" for i, name in enumerate(CAPTURES)]


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here: there are no two to compare")
def test_compiled_and_plain_agree() -> None:
    """Rows and complaints byte for byte: wire, dissectors, pairing and rendering of both builds."""
    env = {**os.environ, "KSHARK_PURE": "1"}
    here = Path(damage.__file__)
    command = [sys.executable, str(here), *cases()]
    done = subprocess.run(command, env=env, cwd=here.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    differ = []
    for case in cases():
        name, _, kind = case.rpartition(":")
        found = undamaged(name) if kind == "whole" else run(damaged(name, kind))
        if digest(found) != plain[case]:
            differ.append(case)
    assert differ == []
