"""Where the calls that move bytes through sockets are hooked: four ways, best first, and which one works here.

That is found out by trying, never by a version or a configuration: kernels refuse what their configuration promises.
They tell the same records, by the same steps (bpf/message.h). Where the kernel has no BTF none of them can be loaded;
then there is a fifth, which is compiled on the spot (bpf/bcc).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

from kshark.api import PluginError
from kshark.backends import _bcc, _bcc_calls, _cgroups, _libbpf
from kshark.backends._bcc import Compiled
from kshark.backends._libbpf import BpfError, Object
from kshark.backends._sockets import Wanted, explained, load, open_sockets
from kshark.backends._tcx import attached
from kshark.bpf import MISSING, program

FUNCTIONS: Final = (
    *("tcp_sendmsg", "tcp_recvmsg", "udp_sendmsg", "udp_recvmsg"),
    *("udpv6_sendmsg", "udpv6_recvmsg", "tcp_sendpage", "tcp_splice_read"),
)
"""The kernel's functions that bpf/functions.bpf.c hooks, as far as the running one has them."""
NEEDED: Final = FUNCTIONS[:4]
"""Without these no call would be seen."""
OLD_TAKES: Final = 6
"""Arguments of tcp_recvmsg before Linux 5.19: the flags are the fifth, later the fourth."""
RETURNED: Final = "kretprobe"
"""The program at the end of every function."""
LEFT: Final = "leave"
"""The program at the end of every system call."""
MOVES: Final = ("sock_send_length", "sock_recv_length")
"""The kernel's tracepoints where a socket has moved bytes."""
MOVED: Final = ("on_sent", "on_taken")
"""The programs there."""
SOURCES: Final = ("asks_source4", "asks_source6")
"""The programs that hear from whom a datagram is."""

BEGINNINGS: Final = ("fentry_", "kprobe_", "enter_", *MOVED)
"""How the programs are called that must not be missed once. An end that is missed is counted in the kernel; of states,
one program tells what the other missed."""
SOCKET, TRACEPOINT, BCC = "socket", "tracepoint", "bcc"
"""The last: the way that is taken where no other can be, and where it is asked for by name."""

Names = Literal["auto", "fentry", "kprobe", "socket", "tracepoint", "bcc"]
Programs = Object | Compiled


class Hooks(NamedTuple):
    """One way."""

    name: str
    says: str
    load: Callable[[Wanted], Programs]
    attach: Callable[[Any], None]
    trial: Callable[[Any], object]
    """Attach one program, which fails where attaching all of them would."""
    sockets: Callable[[Any], bytes] = lambda programs: open_sockets()
    """Who has which socket at this moment: records for `Owners.begin`."""

    @property
    def at_calls(self) -> bool:
        """Whether what needs no system call (io_uring) is not seen."""
        return self.name in (SOCKET, TRACEPOINT, BCC)


class Chosen(NamedTuple):
    """The programs, attached, and how; `instead` is why not in a better way, "" where there is none."""

    hooks: Hooks
    programs: Programs
    instead: str

    @property
    def by_libbpf(self) -> Object | None:
        """The programs, where others can be loaded to share their maps."""
        return self.programs if isinstance(self.programs, Object) else None

    def __str__(self) -> str:
        return f"{self.hooks.says}; {self.instead}" if self.instead else self.hooks.says


# ---------------------------------------------------------------- functions of the kernel


def _functions(wanted: Wanted, prefixes: Iterable[str], also: Iterable[str] = ()) -> Object:
    has = _libbpf.functions(FUNCTIONS)
    for name in NEEDED:
        if name not in has:
            raise BpfError(0, f"this kernel has no {name}")
    only = {f"{prefix}_{function}" for prefix in prefixes for function in has}
    only |= {"on_state", "on_state_missed", "on_receive", "on_send", "on_exit", *also}
    old = int(has["tcp_recvmsg"] >= OLD_TAKES)
    return load(wanted, "functions", only, old_takes=old)


def _attach(programs: Object, *prefixes: str) -> None:
    """In the order of the prefixes."""
    for prefix in prefixes:
        for name in programs.loaded:
            if name.startswith(prefix):
                programs.attach(name)


def _attach_fentry(programs: Object) -> None:
    # The ends of calls first: a call of which only the beginning is seen would be remembered in vain.
    _attach(programs, "fexit_", "fentry_", "on_")


def _attach_kprobe(programs: Object) -> None:
    for name in programs.loaded:
        if name.startswith("kprobe_"):
            programs.attach_function(RETURNED, name.removeprefix("kprobe_"), end=True)
    _attach(programs, "kprobe_", "on_")


# ---------------------------------------------------------------- sockets


def _sockets(wanted: Wanted) -> Object:
    if not _libbpf.has_tracepoints(MOVES):
        raise BpfError(0, "this kernel has no sock_send_length (Linux 6.3)")
    return load(wanted, "moving", None)


def _attach_sources(programs: Object) -> None:
    # Who sent a datagram is told to control groups; of every process's only to the group of all.
    with _cgroups.whole() as descriptor:
        for name in SOURCES:
            programs.attach_cgroup(name, descriptor)


