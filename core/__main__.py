"""``python -m kshark``."""

from __future__ import annotations

import sys

from kshark.cli import main

sys.exit(main())
