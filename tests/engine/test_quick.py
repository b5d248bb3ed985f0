"""Shortcuts change nothing but the time they take: the plain guard's, and a dissector fed by `Feeder.take`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("build", ["1", ""], ids=["plain", "as built"])
def test_all_ways_do_the_same(build: str) -> None:
    here = Path(__file__).parent
    command = [sys.executable, str(here / "guards.py"), "1500"]
    env = {**os.environ, "KSHARK_PURE": build}
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
