"""A name server and a client of it, processes of their own, at either end of each datagram at the same time. One port.

``ask_dns.py PORT COUNT``: asks so often, one question after the other, each once.
"""

import os
import socket
import sys

HEAD = b"\1\0\0\1\0\0\0\0\0\0"
NAME = b"\1a\4test\0\0\1\0\1"
ANSWER = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"


def answer(server: socket.socket) -> None:
    while True:
        query, client = server.recvfrom(500)
        server.sendto(query[:2] + b"\x81\x80\0\1\0\1" + query[8:] + ANSWER, client)


def ask(port: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        for number in range(count):
            client.send(number.to_bytes(2, "big") + HEAD + NAME)
            assert client.recv(500)[:2] == number.to_bytes(2, "big")


def main(port: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        child = os.fork()
        if not child:
            answer(server)
        try:
            ask(port, count)
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
