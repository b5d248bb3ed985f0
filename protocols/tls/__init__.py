"""TLS: handshakes in clear, and with a key log what is inside (RFC 8446, RFC 5246)."""

from __future__ import annotations

from typing import Annotated

from kshark.api import Options, PluginError, ProtocolSpec, hookimpl, option

from .cipher import available
from .details import TlsClient, TlsServer, details
from .dissector import TlsDissector
from .identify import probe
from .keylog import KeyLog

HEADS = tuple(bytes([22, 3, minor]) for minor in range(5))
"""How a record of the handshake begins."""


class TlsOptions(Options):
    """``[protocol.tls]``; ``--tls-keylog``."""

    keylog: Annotated[
        str, option("Key log (SSLKEYLOGFILE) of connections, to decrypt them", unit="file")
    ] = ""


def configure(options: TlsOptions) -> ProtocolSpec:
    """With the key log that the user has named."""
    if options.keylog and not available():
        raise PluginError(
            "--tls-keylog: decryption needs the library cryptography: pip install 'kshark[tls]'"
        )
    return spec(KeyLog(options.keylog))


def spec(keys: KeyLog | None = None) -> ProtocolSpec:
    """The protocol; `keys`: where the secrets of connections are found."""
    known = keys or KeyLog()

    def dissector() -> TlsDissector:
        return TlsDissector(known)

    return ProtocolSpec(
        name="tls",
        dissector=dissector,
        doc="TLS 1.0 to 1.3, SSL 3: handshakes; with a key log, what is inside",
        magic=HEADS,
        replies=HEADS,
        ports=(443, 6443, 8443),
        probe=probe,
        request=TlsClient,
        response=TlsServer,
        details=details,
        options=TlsOptions,
        configure=configure,
        secrets=known.learn,
    )


SPEC = spec()


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [spec()]
