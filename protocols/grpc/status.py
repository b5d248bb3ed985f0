"""What gRPC's status codes are called, and which one stands for what ended a call otherwise.

By the specification "gRPC over HTTP2" and its page on mapping HTTP status codes.
"""

from __future__ import annotations

import re
from typing import Final

NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
LARGEST: Final = 2**31 - 1
"""A status is a number of 32 bits; what is not counts as UNKNOWN."""

OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""The status of an answer without one, by its HTTP status; others are UNKNOWN."""
OF_ERROR: Final = {
    "NO_ERROR": INTERNAL,
    "PROTOCOL_ERROR": INTERNAL,
    "INTERNAL_ERROR": INTERNAL,
    "FLOW_CONTROL_ERROR": INTERNAL,
    "SETTINGS_TIMEOUT": INTERNAL,
    "FRAME_SIZE_ERROR": INTERNAL,
    "REFUSED_STREAM": UNAVAILABLE,
    "CANCEL": CANCELLED,
    "COMPRESSION_ERROR": INTERNAL,
    "CONNECT_ERROR": INTERNAL,
    "ENHANCE_YOUR_CALM": 8,
    "INADEQUATE_SECURITY": 7,
}
"""The status of a stream that RST_STREAM ended, by the name of its error; others are UNKNOWN."""

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def name(code: int) -> str:
    """The name of a status code; a number that has none stays one.

    >>> name(5), name(99)
    ('NOT_FOUND', '99')
    """
    return NAMES[code] if 0 <= code < len(NAMES) else str(code)


def code_of(value: bytes) -> int:
    """The status that a header says.

    >>> code_of(b"14"), code_of(b"oops")
    (14, 2)
    """
    if value.isdigit() and len(value) <= 10 and int(value) <= LARGEST:
        return int(value)
    return UNKNOWN


def text_of(value: bytes) -> str:
    """The message that a header says: UTF-8, percent-encoded; an escape that is none stays as it is.

    >>> text_of(b"no caf%C3%A9, 100%")
    'no café, 100%'
    """
    if b"%" in value:
        value = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), value)
    return value.decode("utf-8", "replace")
