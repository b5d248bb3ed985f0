"""Which functions of a file are to be probed to read TLS in clear, or why none can be."""

from __future__ import annotations

from struct import error
from typing import Final, NamedTuple

from kshark.backends import _golang
from kshark.backends._elf import Elf, ElfError

DONE: Final = "tls_done"
"""The program at the return of the functions of C libraries."""
OPENSSL: Final = {
    "SSL_read": "tls_read",
    "SSL_write": "tls_write",
    "SSL_read_ex": "tls_read_ex",
    "SSL_write_ex": "tls_write_ex",
    "SSL_do_handshake": "tls_handshake",
    "SSL_free": "tls_free",
}
GNUTLS: Final = {
    "gnutls_record_recv": "tls_read",
    "gnutls_record_send": "tls_write",
    "gnutls_handshake": "tls_handshake",
    "gnutls_deinit": "tls_free",
}
GO_READ: Final = "crypto/tls.(*Conn).Read"
GO_WRITE: Final = "crypto/tls.(*Conn).Write"
NEEDED: Final = {"OpenSSL": ("SSL_read", "SSL_write"), "GnuTLS": ("gnutls_record_send",)}


class Probe(NamedTuple):
    """A program at an offset of a file."""

    program: str
    offset: int


class Found(NamedTuple):
    """What a file holds: the library ("" for none), where to probe it, and why not."""

    library: str = ""
    probes: tuple[Probe, ...] = ()
    why: str = ""


def examine(path: str) -> Found:
    """Look at one file."""
    try:
        elf = Elf(path)
    except ElfError as why:
        return Found(why=str(why))
    try:
        if _golang.is_go(elf):
            return _go(elf)
        return _c_library(elf, "OpenSSL", OPENSSL) or _c_library(elf, "GnuTLS", GNUTLS) or Found()
    except (ElfError, error, IndexError):
        return Found(why="a damaged program")
    finally:
        elf.close()


def _go(elf: Elf) -> Found:
    try:
        functions = _golang.functions(elf, (GO_READ, GO_WRITE))
    except (ElfError, error, IndexError) as why:
        return Found("Go", why=str(why))
    if len(functions) < 2:
        return Found()  # it has no use for TLS
    read, write = functions[GO_READ], functions[GO_WRITE]
    ends = (Probe("go_tls_read_done", at) for at in read.returns)
    probes = (*ends, Probe("go_tls_read", read.begins), Probe("go_tls_write", write.begins))
    return Found("Go", probes)


def _c_library(elf: Elf, library: str, table: dict[str, str]) -> Found | None:
    functions = elf.functions(table)
    if not all(name in functions for name in NEEDED[library]):
        return None
    probes = []
    for name, offset in functions.items():
        if table[name] != "tls_free":
            probes.append(Probe(DONE, offset))  # the end first: see begin_op of bpf/library.h
        probes.append(Probe(table[name], offset))
    return Found(library, tuple(dict.fromkeys(probes)))
