"""TLS: handshakes in clear, and with a key log what is inside (RFC 8446, RFC 5246)."""

from __future__ import annotations

from functools import partial

from kshark.api import ProtocolSpec, hookimpl

from .details import TlsClient, TlsServer, details
from .dissector import TlsDissector
from .identify import probe
from .keylog import KeyLog

HEADS = tuple(bytes([22, 3, minor]) for minor in range(5))
"""How a record of the handshake begins."""


def spec(keys: KeyLog | None = None) -> ProtocolSpec:
    """The protocol; `keys`: where the secrets of connections are found."""
    return ProtocolSpec(
        name="tls",
        dissector=partial(TlsDissector, keys),
        doc="TLS 1.0 to 1.3, SSL 3: handshakes; with a key log, what is inside",
        magic=HEADS,
        replies=HEADS,
        ports=(443, 6443, 8443),
        probe=probe,
        request=TlsClient,
        response=TlsServer,
        details=details,
    )


SPEC = spec()


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [spec()]
