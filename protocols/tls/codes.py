"""Names of what TLS numbers: versions, alerts, extensions, groups, signature algorithms (the IANA registries)."""

from __future__ import annotations

from typing import Final

from .ciphers import CIPHERS, SSL2_CIPHERS

SSL2: Final = 0x0002
SSL3: Final = 0x0300
TLS10: Final = 0x0301
TLS12: Final = 0x0303
TLS13: Final = 0x0304

CHANGE_CIPHER, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
"""Types of records (RFC 8446 section 5.1)."""
CONTENT: Final = range(20, 25)
"""The same and heartbeat."""

(CLIENT_HELLO, SERVER_HELLO, NEW_TICKET, END_OF_EARLY_DATA) = (1, 2, 4, 5)
(EXTENSIONS, CERTIFICATE, KEY_EXCHANGE, CERTIFICATE_REQUEST, HELLO_DONE) = (8, 11, 12, 13, 14)
(FINISHED, CERTIFICATE_STATUS, KEY_UPDATE) = (20, 22, 24)
"""Types of handshake messages."""

(SERVER_NAME, STATUS_REQUEST, GROUPS, POINT_FORMATS, SIGNATURES, ALPN) = (0, 5, 10, 11, 13, 16)
(ENCRYPT_THEN_MAC, TICKET, PRE_SHARED_KEY, EARLY_DATA, VERSIONS) = (22, 35, 41, 42, 43)
(PSK_MODES, KEY_SHARE, ECH, ESNI) = (45, 51, 0xFE0D, 0xFFCE)
"""Types of extensions."""

WARNING, FATAL = 1, 2
CLOSE_NOTIFY, USER_CANCELED = 0, 90

