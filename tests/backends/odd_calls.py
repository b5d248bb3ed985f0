"""Calls that are rare: a look without taking (MSG_PEEK), a message in pieces, many datagrams at once. One port."""

import ctypes
import socket
import sys
from typing import Any

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nabcdefgh"
HEAD = b"\1\0\0\1\0\0\0\0\0\0"
NAMES = tuple(b"\1%c\4test\0" % letter for letter in b"abcd")
QUERIES = [bytes((9, n)) + HEAD + name + b"\0\1\0\1" for n, name in enumerate(NAMES)]


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("pieces", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("unused", ctypes.c_int),
        ("moved", ctypes.c_uint),
    ]


def messages(buffers: list[Any], names: list[Any]) -> tuple[Any, list[Any]]:
    """An array of struct mmsghdr, and what must live as long."""
    array, kept = (Message * len(buffers))(), []
    for at, (buffer, name) in enumerate(zip(buffers, names, strict=True)):
        piece = Piece(ctypes.addressof(buffer), ctypes.sizeof(buffer))
        kept += [piece, buffer, name]
        array[at].pieces, array[at].count = ctypes.addressof(piece), 1
        if name is not None:
            array[at].name, array[at].name_size = ctypes.addressof(name), ctypes.sizeof(name)
    return array, kept


def stream(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        peer, _ = server.accept()
        with client, peer:
            client.sendall(b"GET /peek HTTP/1.1\r\nHost: a\r\n\r\n")
            peer.recv(1, socket.MSG_PEEK)
            peer.recv(100, socket.MSG_PEEK)
            peer.recv(1000)
            peer.sendmsg([bytes([byte]) for byte in ANSWER])
            got = b""
            while got != ANSWER:
                got += client.recv(10)


def datagrams(port: int) -> None:
    libc = ctypes.CDLL(None)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("0.0.0.0", port))
        client.connect(("127.0.0.1", port))
        rooms = [ctypes.create_string_buffer(200) for _ in QUERIES]
        got, _kept = messages(rooms, [ctypes.create_string_buffer(16) for _ in QUERIES])
        for queries in (QUERIES[:2], QUERIES[2:]):  # into the same rooms, of which half are used
            sent, _sent = messages(
                [ctypes.create_string_buffer(q, len(q)) for q in queries], [None] * 2
            )
            assert libc.sendmmsg(client.fileno(), sent, 2, 0) == 2
            found = libc.recvmmsg(server.fileno(), got, 4, socket.MSG_DONTWAIT, None)
            assert found == 2
            for query in queries:
                answer = query[:2] + b"\x81\x80\0\1\0\1" + query[8:]
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
                server.sendto(answer, client.getsockname())
                client.recv(500)


if __name__ == "__main__":
    stream(int(sys.argv[1]))
    datagrams(int(sys.argv[1]))