def mend(programs: Programs) -> str:
    """Attach again what somebody has detached; what to say of it, "" where all is well."""
    if not isinstance(programs, Object) or all(map(attached, programs.at_cgroups)):
        return ""
    for link in list(programs.at_cgroups):
        programs.unlink(link)
    try:
        _attach_sources(programs)
    except BpfError as error:
        return f"programs were detached: {error.strerror}: datagrams are unaddressed"
    return "programs were detached: they are attached again"


def _attach_socket(programs: Object) -> None:
    _attach_sources(programs)
    _attach(programs, "on_")


# ---------------------------------------------------------------- system calls


def _attach_tracepoint(programs: Object) -> None:
    for name in programs.loaded:
        if name.startswith("enter_"):
            event = f"syscalls/sys_exit_{name.removeprefix('enter_')}"
            programs.attach_tracepoint(LEFT, event)
    _attach(programs, "enter_", "on_")


ALL: Final = (
    Hooks(
        "fentry",
        "functions of the kernel (fentry)",
        lambda wanted: _functions(wanted, ("fentry", "fexit")),
        _attach_fentry,
        lambda programs: programs.attach("fexit_tcp_sendmsg"),
    ),
    Hooks(
        "kprobe",
        "functions of the kernel (kprobe)",
        lambda wanted: _functions(wanted, ("kprobe",), (RETURNED,)),
        _attach_kprobe,
        lambda programs: programs.attach_function(RETURNED, "tcp_sendmsg", end=True),
    ),
    Hooks(
        SOCKET,
        "sockets (tracepoint)",
        _sockets,
        _attach_socket,
        _attach_sources,
    ),
    Hooks(
        TRACEPOINT,
        "system calls (tracepoint)",
        lambda wanted: load(wanted, "syscalls", None),
        _attach_tracepoint,
        lambda programs: programs.attach("enter_splice"),
    ),
    Hooks(
        BCC,
        "system calls (tracepoint), compiled by bcc without structures of the kernel",
        _bcc_calls.load,
        _bcc_calls.attach,
        _bcc_calls.trial,
        _bcc_calls.sockets,
    ),
)
"""Best first: what costs least and sees most."""


def choose(wanted: Wanted, name: str = "auto", *, trial: bool = False) -> Chosen:
    """The best way that works, or the one called `name`; `PluginError` where none does."""
    if why := absent(name):
        raise PluginError(f"ebpf: {why}")
    refused: list[str] = []
    if name == "auto" and (lacks := no_btf()):
        name, refused = BCC, [f"not by libbpf: {lacks}"]
    for hooks in ALL:
        if name != hooks.name and (name != "auto" or hooks.name == BCC):
            continue
        try:
            programs = _started(hooks, wanted, trial)
        except BpfError as error:
            refused.append(f"not {hooks.name}: {_short(error)}")
            last = error
            continue
        return Chosen(hooks, programs, ", ".join(refused))
    forced = "" if name == "auto" else f"hooks {name}: "
    raise PluginError(f"ebpf: {forced}{explained(last)}")


def misses(programs: Programs) -> int:
    """Beginnings of calls that the kernel told nobody of, since it ran the same program for another task there."""
    if not isinstance(programs, Object):
        return 0
    return sum(map(programs.misses, filter(lambda n: n.startswith(BEGINNINGS), programs.loaded)))


def _started(hooks: Hooks, wanted: Wanted, trial: bool) -> Programs:
    programs = hooks.load(wanted)
    try:
        if trial:
            hooks.trial(programs)
        else:
            hooks.attach(programs)
    except BaseException:
        programs.close()
        raise
    return programs


def _short(error: BpfError) -> str:
    """Why, without the name of the object and the words of the verifier."""
    return str(error.strerror).removeprefix("functions.bpf.o: ").partition(" (")[0]


def no_btf() -> str:
    """Why programs that were built once cannot be loaded here; "" where they can."""
    try:
        _libbpf.functions(())
    except BpfError as error:
        return str(error.strerror)
    return ""


def absent(name: str = "auto") -> str:
    """What is not installed for the way called `name`, and what to do; "" where all is."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}: read a capture file instead (--read FILE)"
    if name == BCC:
        return _bcc.missing()
    if why := _libbpf.missing():
        return why
    if not program("syscalls").exists() or not program("functions").exists():
        return MISSING
    if (lacks := no_btf()) and (why := _bcc.missing()):
        return f"{lacks}; programs could be compiled here instead, but {why}"
    return ""


def missing() -> str:
    """Why no way works here, and what to do; "" where one does: it is tried, for a moment."""
    if why := absent():
        return why
    last = ""
    without = bool(no_btf())
    for hooks in reversed(ALL):  # the one that works oftenest first
        if (hooks.name == BCC) != without:
            continue
        try:
            _started(hooks, Wanted(), trial=True).close()
        except BpfError as error:
            last = last or explained(error)
            continue
        return ""
    return last


def how() -> str:
    """In which way calls would be hooked here."""
    chosen = choose(Wanted(), trial=True)
    chosen.programs.close()
    return f"hooks: {chosen}"
