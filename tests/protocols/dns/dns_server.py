"""A real server on loopback (dnsmasq), and a relay of datagrams and streams that records what passes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kshark.api import Side

LINES = """
no-resolv
no-hosts
log-facility=-
user=root
local=/test/
address=/www.test/192.0.2.10
address=/www.test/2001:db8::10
cname=alias.test,www.test
host-record=www.test,192.0.2.10
mx-host=mail.test,mx.test,10
txt-record=text.test,"v=spf1 -all","second"
srv-host=_http._tcp.test,www.test,80,5,6
naptr-record=naptr.test,100,10,S,SIP+D2U,,_sip._udp.test
caa-record=caa.test,0,issue,ca.test
ptr-record=10.2.0.192.in-addr.arpa,www.test
"""


def program(name: str) -> str:
    """Where it is, or a skip; CI has it and fails."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        text = f"{name} is not installed: make tools"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(text)
    return found


class Relay:
    """Takes queries on a port, over UDP and TCP, and passes them on; `talks` are what passed, by transport."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.talks: dict[str, list[list[tuple[Side, bytes]]]] = {"udp": [], "tcp": []}
        self.stream = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.stream.getsockname()[1]
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", self.port))
        self.sockets = [self.stream, self.datagrams]
        for work in (self.relay_datagrams, self.relay_streams):
            threading.Thread(target=work, daemon=True).start()

    def relay_datagrams(self) -> None:
        flows: dict[tuple[str, int], list[tuple[Side, bytes]]] = {}
        while True:
            try:
                data, client = self.datagrams.recvfrom(65_535)
                if client not in flows:
                    flows[client] = []
                    self.talks["udp"].append(flows[client])
                flows[client].append((Side.CLIENT, data))
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
                    server.settimeout(5)
                    server.sendto(data, ("127.0.0.1", self.target))
                    answer = server.recv(65_535)
                flows[client].append((Side.SERVER, answer))
                self.datagrams.sendto(answer, client)
            except TimeoutError:
                continue
            except OSError:
                return

    def relay_streams(self) -> None:
        while True:
            try:
                client, _ = self.stream.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            talk: list[tuple[Side, bytes]] = []
            self.talks["tcp"].append(talk)
            for ends, side in (((client, server), Side.CLIENT), ((server, client), Side.SERVER)):
                threading.Thread(target=pump, args=(*ends, side, talk), daemon=True).start()

    def close(self) -> None:
        for one in self.sockets:
            one.close()


def pump(
    source: socket.socket, sink: socket.socket, side: Side, talk: list[tuple[Side, bytes]]
) -> None:
    try:
        while data := source.recv(16_384):
            talk.append((side, data))
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture(scope="session")
def dns_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a dnsmasq of our own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    file: Path = tmp_path_factory.mktemp("dns") / "dnsmasq.conf"
    file.write_text(LINES)
    options = [
        "-k",
        "-C",
        str(file),
        "-p",
        str(port),
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
    ]
    server = subprocess.Popen(
        [program("dnsmasq"), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def relay(dns_port: int) -> Iterator[Relay]:
    found = Relay(dns_port)
    yield found
    found.close()
