"""Calls that move bytes, hooked by the programs of bpf/bcc: set up as the user wants them, and attached.

They know no structure of the kernel. So what only structures tell cannot be asked for (`REFUSED`), and the connections
that are open already are told to them, as ``/proc`` has them.
"""

from __future__ import annotations

import os
import sys
from struct import Struct
from typing import Final

from kshark.api import PluginError
from kshark.backends import _bcc, _proc_sockets
from kshark.backends._bcc import Compiled
from kshark.backends._libbpf import BpfError
from kshark.backends._owners import HELD
from kshark.backends._sockets import COMM, Wanted, set_limits

REFUSED: Final = (
    "netns and cgroups cannot be asked for with hooks=bcc, which knows no structures of the kernel: "
    "use ports, pids or comms"
)
ADJUST, STATE = "tcp/tcp_rcv_space_adjust", "sock/inet_sock_set_state"
ENDS: Final = ("sport", "dport", "saddr_v6", "daddr_v6")
EVENTS: Final = {
    "on_adjust": ADJUST,
    "on_state": STATE,
    "on_exec": "sched/sched_process_exec",
    "on_exit": "sched/sched_process_exit",
}
LEFT: Final = "leave"
"""The program at the end of every system call."""
SILENT: Final = ("close", "close_range")
"""Calls whose end says nothing."""
LINK: Final = Struct("=44sI")
"""struct link of bpf/bcc/maps.c: ends, and the turn of the process."""


def load(wanted: Wanted) -> Compiled:
    """The programs, compiled and loaded."""
    if wanted.netns or wanted.cgroups:
        raise PluginError(f"ebpf: {REFUSED}")
    found = Compiled(_defined(wanted), 1 << (wanted.ring_bytes - 1).bit_length())
    try:
        for name, width, values in (("ports", 2, wanted.ports), ("pids", 4, wanted.pids)):
            for value in values:
                found.map(name).put(value.to_bytes(width, sys.byteorder), b"\1")
        for comm in wanted.comms:
            found.map("comms").put(comm.encode()[: COMM - 1].ljust(COMM, b"\0"), b"\1")
        set_limits(found, wanted.payload, 1)
    except BaseException:
        found.close()
        raise
    return found


def _defined(wanted: Wanted) -> dict[str, int]:
    adjust, state = _places(ADJUST), _places(STATE, "skaddr", "oldstate", "newstate", "protocol")
    return {
        "OWN_PID": os.getpid(),
        "BY_PORT": int(bool(wanted.ports)),
        "BY_PID": int(bool(wanted.pids)),
        "BY_COMM": int(bool(wanted.comms)),
        "CPUS": _bcc.possible_cpus(),
        "ADJUST_PORTS": adjust["sport"],
        "ADJUST_ADDRESSES": adjust["saddr_v6"],
        "STATE_PORTS": state["sport"],
        "STATE_ADDRESSES": state["saddr_v6"],
        "STATE_SOCK": state["skaddr"],
        "STATE_STATES": state["oldstate"],
        "STATE_PROTO": state["protocol"],
    }


def _places(event: str, *more: str) -> dict[str, int]:
    """Where the fields of a tracepoint are, of which the programs take some together."""
    found = _bcc.fields(event, (*ENDS, *more))
    after = {"dport": ("sport", 2), "daddr_v6": ("saddr_v6", 16), "newstate": ("oldstate", 4)}
    for name, (before, size) in after.items():
        if name in found and found[name] != found[before] + size:
            raise BpfError(0, f"bcc: tracepoint {event} has other fields than are known")
    return found


def attach(programs: Compiled) -> None:
    """To all that the kernel has; the ends of calls first, or a call would be remembered in vain."""
    calls = [name.removeprefix("enter_") for name in programs.loaded if name.startswith("enter_")]
    for name in calls:
        if name not in SILENT:
            programs.attach_tracepoint(LEFT, f"syscalls/sys_exit_{name}")
    for program, event in EVENTS.items():
        programs.attach_tracepoint(program, event)
    for name in calls:
        programs.attach_tracepoint(f"enter_{name}", f"syscalls/sys_enter_{name}")


def trial(programs: Compiled) -> None:
    """Attach one, which fails where attaching all of them would."""
    programs.attach_tracepoint("enter_splice", "syscalls/sys_enter_splice")


def sockets(programs: Compiled) -> bytes:
    """Tell the programs which connections there are; gives them as records for `Owners.begin`, too."""
    records = []
    links = programs.map("links")
    for held in _proc_sockets.held():
        if not held.listens:
            where = held.pid.to_bytes(4, sys.byteorder) + held.fd.to_bytes(4, sys.byteorder)
            links.put(where, LINK.pack(held.ends, 0))
        records.append(HELD.pack(held.pid, 0, 0, held.ends, held.comm.encode()[:COMM]))
    return b"".join(records)
