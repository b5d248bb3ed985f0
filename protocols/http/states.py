"""Names of numbers: the states of a lane, and what a request asks of its answer."""

from __future__ import annotations

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

# What a request means for its answer.
IS_HEAD = 1
IS_CONNECT = 2
IS_UPGRADE = 4
