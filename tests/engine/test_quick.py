"""The shortcut of the plain guard changes nothing but the time it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_both_plain_guards_do_the_same() -> None:
    here = Path(__file__).parent
    command = [sys.executable, str(here / "guards.py"), "1500"]
    env = {**os.environ, "KSHARK_PURE": "1"}
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
