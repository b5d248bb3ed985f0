"""Programs for the kernel, by libbpf >= 1.0 (ctypes): open an object, set it up, load, attach.

Only what the backends use is declared. Where libbpf is not installed, `missing` says so in one line and all
else raises `BpfError`. Everything that is attached goes with its descriptors: at `Object.close`, and at the
latest when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

from kshark.backends import _tracefs
from kshark.limits import BPF_LOG_LINES

NAME: Final = "libbpf.so.1"
HINT: Final = "libbpf 1.0 or newer is not installed: apt-get install libbpf1, or dnf install libbpf"
KIND_TYPEDEF, KIND_FUNC, KIND_DATASEC = 8, 12, 15  # BTF_KIND_*
VERIFIER: Final = "the verifier of this kernel refuses it"
"""A program, that is, and not whoever loads it: no capability helps."""
ANY: Final = 0  # BPF_ANY: an element of a map, new or not
MISSES: Final = 208
"""Where `recursion_misses` (u64) stands in struct bpf_prog_info."""

_FUNCTIONS: Final[tuple[tuple[str, Any, tuple[Any, ...]], ...]] = (
    ("libbpf_set_print", c_void_p, (c_void_p,)),
    ("libbpf_num_possible_cpus", c_int, ()),
    ("bpf_object__open_file", c_void_p, (c_char_p, c_void_p)),
    ("bpf_object__load", c_int, (c_void_p,)),
    ("bpf_object__close", None, (c_void_p,)),
    ("bpf_object__btf", c_void_p, (c_void_p,)),
    ("bpf_object__next_program", c_void_p, (c_void_p, c_void_p)),
    ("bpf_object__next_map", c_void_p, (c_void_p, c_void_p)),
    ("bpf_object__find_map_by_name", c_void_p, (c_void_p, c_char_p)),
    ("bpf_program__name", c_char_p, (c_void_p,)),
    ("bpf_program__section_name", c_char_p, (c_void_p,)),
    ("bpf_program__fd", c_int, (c_void_p,)),
    ("bpf_program__set_autoload", c_int, (c_void_p, c_bool)),
    ("bpf_program__attach", c_void_p, (c_void_p,)),
    ("bpf_program__attach_tracepoint", c_void_p, (c_void_p, c_char_p, c_char_p)),
    ("bpf_program__attach_perf_event", c_void_p, (c_void_p, c_int)),
    ("bpf_program__attach_kprobe", c_void_p, (c_void_p, c_bool, c_char_p)),
    ("bpf_program__attach_cgroup", c_void_p, (c_void_p, c_int)),
    ("bpf_program__attach_uprobe_opts", c_void_p, (c_void_p, c_int, c_char_p, c_size_t, c_void_p)),
    ("bpf_program__attach_iter", c_void_p, (c_void_p, c_void_p)),
    ("bpf_link__destroy", c_int, (c_void_p,)),
    ("bpf_link__fd", c_int, (c_void_p,)),
    ("bpf_iter_create", c_int, (c_int,)),
    ("bpf_map__fd", c_int, (c_void_p,)),
    ("bpf_map__name", c_char_p, (c_void_p,)),
    ("bpf_map__key_size", c_uint32, (c_void_p,)),
    ("bpf_map__value_size", c_uint32, (c_void_p,)),
    ("bpf_map__max_entries", c_uint32, (c_void_p,)),
    ("bpf_map__set_max_entries", c_int, (c_void_p, c_uint32)),
    ("bpf_map__initial_value", c_void_p, (c_void_p, POINTER(c_size_t))),
    ("bpf_map__reuse_fd", c_int, (c_void_p, c_int)),
    ("bpf_map_lookup_elem", c_int, (c_int, c_void_p, c_void_p)),
    ("bpf_map_update_elem", c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    ("bpf_map_delete_elem", c_int, (c_int, c_void_p)),
    ("bpf_obj_get_info_by_fd", c_int, (c_int, c_void_p, POINTER(c_uint32))),
    ("btf__load_vmlinux_btf", c_void_p, ()),
    ("btf__free", None, (c_void_p,)),
    ("btf__find_by_name_kind", c_int, (c_void_p, c_char_p, c_uint32)),
    ("btf__type_by_id", c_void_p, (c_void_p, c_uint32)),
    ("btf__name_by_offset", c_char_p, (c_void_p, c_uint32)),
)
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)


KERNELS_OWN: Final = {524: "this kernel does not support it"}
"""What the C library has no name for: ENOTSUPP (linux/errno.h)."""


class BpfError(OSError):
    """libbpf or the kernel refused; ``errno`` says why, ``strerror`` says what in one line."""


class _Log:
    """The last lines that libbpf wrote as warnings: what the verifier said, which structure is missing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._libc = ctypes.CDLL(None)
        self.callback = _PRINT(self._take)

    def _take(self, level: int, form: int, arguments: int) -> int:
        if level == 0:
            room = ctypes.create_string_buffer(1 << 20)  # a verifier's log is one line to libbpf
            self._libc.vsnprintf(room, len(room), c_void_p(form), c_void_p(arguments))
            self.lines += room.value.decode(errors="replace").splitlines()
            del self.lines[:-BPF_LOG_LINES]
        return 0

    def last(self) -> str:
        """The line that says most: the verifier's last word, or libbpf's first."""
        for number, line in enumerate(self.lines):
            if line.startswith("processed ") and " insns " in line:
                return f"{VERIFIER}: {self.lines[number - 1]}"
        told = [line.removeprefix("libbpf: ") for line in self.lines if line.startswith("libbpf: ")]
        return told[0] if told else ""


