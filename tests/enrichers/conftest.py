"""The kits of the protocols whose messages are enriched."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "protocols" / name) for name in ("http2", "websocket")]
