"""``kshark`` and ``python -m kshark``."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """The command line, for `sys.argv`; an exit code."""
    gc.set_threshold(
        50_000, 20, 20
    )  # imports make no garbage: looking for it is a sixth of the start
    from kshark import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