class _Library:
    """libbpf, with typed functions."""

    def __init__(self) -> None:
        self.log = _Log()
        self._loaded = ctypes.CDLL(NAME, use_errno=True)
        for name, result, arguments in _FUNCTIONS:
            function = getattr(self._loaded, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.libbpf_set_print(ctypes.cast(self.log.callback, c_void_p))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@cache
def _library() -> _Library:
    try:
        return _Library()
    except (OSError, AttributeError):
        raise BpfError(errno.ENOPKG, HINT) from None


def missing() -> str:
    """Why libbpf cannot be used, and what to do; "" where it can."""
    try:
        _library()
    except BpfError as error:
        return str(error.strerror)
    return ""


def cpus() -> int:
    """Processors that there may be: the values of a per-processor map."""
    return int(_library().libbpf_num_possible_cpus())


def functions(names: Iterable[str]) -> dict[str, int]:
    """Those of the kernel's own functions that it has, each with the number of its arguments."""
    lib, found = _library(), {}
    with _btf() as btf:
        for name in names:
            number = lib.btf__find_by_name_kind(btf, name.encode(), KIND_FUNC)
            if number > 0:
                prototype = _words(lib.btf__type_by_id(btf, number))[2]
                found[name] = _words(lib.btf__type_by_id(btf, prototype))[1] & 0xFFFF
    return found


def has_tracepoints(names: Iterable[str]) -> bool:
    """Whether the kernel has all these tracepoints, for programs that take their arguments as they are."""
    with _btf() as btf:
        find = _library().btf__find_by_name_kind
        return all(find(btf, f"btf_trace_{name}".encode(), KIND_TYPEDEF) > 0 for name in names)


@contextlib.contextmanager
def _btf() -> Iterator[int]:
    """The types of the running kernel."""
    lib = _library()
    btf = lib.btf__load_vmlinux_btf()
    if not btf:
        raise BpfError(ctypes.get_errno(), "this kernel has no BTF (/sys/kernel/btf/vmlinux)")
    try:
        yield btf
    finally:
        lib.btf__free(btf)


def _words(address: int) -> Any:
    """A ``struct btf_type``: name, kind and count, size or type; then what belongs to it."""
    return ctypes.cast(address, POINTER(c_uint32))


class UprobeOptions(ctypes.Structure):
    """struct bpf_uprobe_opts"""

    _fields_ = (
        ("size", c_size_t),
        ("counter", c_size_t),
        ("cookie", c_uint64),
        ("returns", c_bool),
        ("name", c_char_p),
    )


class Map:
    """A map of a loaded object; keys and values are bytes."""

    def __init__(self, pointer: int) -> None:
        lib = _library()
        self._pointer = pointer
        self.name: str = lib.bpf_map__name(pointer).decode()
        self.key_size: int = lib.bpf_map__key_size(pointer)
        self.value_size: int = lib.bpf_map__value_size(pointer)

    @property
    def fd(self) -> int:
        return int(_library().bpf_map__fd(self._pointer))

    @property
    def size(self) -> int:
        """Elements that it holds at most; of a ring buffer its bytes."""
        return int(_library().bpf_map__max_entries(self._pointer))

    def get(self, key: bytes, copies: int = 1) -> bytes | None:
        """The value at `key`, if there is one; all `copies` of a per-processor map, each in whole 8 bytes."""
        room = ctypes.create_string_buffer(-(-self.value_size // 8) * 8 * copies)
        if _library().bpf_map_lookup_elem(self.fd, key, room):
            return None
        return room.raw if copies > 1 else room.raw[: self.value_size]

    def put(self, key: bytes, value: bytes) -> None:
        if _library().bpf_map_update_elem(self.fd, key, value, ANY):
            code = ctypes.get_errno()
            raise BpfError(code, f"map {self.name}: {os.strerror(code)}")

    def drop(self, key: bytes) -> None:
        _library().bpf_map_delete_elem(self.fd, key)

    def counters(self, count: int) -> list[int]:
        """Of a per-processor array of u64: the first `count` elements, each summed over the processors."""
        found, width = [], cpus()
        for number in range(count):
            raw = self.get(number.to_bytes(4, "little"), max(width, 2))
            found.append(sum(memoryview(raw)[: 8 * width].cast("Q")) if raw else 0)
        return found


class Object:
    """The programs and maps of one ``.bpf.o``.

    ``only``: the programs to load (all if None); ``without``: how those begin that are not. ``constants``:
    values of its ``const volatile`` variables, by name. ``sizes``: elements of its maps (bytes of a ring
    buffer), by name. ``share``: maps of another object to use instead of its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        only: Collection[str] | None = None,
        without: str = "",
        constants: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        share: Collection[Map] = (),
    ) -> None:
        lib = self._lib = _library()
        self._links: dict[int, int] = {}
        self.at_cgroups: set[int] = set()
        """Those of the links that anybody may detach."""
        self._name = path.name
        lib.log.lines.clear()
        self._pointer = lib.bpf_object__open_file(os.fsencode(path), None)
        if not self._pointer:
            raise self._error("cannot be opened")
        try:
            self._programs = {lib.bpf_program__name(p).decode(): p for p in self._each("program")}
            for name, pointer in self._programs.items():
                left = without and name.startswith(without)
                lib.bpf_program__set_autoload(pointer, not left and (only is None or name in only))
            for name, size in sizes.items():
                lib.bpf_map__set_max_entries(self._map(name), size)
            for other in share:
                if lib.bpf_map__reuse_fd(self._map(other.name), other.fd):
                    raise self._error(f"map {other.name} cannot be shared")
            if constants:
                self._set(constants)
        except BaseException:
            self.close()
            raise

    def load(self) -> None:
        """Bring maps and programs into the kernel; `BpfError` where it refuses one."""
        # The verifier gives up for any signal, and a timer's may come oftener than it takes.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            refused = self._lib.bpf_object__load(self._pointer)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if refused:
            raise self._error("cannot be loaded")

    @property
    def programs(self) -> list[str]:
        return list(self._programs)

    @property
    def loaded(self) -> list[str]:
        """Those of them that are in the kernel."""
        return [name for name in self._programs if self.fd(name) >= 0]

    def section(self, program: str) -> str:
        """Where a program is to be attached: ``tp/syscalls/sys_enter_read``."""
        return str(self._lib.bpf_program__section_name(self._programs[program]).decode())

    def fd(self, program: str) -> int:
        return int(self._lib.bpf_program__fd(self._programs[program]))

    def misses(self, program: str) -> int:
        """How often the kernel did not run a program, since the processor was within it already."""
        room = ctypes.create_string_buffer(MISSES + 8)
        size = c_uint32(len(room))
        if self._lib.bpf_obj_get_info_by_fd(self.fd(program), room, ctypes.byref(size)):
            return 0
        return int.from_bytes(room.raw[MISSES:], "little")

    def map(self, name: str) -> Map:
        return Map(self._map(name))

    def attach(self, program: str) -> int:
        """Attach a program where its section says; gives the descriptor of the link."""
        kind, _, event = self.section(program).partition("/")
        if kind == "tp":
            return self.attach_tracepoint(program, event)
        return self._linked(program, self._lib.bpf_program__attach(self._programs[program]))

    def attach_tracepoint(self, program: str, event: str) -> int:
        """Attach a program to ``syscalls/sys_exit_read``; one may be attached to many."""
        if not _tracefs.mounted():
            return self._own_tracepoint(program, event)
        group, _, name = event.partition("/")
        pointer = self._lib.bpf_program__attach_tracepoint(
            self._programs[program], group.encode(), name.encode()
        )
        return self._linked(program, pointer)

    def attach_function(self, program: str, function: str, *, end: bool) -> int:
        """Attach a kprobe or, at its `end`, a kretprobe to a function of the kernel."""
        pointer = self._lib.bpf_program__attach_kprobe(
            self._programs[program], end, function.encode()
        )
        return self._linked(program, pointer)

    def attach_cgroup(self, program: str, cgroup: int) -> int:
        """Attach a program to the cgroup that a descriptor is of."""
        pointer = self._programs[program]
        link = self._linked(program, self._lib.bpf_program__attach_cgroup(pointer, cgroup))
        self.at_cgroups.add(link)
        return link

    def attach_uprobe(
        self, program: str, path: str, offset: int, pid: int = -1, cookie: int = 0
    ) -> int:
        """Attach a program to the code at `offset` in a file, for all processes or one.

        `cookie` is what bpf_get_attach_cookie() then says.
        """
        options = UprobeOptions(
            cookie=cookie, returns=self.section(program).startswith("uretprobe")
        )
        options.size = ctypes.sizeof(options)
        pointer = self._lib.bpf_program__attach_uprobe_opts(
            self._programs[program], pid, os.fsencode(path), offset, ctypes.byref(options)
        )
        return self._linked(program, pointer)

    def unlink(self, descriptor: int) -> None:
        """Detach what one of the above attached, and gave the descriptor of."""
        self.at_cgroups.discard(descriptor)
        if link := self._links.pop(descriptor, 0):
            self._lib.bpf_link__destroy(link)

    def iterate(self, program: str) -> bytes:
        """Run an iterator to its end: all that it wrote."""
        link = self._linked(
            program, self._lib.bpf_program__attach_iter(self._programs[program], None)
        )
        descriptor = self._lib.bpf_iter_create(link)
        if descriptor < 0:
            raise self._error(f"{program} cannot be run")
        with os.fdopen(descriptor, "rb", buffering=0) as reader:
            return reader.readall() or b""

    def detach(self) -> None:
        """Detach everything; what is loaded stays."""
        links, self._links = self._links, {}
        for link in links.values():
            self._lib.bpf_link__destroy(link)

    def close(self) -> None:
        """Detach and unload everything."""
        self.detach()
        pointer, self._pointer = self._pointer, None
        if pointer:
            self._lib.bpf_object__close(pointer)

    def _own_tracepoint(self, program: str, event: str) -> int:
        """Without a mounted tracefs, where libbpf looks for the number of an event."""
        try:
            descriptor = _tracefs.opened(event)
        except OSError as error:
            raise BpfError(error.errno, f"{program}: {error.strerror}") from None
        # The link owns the descriptor from here on.
        pointer = self._lib.bpf_program__attach_perf_event(self._programs[program], descriptor)
        if not pointer:
            os.close(descriptor)
        return self._linked(program, pointer)

    def _linked(self, program: str, link: int | None) -> int:
        if not link:
            raise self._error(f"{program} cannot be attached")
        descriptor = int(self._lib.bpf_link__fd(link))
        self._links[descriptor] = link
        return descriptor

    def _each(self, kind: str) -> Iterator[int]:
        step = getattr(self._lib, f"bpf_object__next_{kind}")
        found = step(self._pointer, None)
        while found:
            yield found
            found = step(self._pointer, found)

    def _map(self, name: str) -> int:
        found = self._lib.bpf_object__find_map_by_name(self._pointer, name.encode())
        if not found:
            raise BpfError(errno.ENOENT, f"{self._name} has no map {name}")
        return int(found)

    def _set(self, constants: Mapping[str, int]) -> None:
        """Write read-only variables, before they are loaded."""
        places = self._variables()
        size = c_size_t()
        for pointer in self._each("map"):
            if self._lib.bpf_map__name(pointer).endswith(b".rodata"):
                start = self._lib.bpf_map__initial_value(pointer, ctypes.byref(size))
                for name, value in constants.items():
                    if name not in places:
                        raise BpfError(errno.ENOENT, f"{self._name} has no constant {name}")
                    offset, width = places[name]
                    raw = value.to_bytes(width, "little")
                    ctypes.memmove(start + offset, raw, width)
                return
        raise BpfError(errno.ENOENT, f"{self._name} has no constants")

    def _variables(self) -> dict[str, tuple[int, int]]:
        """Offset and size of each read-only variable: a BTF_KIND_DATASEC lists them."""
        lib = self._lib
        btf = lib.bpf_object__btf(self._pointer)
        section = lib.btf__find_by_name_kind(btf, b".rodata", KIND_DATASEC) if btf else -1
        if section < 0:
            return {}
        words = _words(lib.btf__type_by_id(btf, section))  # three more a variable
        found = {}
        for number in range(words[1] & 0xFFFF):
            kind, offset, size = words[3 + 3 * number : 6 + 3 * number]
            variable = _words(lib.btf__type_by_id(btf, kind))
            found[lib.btf__name_by_offset(btf, variable[0]).decode()] = (offset, size)
        return found

    def _error(self, what: str) -> BpfError:
        code = ctypes.get_errno()
        said = self._lib.log.last()
        self._lib.log.lines.clear()
        why = KERNELS_OWN.get(code) or os.strerror(code)
        if said:
            why += f" ({said})"
        return BpfError(code, f"{self._name}: {what}: {why}")
