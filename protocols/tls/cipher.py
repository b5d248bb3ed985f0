"""Opening records: AES-GCM, AES-CCM, ChaCha20-Poly1305 and, up to TLS 1.2, AES-CBC.

An opener says what a record holds, or None where key or number is not the right one: nothing is believed that
is not authenticated. By the library ``cryptography``.
"""

from __future__ import annotations

import hmac
import re
from typing import Any, Final, Protocol

import msgspec

from .ciphers import CIPHERS
from .keys import expand_label, prf

SUITE: Final = re.compile(
    r"TLS_.*?(?:AES_(128|256)_(GCM|CCM_8|CCM|CBC)|(CHACHA20_POLY1305))(?:_(SHA|SHA256|SHA384))?\Z"
)
MAC_SIZES: Final = {"sha1": 20, "sha256": 32, "sha384": 48}
TAG: Final = 16


class Suite(msgspec.Struct, frozen=True):
    """What a cipher suite is made of."""

    kind: str  # GCM, CCM, CCM_8, CBC or CHACHA
    key: int  # bytes
    digest: str  # of the key schedule
    mac: str = ""  # of CBC


def suite_of(number: int, tls13: bool) -> Suite | None:
    """The parts of a suite, None for one that is not read."""
    found = SUITE.match(CIPHERS.get(number, ""))
    if found is None or tls13 == ("_WITH_" in found[0]):
        return None
    bits, mode, chacha, hashed = found.groups()
    digest = "sha384" if hashed == "SHA384" else "sha256"
    if chacha:
        return Suite("CHACHA", 32, digest)
    if mode != "CBC":
        return Suite(mode, int(bits) // 8, digest)
    mac = {"SHA": "sha1", "SHA256": "sha256", "SHA384": "sha384"}.get(hashed or "")
    return Suite("CBC", int(bits) // 8, digest, mac) if mac else None


class Opener(Protocol):
    """Opens the records of one side while one key holds."""

    overhead: int  # bytes that a record has more than what it holds

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        """(type, content) of the record with that sequence number, None where it is not that."""
        ...


def available() -> bool:
    """Whether the library is there."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        return False
    return True


class Aead13:
    """Records of TLS 1.3: the type is inside, behind the content (RFC 8446 section 5.2)."""

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self.suite = suite
        self.secret = secret
        self.iv = int.from_bytes(expand_label(secret, "iv", 12, suite.digest), "big")
        self.aead = _aead(suite, expand_label(secret, "key", suite.key, suite.digest))
        self.overhead = tag_size(suite) + 1

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        nonce = (self.iv ^ number).to_bytes(12, "big")
        plain = _opened(self.aead, nonce, body, head)
        if plain is None:
            return None
        content = plain.rstrip(b"\0")
        return (content[-1], content[:-1]) if content else None

    def updated(self) -> Aead13:
        """The one after a KeyUpdate."""
        size = len(self.secret)
        return Aead13(self.suite, expand_label(self.secret, "traffic upd", size, self.suite.digest))


class Aead12:
    """Records of TLS 1.2 with an AEAD (RFC 5246 section 6.2.3.3, RFC 5288, RFC 7905)."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self.explicit = 0 if suite.kind == "CHACHA" else 8
        self.iv = iv
        self.tag = tag_size(suite)
        self.aead = _aead(suite, key)
        self.overhead = self.explicit + self.tag

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        size = len(body) - self.overhead
        if size < 0:
            return None
        if self.explicit:
            nonce = self.iv + body[:8]
        else:
            nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        known = number.to_bytes(8, "big") + head[:3] + size.to_bytes(2, "big")
        plain = _opened(self.aead, nonce, body[self.explicit :], known)
        return None if plain is None else (head[0], plain)


class Cbc12:
    """Records of TLS 1.2 with AES-CBC: the MAC before the encryption, or after it (RFC 7366)."""

    def __init__(self, suite: Suite, key: bytes, mac: bytes, mac_last: bool) -> None:
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        self.key = AES(key)
        self.mac = mac
        self.digest = suite.mac
        self.size = MAC_SIZES[suite.mac]
        self.mac_last = mac_last
        self.overhead = 16 + self.size + 1

    def open(self, number: int, head: bytes, body: bytes) -> tuple[int, bytes] | None:
        if self.mac_last:
            body, mac = body[: -self.size], body[-self.size :]
            if not hmac.compare_digest(self._sealed(number, head, body), mac):
                return None
        plain = self._decrypted(body)
        if plain is None or self.mac_last:
            return None if plain is None else (head[0], plain)
        content, mac = plain[: -self.size], plain[-self.size :]
        if len(plain) < self.size or self._sealed(number, head, content) != mac:
            return None
        return head[0], content

    def _sealed(self, number: int, head: bytes, data: bytes) -> bytes:
        known = number.to_bytes(8, "big") + head[:3] + len(data).to_bytes(2, "big")
        return hmac.digest(self.mac, known + data, self.digest)

    def _decrypted(self, body: bytes) -> bytes | None:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.modes import CBC

        if len(body) < 32 or len(body) & 15:
            return None
        decryptor = Cipher(self.key, CBC(body[:16])).decryptor()
        plain = decryptor.update(body[16:]) + decryptor.finalize()
        pad = plain[-1]
        if plain[-pad - 1 :] != bytes([pad]) * (pad + 1):
            return None
        return plain[: -pad - 1]


def openers12(suite: Suite, master: bytes, seed: bytes, mac_last: bool) -> tuple[Opener, Opener]:
    """Those of client and server; `seed` is the server's random and the client's."""
    mac = MAC_SIZES[suite.mac] if suite.mac else 0
    iv = 0 if suite.mac else 12 if suite.kind == "CHACHA" else 4
    block = prf(master, b"key expansion", seed, 2 * (mac + suite.key + iv), suite.digest)
    at, found = 0, []
    for size in (mac, mac, suite.key, suite.key, iv, iv):
        found.append(block[at : at + size])
        at += size
    macs, keys, ivs = found[0:2], found[2:4], found[4:6]
    if suite.mac:
        pair = [Cbc12(suite, keys[side], macs[side], mac_last) for side in (0, 1)]
        return pair[0], pair[1]
    both = [Aead12(suite, keys[side], ivs[side]) for side in (0, 1)]
    return both[0], both[1]


def tag_size(suite: Suite) -> int:
    """Bytes of an AEAD's proof."""
    return 8 if suite.kind == "CCM_8" else TAG


def _aead(suite: Suite, key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers import aead

    if suite.kind == "CHACHA":
        return aead.ChaCha20Poly1305(key)
    if suite.kind == "GCM":
        return aead.AESGCM(key)
    return aead.AESCCM(key, tag_length=tag_size(suite))


def _opened(aead: Any, nonce: bytes, sealed: bytes, known: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        plain: bytes = aead.decrypt(nonce, sealed, known)
    except (InvalidTag, ValueError):
        return None
    return plain
