"""Certificates of a handshake: the names in them, read by ``cryptography`` when somebody asks.

Without that library (the extra ``kshark[tls]``) their number and digests are known, and that it is missing.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from kshark import limits
from kshark.api import Details, doc

NEEDS: Final = "names in certificates need the library cryptography: pip install 'kshark[tls]'"


class TlsCertificate(Details):
    """One certificate."""

    subject: Annotated[str, doc("Whose it is, as RFC 4514 writes names")] = ""
    issuer: Annotated[str, doc("Who signed it")] = ""
    names: Annotated[
        list[str], doc("Other names (SANs): hosts, addresses, mail addresses, URIs")
    ] = []
    not_before: Annotated[str, doc("Valid from, in UTC")] = ""
    not_after: Annotated[str, doc("Valid until, in UTC")] = ""
    serial: Annotated[str, doc("Serial number, hex digits")] = ""
    key: Annotated[str, doc("Kind of its key: RSA 2048, EC secp256r1, Ed25519")] = ""
    signature: Annotated[str, doc("How it is signed: OID or name of the algorithm")] = ""
    sha256: Annotated[str, doc("Digest of the certificate, hex digits")] = ""


def chain(message: bytes, tls13: bool) -> list[bytes]:
    """The certificates of a Certificate message, its head of four bytes included; at most TLS_CERTIFICATES."""
    body = message[4:]
    if tls13:
        body = body[1 + body[0] :] if body else b""
    found: list[bytes] = []
    at = 3
    while at + 3 <= len(body) and len(found) < limits.TLS_CERTIFICATES:
        size = int.from_bytes(body[at : at + 3], "big")
        at += 3
        if at + size > len(body):
            break
        found.append(body[at : at + size])
        at += size
        if tls13:  # extensions of each
            at += 2 + int.from_bytes(body[at : at + 2], "big")
    return found


def described(der: bytes, notes: list[str]) -> TlsCertificate:
    """The typed details of one; what stands in the way goes into `notes`."""
    found = TlsCertificate(sha256=hashlib.sha256(der).hexdigest())
    try:
        from cryptography import x509
    except ImportError:
        if NEEDS not in notes:
            notes.append(NEEDS)
        return found
    try:
        fill(found, x509.load_der_x509_certificate(der))
    except Exception as error:  # whatever a parser of hostile bytes makes of them
        notes.append(f"a certificate cannot be read: {type(error).__name__}")
    return found


def fill(found: TlsCertificate, certificate: Any) -> None:
    """What the library says of it, as text."""
    found.serial = f"{certificate.serial_number:x}"
    found.not_before = certificate.not_valid_before_utc.isoformat().replace("+00:00", "Z")
    found.not_after = certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z")
    found.subject = certificate.subject.rfc4514_string()
    found.issuer = certificate.issuer.rfc4514_string()
    oid = certificate.signature_algorithm_oid
    found.signature = getattr(oid, "_name", "") or oid.dotted_string
    found.names = other_names(certificate)
    found.key = key_kind(certificate)


def other_names(certificate: Any) -> list[str]:
    """Its SANs; [] without any."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names = []
    for one in list(extension.value)[: limits.TLS_NAMES]:
        value = one.value
        names.append(value.rfc4514_string() if isinstance(value, x509.Name) else str(value))
    return names


def key_kind(certificate: Any) -> str:
    """RSA 2048, EC secp256r1 ..."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")
