"""The second loader in a guest with an older kernel than this machine's: its verifier takes what bcc compiles."""

from __future__ import annotations

import os
from ctypes.util import find_library
from pathlib import Path

import guest
import pytest
from image import LIBRARIES

from kshark.backends import _bcc

pytestmark = pytest.mark.kernel

SEEN = {
    ("http", "/small", 200, "curl", "nginx"),
    ("http", "/64k", 200, "curl", "nginx"),
    ("http", "/nosuch", 404, "curl", "nginx"),
    ("http", "/peek", 200, "python3", "python3"),
    ("redis", "k", None, "redis-cli", "redis-server"),
}
"""Of what inside.py sends all but the datagrams."""
CALLS = 6
"""SET and GET have the same row."""


def test_what_was_sent_is_what_is_shown(tmp_path: Path) -> None:
    if why := _bcc.missing():
        (pytest.fail if "CI" in os.environ else pytest.skip)(why)
    made = guest.image()
    (place,) = [place for place in _bcc.PLACES if Path(place, "bcc").is_dir()]
    made.tree(f"{place}/bcc", Path(place, "bcc"))
    name = find_library("bcc")
    assert name
    (library,) = [place / name for place in LIBRARIES if (place / name).exists()][:1]
    made.file(f"/lib/{name}", library.resolve())
    made.libraries(library)
    rounds = [{"name": "bcc", "arguments": ["--backend", "ebpf:,hooks=bcc"], "entries": CALLS}]
    (found,) = guest.run(made, rounds, tmp_path, memory=2048)
    assert found["code"] == 0, found["said"]
    assert "compiled by bcc" in found["said"]
    rows = [
        (
            entry["protocol"],
            entry["request"]["target"],
            entry["response"]["status"],
            entry["src"]["comm"],
            entry["dst"]["comm"],
        )
        for entry in found["entries"]
    ]
    assert set(rows) == SEEN
    assert len(rows) == CALLS
