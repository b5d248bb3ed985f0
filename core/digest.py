"""The id of a flow, plainly; compiled code calls ``_digest.flow_id`` by the same name."""

from __future__ import annotations

import hashlib


def flow_id(
    client: bytes, server: bytes, client_port: int, server_port: int, proto: int, first_ns: int
) -> str:
    """16 hex digits of its addresses, ports, protocol and first packet's time."""
    return hexed(b"%b|%b|%d|%d|%d|%d" % (client, server, client_port, server_port, proto, first_ns))


def hexed(key: bytes) -> str:
    """Eight bytes of BLAKE2b, as hex digits."""
    return hashlib.blake2b(key, digest_size=8).hexdigest()
