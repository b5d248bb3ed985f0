"""What a lane expects next."""

from __future__ import annotations

HEAD = 0  # of a frame
PAYLOAD = 1  # `left` bytes of it
SEEK = 2  # anything, until a chain of frames
OVER = 3  # nothing: it was closed
