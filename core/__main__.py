"""The program ``kshark``, also ``python -m kshark``."""

from __future__ import annotations

import gc
import sys

from kshark.interrupts import EARLY


def main() -> int:
    """The command line, for `sys.argv`; an exit code. Signals are heard before anything slow is imported."""
    if sys.argv[1:2] == ["run"]:
        EARLY.install()
    gc.set_threshold(
        50_000, 20, 20
    )  # imports make no garbage: looking for it is a sixth of the start
    from kshark import cli

    code = cli.main()
    EARLY.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