VERSION_NAMES: Final = {
    SSL2: "SSL 2.0", SSL3: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", TLS12: "1.2", TLS13: "1.3",
}  # fmt: skip
ALERTS: Final = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
    22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate",
    42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
    46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
    51: "decrypt_error", 52: "too_many_cids_requested", 60: "export_restriction", 70: "protocol_version",
    71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled",
    100: "no_renegotiation", 109: "missing_extension", 110: "unsupported_extension",
    111: "certificate_unobtainable", 112: "unrecognized_name", 113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value", 115: "unknown_psk_identity", 116: "certificate_required",
    117: "general_error", 120: "no_application_protocol", 121: "ech_required",
}  # fmt: skip
EXTENSION_NAMES: Final = {
    0: "server_name", 1: "max_fragment_length", 2: "client_certificate_url", 3: "trusted_ca_keys",
    4: "truncated_hmac", 5: "status_request", 6: "user_mapping", 7: "client_authz", 8: "server_authz",
    9: "cert_type", 10: "supported_groups", 11: "ec_point_formats", 12: "srp", 13: "signature_algorithms",
    14: "use_srtp", 15: "heartbeat", 16: "application_layer_protocol_negotiation", 17: "status_request_v2",
    18: "signed_certificate_timestamp", 19: "client_certificate_type", 20: "server_certificate_type",
    21: "padding", 22: "encrypt_then_mac", 23: "extended_master_secret", 24: "token_binding", 25: "cached_info",
    26: "tls_lts", 27: "compress_certificate", 28: "record_size_limit", 29: "pwd_protect", 30: "pwd_clear",
    31: "password_salt", 32: "ticket_pinning", 33: "tls_cert_with_extern_psk", 34: "delegated_credential",
    35: "session_ticket", 36: "tlmsp", 37: "tlmsp_proxying", 38: "tlmsp_delegate", 39: "supported_ekt_ciphers",
    41: "pre_shared_key", 42: "early_data", 43: "supported_versions", 44: "cookie", 45: "psk_key_exchange_modes",
    47: "certificate_authorities", 48: "oid_filters", 49: "post_handshake_auth",
    50: "signature_algorithms_cert", 51: "key_share", 52: "transparency_info", 53: "connection_id_deprecated",
    54: "connection_id", 55: "external_id_hash", 56: "external_session_id", 57: "quic_transport_parameters",
    58: "ticket_request", 59: "dnssec_chain", 60: "sequence_number_encryption_algorithms", 61: "rrc",
    62: "tls_flags", 13172: "next_protocol_negotiation", 17513: "application_settings",
    17613: "application_settings_new", 30032: "channel_id", 64768: "ech_outer_extensions",
    65037: "encrypted_client_hello", 65281: "renegotiation_info", 65486: "encrypted_server_name",
}  # fmt: skip
GROUP_NAMES: Final = {
    1: "sect163k1", 2: "sect163r1", 3: "sect163r2", 4: "sect193r1", 5: "sect193r2", 6: "sect233k1",
    7: "sect233r1", 8: "sect239k1", 9: "sect283k1", 10: "sect283r1", 11: "sect409k1", 12: "sect409r1",
    13: "sect571k1", 14: "sect571r1", 15: "secp160k1", 16: "secp160r1", 17: "secp160r2", 18: "secp192k1",
    19: "secp192r1", 20: "secp224k1", 21: "secp224r1", 22: "secp256k1", 23: "secp256r1", 24: "secp384r1",
    25: "secp521r1", 26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1", 29: "x25519",
    30: "x448", 31: "brainpoolP256r1tls13", 32: "brainpoolP384r1tls13", 33: "brainpoolP512r1tls13",
    34: "GC256A", 35: "GC256B", 36: "GC256C", 37: "GC256D", 38: "GC512A", 39: "GC512B", 40: "GC512C",
    41: "curveSM2", 256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192",
    512: "MLKEM512", 513: "MLKEM768", 514: "MLKEM1024", 4587: "SecP256r1MLKEM768", 4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024", 25497: "X25519Kyber768Draft00", 25498: "SecP256r1Kyber768Draft00",
    65281: "arbitrary_explicit_prime_curves", 65282: "arbitrary_explicit_char2_curves",
}  # fmt: skip
SIGNATURE_NAMES: Final = {
    0x0201: "rsa_pkcs1_sha1", 0x0202: "dsa_sha1", 0x0203: "ecdsa_sha1", 0x0301: "rsa_sha224",
    0x0302: "dsa_sha224", 0x0303: "ecdsa_sha224", 0x0401: "rsa_pkcs1_sha256", 0x0402: "dsa_sha256",
    0x0403: "ecdsa_secp256r1_sha256", 0x0420: "rsa_pkcs1_sha256_legacy", 0x0501: "rsa_pkcs1_sha384",
    0x0502: "dsa_sha384", 0x0503: "ecdsa_secp384r1_sha384", 0x0520: "rsa_pkcs1_sha384_legacy",
    0x0601: "rsa_pkcs1_sha512", 0x0602: "dsa_sha512", 0x0603: "ecdsa_secp521r1_sha512",
    0x0620: "rsa_pkcs1_sha512_legacy", 0x0708: "sm2sig_sm3", 0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384", 0x0806: "rsa_pss_rsae_sha512", 0x0807: "ed25519", 0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256", 0x080A: "rsa_pss_pss_sha384", 0x080B: "rsa_pss_pss_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256", 0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512", 0x0904: "mldsa44", 0x0905: "mldsa65", 0x0906: "mldsa87",
}  # fmt: skip


ALPN_PROTOCOLS: Final = {"h2": "http2", "http/1.0": "http", "http/1.1": "http", "dot": "dns"}
"""Protocols of kshark by the names that are negotiated."""


def grease(number: int) -> bool:
    """Whether it means nothing and is there to be ignored (RFC 8701).

    >>> grease(0x1A1A), grease(0x1301)
    (True, False)
    """
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def named(names: dict[int, str], number: int) -> str:
    """The name of a number of two bytes, or its digits.

    >>> named(GROUP_NAMES, 29), named(GROUP_NAMES, 0x2A2A), named(GROUP_NAMES, 0x999)
    ('x25519', 'GREASE', '0x0999')
    """
    return names.get(number) or ("GREASE" if grease(number) else f"0x{number:04x}")


def cipher_name(number: int) -> str:
    """TLS_AES_128_GCM_SHA256 ..."""
    return named(CIPHERS, number)


def ssl2_cipher_name(number: int) -> str:
    """The same of three bytes, as SSLv2 has them."""
    return SSL2_CIPHERS.get(number) or (
        cipher_name(number) if number <= 0xFFFF else f"0x{number:06x}"
    )


def version_name(number: int) -> str:
    """1.2, 1.3, SSL 3.0 ..."""
    if number & 0xFF00 == 0x7F00:
        return f"1.3 draft {number & 0xFF}"
    return named(VERSION_NAMES, number)


def alert_name(number: int) -> str:
    """handshake_failure ..."""
    return ALERTS.get(number) or f"alert_{number}"
