"""What is wrong with a frame, by its header alone (RFC 9113 section 6).

Beside this file lies ``faults.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from typing import Final

from kshark.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

SIZES: Final = (0, 0, 5, 4, 0, 4, 8, 8, 4, 0)
"""The length of each type, or the least of it."""


def fault(length: int, kind: int, flags: int, stream: int) -> str:
    """Why a frame of a known type cannot be as its header says, or ""."""
    if kind > CONTINUATION:
        return ""
    if kind in (SETTINGS, PING, GOAWAY):
        if stream:
            return "stream where there can be none"
    elif stream == 0 and kind != WINDOW_UPDATE:
        return "stream 0"
    least = SIZES[kind]
    fixed = kind in (PRIORITY, RST_STREAM, PING, WINDOW_UPDATE)
    if length < least or (fixed and length != least):
        return f"{length} bytes"
    if kind == SETTINGS and (length % 6 or (flags & ACK and length)):
        return f"{length} bytes"
    if flags & PADDED and kind in (DATA, HEADERS, PUSH_PROMISE) and length < least + 1:
        return "no room for its padding"
    if kind == HEADERS and flags & PRIORITIZED and length < 5 + (flags & PADDED > 0):
        return f"{length} bytes"
    return ""
