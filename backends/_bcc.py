"""The second loader: programs that bcc compiles on the machine they run on, where the kernel has no BTF.

``bpf/bcc/*.c`` is one text, which needs no header of any kernel: it goes by the arguments of system calls and by
what tracepoints say (the places of their fields are read from tracefs). Other headers than the running kernel's would
give wrong structures without a word, so none are looked for. bcc is the distribution's (``python3-bpfcc``), also in a
virtual environment; it is imported when it is asked for, since it brings a compiler of 170 MB.

Everything that is attached goes with its descriptors, as with libbpf.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kshark.backends import _tracefs
from kshark.backends._libbpf import BpfError
from kshark.bpf import program

HINT: Final = "bcc is not installed: apt-get install python3-bpfcc, or dnf install python3-bcc"
PLACES: Final = ("/usr/lib/python3/dist-packages", "/usr/lib/python3/site-packages")
"""Where distributions have it, which a virtual environment does not look at."""
SOURCES: Final = ("maps.c", "connection.c", "calls.c")
"""In this order they are one text: bcc finds maps in its main file alone."""
INCLUDED: Final = (
    *("linux/kconfig.h", "linux/types.h", "linux/version.h", "linux/log2.h", "linux/bpf_common.h"),
    *("asm/page.h", "uapi/linux/if_ether.h", "uapi/linux/if_packet.h", "uapi/linux/ptrace.h"),
)
"""Headers of the kernel that bcc includes by itself."""
SET_BPF, ENABLE = 0x40042408, 0x2400
"""PERF_EVENT_IOC_SET_BPF, PERF_EVENT_IOC_ENABLE"""


def missing() -> str:
    """Why bcc cannot be used, and what to do; "" where it can."""
    try:
        _imported()
    except BpfError as error:
        return str(error.strerror)
    return ""


def _imported() -> Any:
    """The package ``bcc``; not the one of PyPI that has its name, which is about crystals."""
    try:
        found = __import__("bcc")
        if not hasattr(found, "BPF"):
            del sys.modules["bcc"]
            raise ImportError
        return found
    except (ImportError, OSError):
        pass
    before = list(sys.path)
    sys.path[:0] = [place for place in PLACES if Path(place, "bcc").is_dir()]
    try:
        found = __import__("bcc")
    except (ImportError, OSError):
        raise BpfError(errno.ENOPKG, HINT) from None
    finally:
        sys.path[:] = before
    if not hasattr(found, "BPF"):
        raise BpfError(errno.ENOPKG, HINT)
    return found


class BccMap:
    """A map of a compiled object; keys and values are bytes."""

    def __init__(self, lib: Any, fd: int, size: int) -> None:
        self._lib, self.fd, self.size = lib, fd, size

    def put(self, key: bytes, value: bytes) -> None:
        if self._lib.bpf_update_elem(self.fd, key, value, 0):
            code = ctypes.get_errno()
            raise BpfError(code, f"a map of bcc: {os.strerror(code)}")

    def counters(self, count: int) -> list[int]:
        """Of a per-processor array of u64: the first `count` elements, each summed over the processors."""
        found, room = [], ctypes.create_string_buffer(8 * possible_cpus())
        for number in range(count):
            failed = self._lib.bpf_lookup_elem(self.fd, number.to_bytes(4, sys.byteorder), room)
            found.append(0 if failed else sum(memoryview(room).cast("B").cast("Q")))
        return found


class Compiled:
    """The programs and maps of bpf/bcc: compiled and loaded; `BpfError` where that cannot be.

    ``defined``: the names that the sources leave to us. ``ring_bytes``: a power of two.
    """

    def __init__(self, defined: Mapping[str, int], ring_bytes: int) -> None:
        bcc = _imported()
        self._lib = bcc.libbcc.lib
        self._type = bcc.BPF.TRACEPOINT
        self._events: list[int] = []
        self._ring_bytes = ring_bytes
        words = dict(defined) | {
            "PAGE_SIZE": mmap.PAGESIZE,
            "RING_PAGES": ring_bytes // mmap.PAGESIZE,
        }
        flags = [f"-I{folder().parent}", *(f"-D{name}={value}" for name, value in words.items())]
        with _no_headers(), _quiet() as said:
            try:
                self._module = bcc.BPF(text=text(), cflags=flags)
                self._programs = {name: self._loaded(name) for name in self._names()}
            except Exception as error:
                raise BpfError(ctypes.get_errno(), f"bcc: {_last(said(), error)}") from None

    @property
    def loaded(self) -> list[str]:
        return list(self._programs)

    def map(self, name: str) -> BccMap:
        fd = self._lib.bpf_table_fd(self._module.module, name.encode())
        return BccMap(self._lib, fd, self._ring_bytes if name == "ring" else 0)

    def attach_tracepoint(self, name: str, event: str) -> None:
        """Attach a program to ``syscalls/sys_exit_read``; one may be attached to many."""
        try:
            descriptor = _tracefs.opened(event)
            self._events.append(descriptor)
            fcntl.ioctl(descriptor, SET_BPF, self._programs[name])
            fcntl.ioctl(descriptor, ENABLE, 0)
        except OSError as error:
            raise BpfError(error.errno, f"bcc: {event}: {error.strerror}") from None

    def close(self) -> None:
        """Detach and unload everything."""
        events, self._events = self._events, []
        for descriptor in events:
            os.close(descriptor)
        module, self._module = self._module, None
        if module is not None:
            module.cleanup()

    def _names(self) -> Iterator[str]:
        module = self._module.module
        for number in range(self._lib.bpf_num_functions(module)):
            yield self._lib.bpf_function_name(module, number).decode()

    def _loaded(self, name: str) -> int:
        return int(self._module.load_func(name.encode(), self._type).fd)


def folder() -> Path:
    """Where the sources are."""
    return program("syscalls").parent / "bcc"


def text() -> str:
    """The sources as one."""
    return "".join((folder() / name).read_text() for name in SOURCES)


@contextmanager
def _no_headers() -> Iterator[None]:
    """Have bcc find our plain types where it looks for the headers of the kernel."""
    with tempfile.TemporaryDirectory(prefix="kshark-bcc-") as place:
        for name in (*INCLUDED, "uapi/linux/bpf.h"):
            path = Path(place, "include", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            more = "#include <bcc/bpf.h>\n" if name == "uapi/linux/bpf.h" else ""
            path.write_text(f'#include "{folder()}/plain.h"\n{more}')
        before = os.environ.get("BCC_KERNEL_SOURCE")
        os.environ["BCC_KERNEL_SOURCE"] = place
        try:
            yield
        finally:
            if before is None:
                del os.environ["BCC_KERNEL_SOURCE"]
            else:
                os.environ["BCC_KERNEL_SOURCE"] = before


@contextmanager
def _quiet() -> Iterator[Any]:
    """What the compiler and the verifier write to stderr, kept to explain a refusal; no signals meanwhile."""
    # The verifier gives up for any signal, and a timer's may come oftener than it takes.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)

        def said() -> str:
            log.seek(0)
            return log.read(1 << 20).decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _last(said: str, error: Exception) -> str:
    """One line: the compiler's first error, or the last word before the verifier's figures."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in lines:
        if "error:" in line:
            return line
    for number, line in enumerate(lines):
        if line.startswith("processed ") and " insns" in line and number:
            return f"the verifier of this kernel refuses it: {lines[number - 1]}"
    return str(error)


def possible_cpus() -> int:
    """Processors that there may be: the values of a per-processor map."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().replace(",", "-")
    return int(last.rpartition("-")[2]) + 1


def fields(event: str, names: Collection[str]) -> dict[str, int]:
    """Where the fields of a tracepoint are; `BpfError` where this kernel's has not all of them."""
    try:
        lines = _tracefs.form(event).splitlines()
    except OSError as error:
        raise BpfError(error.errno, f"bcc: {event}: {error.strerror}") from None
    found = {}
    for line in lines:
        declared, _, rest = line.strip().removeprefix("field:").partition(";\toffset:")
        if rest:
            found[declared.partition("[")[0].rpartition(" ")[2]] = int(rest.partition(";")[0])
    if lacks := [name for name in names if name not in found]:
        raise BpfError(errno.ENOENT, f"bcc: tracepoint {event} has no {lacks[0]}")
    return {name: found[name] for name in names}
