"""The backend ``ebpf`` without a kernel: its options, whose ends are whose, and what is said where it cannot be."""

from __future__ import annotations

import ctypes
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kshark.api import Endpoint, Flow, PluginError
from kshark.backends import _capabilities, _hooks, _libbpf, _owners, _sockets, _tracefs
from kshark.backends._owners import ENDS, HELD, TOLD, Owners
from kshark.backends.ebpf import Ebpf, EbpfOptions
from kshark.limits import PORTS, SOCKET_COMMS, SOCKET_GROUPS, SOCKET_PIDS, SOCKET_SPACES


def ends(local: str, local_port: int, remote: str, remote_port: int, proto: int = 6) -> bytes:
    family, version = (socket.AF_INET6, 6) if ":" in local else (socket.AF_INET, 4)
    raw = [socket.inet_pton(family, one).ljust(16, b"\0") for one in (local, remote)]
    return ENDS.pack(*raw, local_port, remote_port, version, proto, 4_026_531_840)


def told(pid: int, name: bytes, *where: str | int) -> bytes:
    return TOLD.pack(1, 1, pid, pid, ends(*where), name)  # type: ignore[arg-type]


def flow(client: str, server: str, transport: str = "tcp") -> Flow:
    return Flow("x", transport, Endpoint(client, 4000), Endpoint(server, 80))


@pytest.mark.parametrize(("here", "there"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
def test_each_end_gets_its_own_process(here: str, there: str) -> None:
    owners = Owners()
    found = flow(here, there)
    found.client = Endpoint(here, 4000, dns="client.test")
    owners.tell(told(7, b"curl\0n3", here, 4000, there, 80))
    owners.name(found)
    assert (found.client.pid, found.client.comm, found.server.pid) == (7, "curl", None)
    assert found.client.dns == "client.test", "what others found out stays"
    owners.tell(told(8, b"nginx", there, 80, here, 4000))
    owners.name(found)
    assert (found.server.pid, found.server.comm) == (8, "nginx")
    other = flow(here, there, "udp")
    owners.name(other)
    assert other.client.pid is None


def test_whoever_has_a_socket_at_the_start_is_known() -> None:
    owners = Owners()
    listening = HELD.pack(7, 10, 1, ends("0.0.0.0", 80, "0.0.0.0", 0), b"nginx")
    open_one = HELD.pack(7, 1, 2, ends("10.0.0.2", 80, "10.0.0.1", 4000), b"nginx")
    owners.begin(listening + open_one + b"a part")
    found = flow("10.0.0.1", "10.0.0.2")
    owners.name(found)
    assert len(owners) == 1
    assert found.server.comm == "nginx"
    assert found.server.netns == 4_026_531_840


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_owners, "SOCKET_OWNERS", 2)
    owners = Owners()
    for port in (1, 2, 1, 3):
        owners.tell(told(port, b"x", "10.0.0.1", port, "10.0.0.2", 80))
    assert len(owners) == 2
    found = Flow("x", "tcp", Endpoint("10.0.0.1", 2), Endpoint("10.0.0.2", 80))
    owners.name(found)
    assert found.client.pid is None


def test_of_a_session_without_connection_the_process_alone_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_owners, "SOCKET_OWNERS", 1)
    owners = Owners()
    for number in (1, 2):
        owners.unbound(number, ends(f"100::{number}:0:0:1", 0, "100::", 0), b"python3\0")
    first, second = (
        Flow("x", "tcp", Endpoint("100::", 0), Endpoint(f"100::{number}:0:0:1", 0))
        for number in (1, 2)
    )
    for found in (first, second):
        owners.name(found)
        assert found.client == Endpoint("", 0)
    assert first.server == Endpoint("", 0)
    assert second.server == Endpoint("", 0, None, 2, "python3")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ports": [0]}, "ports must be between 1 and 65535"),
        ({"ports": [80] * (PORTS + 1)}, f"at most {PORTS} ports"),
        ({"pids": [1] * (SOCKET_PIDS + 1)}, f"at most {SOCKET_PIDS} pids"),
        ({"comms": ["a"] * (SOCKET_COMMS + 1)}, f"at most {SOCKET_COMMS} comms"),
        ({"netns": ["a"] * (SOCKET_SPACES + 1)}, f"at most {SOCKET_SPACES} netns"),
        ({"cgroups": ["a"] * (SOCKET_GROUPS + 1)}, f"at most {SOCKET_GROUPS} cgroups"),
        ({"payload": 1 << 20}, "payload must be between 0 and 65536"),
        ({"ring_bytes": 1}, "ring_bytes must be between"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        Ebpf(EbpfOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
def no_libbpf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _libbpf._library.cache_clear()

    def refuse(name: str | None, **_: object) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    yield
    _libbpf._library.cache_clear()


def test_without_libbpf_one_line_says_what_to_install(no_libbpf: None) -> None:
    assert "apt-get install libbpf1" in _hooks.missing()
    with pytest.raises(PluginError, match="is not installed"):
        Ebpf(EbpfOptions()).open()


def test_without_its_programs_one_line_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_libbpf, "missing", str)
    monkeypatch.setattr(_hooks, "program", lambda name: tmp_path / name)
    assert "make bpf" in _hooks.missing()


class Refusing:
    """Programs that cannot be loaded."""

    def __call__(self, wanted: object) -> _libbpf.Object:
        raise _libbpf.BpfError(errno.ENOENT, "functions.bpf.o: cannot be attached: No such file")


def test_the_next_way_is_taken_and_the_better_ones_are_excused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = _hooks.Hooks("last", "the last way", lambda wanted: None, print, print)  # type: ignore[arg-type,return-value]
    better = works._replace(name="better", load=Refusing())
    monkeypatch.setattr(_hooks, "absent", lambda name: "")
    monkeypatch.setattr(_hooks, "ALL", (better, works))
    chosen = _hooks.choose(_sockets.Wanted())
    assert str(chosen) == "the last way; not better: cannot be attached: No such file"
    assert _hooks.choose(_sockets.Wanted(), "last").instead == ""
    with pytest.raises(PluginError, match=r"hooks better: functions\.bpf\.o: cannot be attached"):
        _hooks.choose(_sockets.Wanted(), "better")


def test_a_missing_capability_is_named_and_a_verifier_is_no_missing_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_capabilities, "effective", lambda: 1 << _capabilities.NUMBERS["cap_bpf"])
    monkeypatch.setattr(_tracefs, "mounted", lambda: True)
    refused = _libbpf.BpfError(errno.EPERM, "syscalls.bpf.o: cannot be loaded")
    assert "needs CAP_PERFMON" in _sockets.explained(refused)
    told = f"functions.bpf.o: cannot be loaded: EACCES ({_libbpf.VERIFIER}: R1 type=scalar)"
    monkeypatch.setattr(_capabilities, "effective", lambda: -1)
    assert _sockets.explained(_libbpf.BpfError(errno.EACCES, told)) == told
