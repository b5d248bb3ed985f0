"""What a user is told when packets cannot be captured, and the declaration of the backend."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any

import pytest

from kshark.api import BackendSpec, PluginError
from kshark.backends import _netns, _privileges, af_packet
from kshark.backends._netns import label, locate
from kshark.backends._ring import Shape
from kshark.backends.af_packet import AfPacket, AfPacketOptions


def opened(**options: Any) -> str:
    """The complaint about these options, on a machine that has packet sockets."""
    with pytest.raises(PluginError) as caught:
        AfPacket(AfPacketOptions(**options)).open()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_privileges, "missing", lambda: "")


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def socket_(*words: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", socket_)


def test_the_declaration() -> None:
    (spec,) = af_packet.register_backends()
    assert isinstance(spec, BackendSpec)
    assert (spec.name, spec.rank) == ("af_packet", 10)
    assert spec.make(spec.options()).live


def test_without_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EPERM)
    python = os.path.realpath(sys.executable)
    expected = f"needs CAP_NET_RAW: run with sudo, or once: sudo setcap cap_net_raw+ep {python}"
    assert _privileges.missing() == expected
    assert opened() == f"af_packet: {expected}"


def test_without_packet_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EAFNOSUPPORT)
    assert "no packet sockets" in _privileges.missing()


def test_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux, this is darwin" in _privileges.missing()


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fanout": 65_536}, "af_packet: fanout must be between 0 and 65535"),
        ({"snaplen": 10}, "af_packet: snaplen must be between 64 and 1048576"),
        ({"ring_bytes": 1}, "af_packet: ring_bytes must be between 8192 and 4294967296"),
        ({"block_bytes": 1}, "af_packet: block_bytes must be between 4096 and 16777216"),
        ({"bpf": "tcpx"}, "bpf 'tcpx': "),
        ({"netns": ["/nowhere/x"]}, "netns /nowhere/x: there is no /nowhere/x"),
        ({"netns": ["4194305"]}, "netns 4194305: there is no process 4194305"),
        ({"netns": ["no-such"]}, "netns no-such: there is no /run/netns/no-such"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    assert opened(**options).startswith(said)


def test_a_file_that_is_no_namespace(tmp_path: Any) -> None:
    wrong = tmp_path / "x"
    wrong.write_text("")
    with (
        pytest.raises(PluginError, match="is no network namespace: Invalid argument"),
        _netns.inside(str(wrong)),
    ):
        pass


def test_a_namespace_without_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(namespace: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(_netns, "_set", refuse)
    with pytest.raises(PluginError, match="netns self: needs CAP_SYS_ADMIN"), _netns.inside("self"):
        pass


def test_names_of_namespaces() -> None:
    assert locate("/a/b") == "/a/b"
    assert locate("12345678") == "/proc/12345678/ns/net"
    assert locate("self") == "/proc/self/ns/net"
    assert locate("blue") == "/run/netns/blue"
    assert (label("/run/netns/blue"), label("/proc/7/ns/net"), label("7")) == ("blue", "7", "7")


def test_users(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="user no-such-user: there is no such user"):
        _privileges.drop("no-such-user")
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(PluginError, match="user root: only root can become another user"):
        _privileges.drop("root")


@pytest.mark.parametrize(
    ("given", "block", "blocks"),
    [
        (Shape(32 << 20, 1 << 20), 1 << 20, 32),
        (Shape(1, 1), 4096, 2),
        (Shape(100_000, 5000), 8192, 12),
    ],
)
def test_the_shape_of_a_ring(given: Shape, block: int, blocks: int) -> None:
    assert (given.block, given.blocks) == (block, blocks)
