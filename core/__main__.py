"""The program ``kshark``, also ``python -m kshark``."""

from __future__ import annotations

import gc
import os
import sys

from kshark.interrupts import EARLY
from kshark.stderr import say


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
    return leave(code)


def leave(code: int) -> int:
    """The exit code; at once, where a thread of a plugin would keep the process for ever."""
    if "threading" not in sys.modules:
        return code
    from kshark.loop import stuck

    if names := stuck():
        say(f"left without waiting for {', '.join(names)}")
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
