"""The second loader without a kernel: what it finds, and what it says where it cannot be."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from kshark.api import PluginError
from kshark.backends import _bcc, _bcc_calls, _hooks, _proc_sockets, _tracefs
from kshark.backends._libbpf import BpfError
from kshark.backends._owners import ENDS, TOLD
from kshark.backends._sockets import Wanted

FORM = """name: x
format:
\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:__u16 sport;\toffset:16;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:{dport};\tsize:2;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:30;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:46;\tsize:16;\tsigned:0;
"""


def test_fields_are_where_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tracefs, "form", lambda event: FORM.format(dport=18))
    assert _bcc_calls._places("tcp/x", "skaddr") == {
        "sport": 16,
        "dport": 18,
        "saddr_v6": 30,
        "daddr_v6": 46,
        "skaddr": 8,
    }
    with pytest.raises(BpfError, match="tracepoint tcp/x has no protocol"):
        _bcc.fields("tcp/x", ["protocol"])


def test_other_fields_than_are_known_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tracefs, "form", lambda event: FORM.format(dport=20))
    with pytest.raises(BpfError, match="has other fields than are known"):
        _bcc_calls._places("tcp/x")


def test_the_first_error_is_the_one_that_is_told() -> None:
    told = "a.c:1: warning: x\na.c:2:1: error: no such thing\na.c:3: error: another\n"
    assert _bcc._last(told, Exception("Failed")) == "a.c:2:1: error: no such thing"
    refused = "1: (b7) r0 = 0\nR1 invalid\nprocessed 7 insns (limit 1000000)\n"
    assert _bcc._last(refused, Exception("Failed")).endswith("refuses it: R1 invalid")
    assert _bcc._last("", Exception("Failed")) == "Failed"


@pytest.mark.parametrize("wanted", [Wanted(netns=["x"]), Wanted(cgroups=["/x"])])
def test_what_only_structures_tell_cannot_be_asked_for(wanted: Wanted) -> None:
    with pytest.raises(PluginError, match="use ports, pids or comms"):
        _bcc_calls.load(wanted)


def test_bcc_is_the_way_where_there_is_no_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hooks, "absent", lambda name: "")
    monkeypatch.setattr(_hooks, "no_btf", lambda: "this kernel has no BTF")
    works = _hooks.Hooks("bcc", "compiled", lambda wanted: None, print, print)  # type: ignore[arg-type,return-value]
    better = works._replace(name="fentry")
    monkeypatch.setattr(_hooks, "ALL", (better, works))
    assert str(_hooks.choose(Wanted())) == "compiled; not by libbpf: this kernel has no BTF"
    monkeypatch.setattr(_hooks, "no_btf", str)
    assert _hooks.choose(Wanted()).hooks is better


def test_a_package_of_that_name_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of PyPI is about crystals."""
    monkeypatch.setitem(sys.modules, "bcc", type(sys)("bcc"))
    monkeypatch.setattr(_bcc, "PLACES", ("/nonexistent",))
    monkeypatch.setattr(sys, "path", [])
    assert _bcc.missing() == _bcc.HINT


def test_our_own_connections_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as taken:
            mine = {held.fd: held for held in _proc_sockets.held() if held.pid == os.getpid()}
            assert mine[server.fileno()].listens
            here, there = mine[client.fileno()], mine[taken.fileno()]
            for held, ports in (
                (here, (client.getsockname()[1], port)),
                (there, (port, client.getsockname()[1])),
            ):
                local, remote, *rest = ENDS.unpack(held.ends)
                assert (local, remote) == (b"\x7f\0\0\1".ljust(16, b"\0"),) * 2
                assert tuple(rest) == (*ports, 4, 6, 0)
                assert not held.listens


def test_addresses_of_ipv4_on_a_socket_of_ipv6_are_told_as_such() -> None:
    raw = _proc_sockets.ends(
        "0000000000000000FFFF00000100007F:0050", "0000000000000000FFFF00000200000A:1F90"
    )
    local, remote, *rest = ENDS.unpack(raw)
    assert (local[:4], remote[:4]) == (b"\x7f\0\0\1", b"\x0a\0\0\2")
    assert rest == [80, 8080, 4, 6, 0]


def test_a_link_is_as_the_program_has_it() -> None:
    assert _bcc_calls.LINK.size == ENDS.size + 4
    assert TOLD.size == 8 + 8 + 4 + 4 + ENDS.size + 16
