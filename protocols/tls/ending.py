"""How a handshake ended: what details() cannot read in its messages."""

from __future__ import annotations

import msgspec


class Ending(msgspec.Struct):
    """Kept in `Message.extra` of a response."""

    alert: str = ""  # what ended it, "" for nothing
    code: int = 0
    side: int = -1  # who said so
    established: bool = False
    full: bool = False  # keys were exchanged: up to TLS 1.2 no session was resumed
    resumed: bool = False
    retry: bool = False  # there was a HelloRetryRequest
    tls13: bool = False
    ssl2: bool = False
    truncated: bool = False  # messages are not kept, or were lost
    why: str = ""  # nothing is opened, though there is a key log
