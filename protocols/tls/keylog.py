"""The secrets of connections, from a key log (the format of NSS, ``SSLKEYLOGFILE``) or a capture file.

A key log grows while programs run: it is read on where a secret is asked for that is not known yet. No secret
ever leaves this module but to the decryption. Limits: TLS_SECRETS connections, TLS_KEYLOG_READ bytes a look.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Final, Protocol

from kshark import limits
from kshark.api import PluginError

LINE: Final = re.compile(rb"([A-Z0-9_]{1,64}) ([0-9a-fA-F]{64}) ([0-9a-fA-F]{2,256})\s*\Z")
"""A label, the client's random, a secret. Other lines (comments, RSA pre-master secrets) are passed over."""
LABELS: Final = {
    b"CLIENT_RANDOM": "master",
    b"CLIENT_EARLY_TRAFFIC_SECRET": "client early",
    b"CLIENT_HANDSHAKE_TRAFFIC_SECRET": "client handshake",
    b"SERVER_HANDSHAKE_TRAFFIC_SECRET": "server handshake",
    b"CLIENT_TRAFFIC_SECRET_0": "client data",
    b"SERVER_TRAFFIC_SECRET_0": "server data",
}
ANY_LINE: Final = re.compile(rb"#|[A-Z0-9_]{1,64} |\s*\Z")
"""How lines of a key log begin, those of no use here included."""
WHOLE: Final = (64, 96)
"""Hex digits of a secret: a digest of 32 or 48 bytes, or a master secret."""
LONGEST: Final = 1_024
"""Bytes of a line; the longest of use has 230."""


class Secrets(Protocol):
    """What a dissector may ask."""

    @property
    def asked(self) -> bool:
        """Whether there may be secrets at all."""
        ...

    def of(self, random: bytes) -> Mapping[str, bytes]:
        """The secrets of a connection by the names of `LABELS`, empty where none is known (yet)."""
        ...


class KeyLog:
    """Secrets by the random of a ClientHello; of a file, of blocks in a capture, or of both."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.known: dict[bytes, dict[str, bytes]] = {}
        self.forgotten = 0
        self.strange = False  # it has lines that no key log has
        self._offset = 0
        self._rest = b""
        if path:
            self._open()

    def _open(self) -> None:
        try:
            found = os.stat(self.path)
            if not stat.S_ISREG(found.st_mode):  # a pipe would be read by nobody, or wait for ever
                raise PluginError(f"--tls-keylog {self.path}: it is no regular file")
            while self._offset < found.st_size and self._read():
                pass
            last = LINE.match(self._rest)
            if last is not None and len(last[3]) in WHOLE:  # who edits a file may end it so
                self._line(self._rest)
        except OSError as error:
            raise PluginError(f"--tls-keylog {self.path}: {error.strerror}") from error
        if self.strange and not self.known:
            raise PluginError(
                f"--tls-keylog {self.path}: it is no key log as SSLKEYLOGFILE makes it"
            )

    @property
    def asked(self) -> bool:
        """See `Secrets`."""
        return bool(self.path or self.known)

    def of(self, random: bytes) -> Mapping[str, bytes]:
        """See `Secrets`; the file is read on where it has grown."""
        if self.path:
            self._look()
        return self.known.get(random, {})

    def learn(self, data: bytes) -> None:
        """Lines of a key log."""
        for line in data.splitlines():
            self._line(line)

    def _look(self) -> None:
        try:
            size = os.stat(self.path).st_size
            if size < self._offset:  # begun anew
                self._offset, self._rest = 0, b""
            if size > self._offset:
                self._read()
        except OSError:
            pass  # gone, or being replaced: what is known stays

    def _read(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            data = file.read(limits.TLS_KEYLOG_READ)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LONGEST:]
        for line in lines:
            self._line(line)
            self.strange = self.strange or ANY_LINE.match(line) is None
        return bool(data)

    def _line(self, line: bytes) -> None:
        found = LINE.match(line[:LONGEST])
        label = LABELS.get(found[1]) if found is not None else None
        if found is None or label is None or len(found[3]) & 1:
            return
        random = bytes.fromhex(found[2].decode())
        secrets = self.known.get(random)
        if secrets is None:
            if len(self.known) >= limits.TLS_SECRETS:
                del self.known[next(iter(self.known))]
                self.forgotten += 1
            secrets = self.known[random] = {}
        secrets[label] = bytes.fromhex(found[3].decode())
