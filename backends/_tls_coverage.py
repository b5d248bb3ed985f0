"""Of each process that speaks TLS: by which library, whether it can be read in clear, and why not."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from kshark.api import Coverage
from kshark.backends._maps import FileKey, Mapped, comm, mapped
from kshark.backends._tls_files import Found, examine

OTHERS: Final = {
    "libjvm.so": ("Java", "Java has its own TLS, compiled while it runs"),
    "libnss3.so": ("NSS", "NSS is not hooked"),
    "libmbedtls.so": ("Mbed TLS", "Mbed TLS is not hooked"),
    "libwolfssl.so": ("wolfSSL", "wolfSSL is not hooked"),
    "libs2n.so": ("s2n", "s2n is not hooked"),
}
"""Libraries by the beginning of their files' names."""
SIGNS: Final = {
    b"rustls": ("rustls", "rustls has no functions that could be hooked"),
    b"BoringSSL": ("BoringSSL", "linked statically, without symbols"),
    b"OpenSSL 3.": ("OpenSSL", "linked statically, without symbols"),
    b"OpenSSL 1.1": ("OpenSSL", "linked statically, without symbols"),
}
"""Text that a program has that holds a library without saying where."""
UNKNOWN: Final = "no TLS library that kshark knows"


class Seen(NamedTuple):
    """What is known of a file."""

    found: Found
    why: str = ""  # it is not hooked though there is a library


Look = Callable[[Mapped], Seen]


class Reader:
    """Looks at files, each once."""

    def __init__(self) -> None:
        self._known: dict[FileKey, Seen] = {}

    def look(self, one: Mapped) -> Seen:
        if one.key not in self._known:
            found = examine(one.open_as())
            self._known[one.key] = Seen(found, found.why if found.library else "")
        return self._known[one.key]


def cover(pid: int, name: str, look: Look, *, speaks: bool) -> Coverage | None:
    """A process; None for one that seems to have no use for TLS. `speaks`: it was seen to use it."""
    there = mapped(pid)
    if not there:  # it is gone, or not ours to look at
        return None
    libraries = [seen for one in there if (seen := look(one)).found.library]
    hooked = [seen.found.library for seen in libraries if seen.found.probes and not seen.why]
    if hooked:
        return Coverage(pid, name, ", ".join(dict.fromkeys(hooked)), True)
    if libraries:
        found, why = libraries[0]
        return Coverage(pid, name, found.library, False, why or found.why)
    library, why = _other(there)
    if not library and not speaks:
        return None
    return Coverage(pid, name, library, False, why or UNKNOWN)


def _other(there: Sequence[Mapped]) -> tuple[str, str]:
    """A library that cannot be hooked, and why."""
    for one in there:
        name = one.path.rpartition("/")[2]
        for begin, other in OTHERS.items():
            if name.startswith(begin):
                return other
    return _signed(there[0].open_as()) if there else ("", "")


def _signed(path: str) -> tuple[str, str]:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            for sign, other in SIGNS.items():
                if data.find(sign) >= 0:
                    return other
    except (OSError, ValueError):
        pass
    return "", ""


def machine(pids: Iterable[int]) -> Iterator[Coverage]:
    """Those of these processes that seem to have a use for TLS."""
    reader = Reader()
    for pid in sorted(pids):
        if (found := cover(pid, comm(pid), reader.look, speaks=False)) is not None:
            yield found
