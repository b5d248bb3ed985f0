"""The base of a consumer that the compiled wire calls without going through Python.

Beside this file lies ``listener.pxd``, with which the same source is compiled.
"""

from __future__ import annotations


class Listener:
    """A `kshark.wire.Consumer`, or the part of it that is called for each segment.

    A consumer need not be one: the wire calls whatever has these methods. A compiled subclass is called at the
    cost of a C function, and times do not become objects on the way.
    """

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        """See `kshark.wire.Consumer`."""
        raise NotImplementedError
