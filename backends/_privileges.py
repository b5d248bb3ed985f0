"""What capturing needs, and giving it up once the sockets are open."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from typing import Final

from kshark.api import PluginError

PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITY_VERSION_3: Final = 0x2008_0522


def missing() -> str:
    """Why packet sockets cannot be had here, and what to do; "" where they can."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}: read a capture file instead (--read FILE)"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        python = os.path.realpath(sys.executable)
        return f"needs CAP_NET_RAW: run with sudo, or once: sudo setcap cap_net_raw+ep {python}"
    except OSError as error:
        return f"this kernel or container has no packet sockets: {error.strerror}"
    return ""


def drop(user: str) -> None:
    """Become `user` (a name or a number) for good: its group, no other groups, no capabilities."""
    uid, gid = _account(user)
    try:
        if os.geteuid() != uid:
            _become(user, uid, gid)
    except OSError as error:
        raise PluginError(f"user {user}: cannot become it: {error.strerror}") from None
    _disarm()


def _become(user: str, uid: int, gid: int) -> None:
    if os.geteuid() != 0:
        raise PluginError(f"user {user}: only root can become another user: run with sudo")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _disarm() -> None:
    """No capabilities (a setcap'd interpreter has them without being root), and no way to new ones."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise PluginError(f"cannot drop capabilities: {os.strerror(ctypes.get_errno())}")


def _account(user: str) -> tuple[int, int]:
    import pwd

    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise PluginError(f"user {user}: there is no such user on this machine") from None
    return found.pw_uid, found.pw_gid
