"""Write docs/detection.md: ``python docs/detection [FOLDER OF THE CORPORA]``; tshark must be there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from captured import captures, judged
from made import BUILT_IN
from matrix import PAGE, off, page

from kshark.engine import FLOWS

HERE = Path(__file__).resolve().parents[2]


def main() -> int:
    corpora = Path(
        *sys.argv[1:] or [os.environ.get("KSHARK_CORPORA", HERE / ".." / "shared" / "corpora")]
    )
    protocols = {spec.name for spec in BUILT_IN} - FLOWS
    flows = [flow for path in captures(corpora) for flow in judged(corpora, path, BUILT_IN)]
    if not flows:
        sys.stderr.write(f"no captures in {corpora}\n")
        return 1
    PAGE.write_text(page(protocols, flows), encoding="utf-8")
    for flow in off(flows, protocols):
        print(f"{flow.capture}: {flow.theirs} is {flow.ours} ({flow.reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
