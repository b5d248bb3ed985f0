"""What all parts name: the states of a lane, what a request asks of its answer, what a body was."""

from __future__ import annotations

import msgspec

# What a lane expects next.
HEAD = 0
COUNTED = 1  # `left` bytes of body
CHUNK_LINE = 2
CHUNK_DATA = 3  # `left` bytes of the chunk
CHUNK_END = 4
TRAILERS = 5
UNTIL_CLOSE = 6
PEEK = 7  # a response to an unknown method: is there a body, or the next response?
SEEK = 8  # anything, until a start line
HELD = 9  # a client after an upgrade request: the answer decides what the bytes are
OVER = 10  # handed over

NONE = -1
"""The kind of a lane's message while there is none."""

# What a request means for its answer.
IS_HEAD = 1
IS_CONNECT = 2
IS_UPGRADE = 4
IS_LAYER = 8  # another protocol rides in the exchange


class Rest(msgspec.Struct, frozen=True, gc=False):
    """What `details` needs beside head and body, where it cannot be seen from them."""

    body_size: int  # bytes of content that were sent, also those that were not kept
    trailers: bytes = b""
