"""What all parts name: the states of a lane, the notes on a message, what a body was."""

from __future__ import annotations

from typing import Final

import msgspec

# What a lane expects next.
START = 0  # the preface, or a frame
FRAME = 1
BODY = 2  # `left` bytes of content, then `pad` bytes that are skipped
SKIP = 3  # `left` bytes of a frame that do not matter
SEEK = 4  # anything, until frames begin

NOTES: Final[dict[str, str]] = {
    "unknown-headers": "headers that cannot be known: the flow was joined in mid-stream, or bytes before were lost",
    "long-headers": "a header block over 64 KiB or 128 frames, or a list over 256 KiB; the rest is missing",
    "long-target": "a target over 8 KiB; the row has its beginning",
    "bad-headers": "a header block that is no HPACK",
    "lost-bytes": "bytes of the connection were lost while this was sent, perhaps of this message",
    "reset-by-client": "the client ended the stream by RST_STREAM",
    "reset-by-server": "the server ended the stream by RST_STREAM",
    "not-processed": "the other side said by GOAWAY that it did not handle this request",
    "pushed": "a request that the server made in the client's name (PUSH_PROMISE); its bytes count for what the server "
    "says next",
    "upgraded": "the answer to the HTTP/1.1 request that asked for h2c",
    "given-up": "too many streams at once: this one was not followed to its end",
}
"""What `Message.notes` may say, beside interim-1xx."""

UNKNOWN_HEADERS = 1
LONG_HEADERS = 2
LONG_TARGET = 4
BAD_HEADERS = 8
LOST_BYTES = 16
RESET_BY_CLIENT = 32
RESET_BY_SERVER = 64
NOT_PROCESSED = 128
PUSHED = 256
UPGRADED = 512
GIVEN_UP = 1024
LOSSY = UNKNOWN_HEADERS | LONG_HEADERS | LONG_TARGET | BAD_HEADERS | LOST_BYTES | GIVEN_UP
"""Notes that say that something is missing."""
RESET = RESET_BY_CLIENT | RESET_BY_SERVER
_NAMES: Final = tuple(NOTES)


def names(flags: int) -> tuple[str, ...]:
    """The notes of these bits.

    >>> names(1 | 256)
    ('unknown-headers', 'pushed')
    """
    return tuple(name for bit, name in enumerate(_NAMES) if flags >> bit & 1)


class Rest(msgspec.Struct, frozen=True, gc=False):
    """What `details` needs beside head and body, where it cannot be seen from them. A layer gets bare trailers."""

    body_size: int  # bytes of content that were sent, also those that were not kept
    trailers: bytes = b""
