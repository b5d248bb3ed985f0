"""An echo server, and a client of it that sends random bytes, a piece for each line that it reads. One port.

``talk.py serve PORT`` or ``talk.py ask PORT OWN_PORT SIZE``: the client prints one line for each piece that came back.
"""

import contextlib
import os
import socket
import sys


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        while True:
            peer, _ = server.accept()
            with peer, contextlib.suppress(ConnectionResetError):
                while data := peer.recv(65536):
                    peer.sendall(data)


def ask(port: int, own: int, size: int) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", own))
        client.connect(("127.0.0.1", port))
        for _ in sys.stdin:
            sent = b"\x99" + os.urandom(size - 1)  # as no protocol begins
            client.sendall(sent)
            got = b""
            while len(got) < size:
                got += client.recv(65536)
            assert got == sent, "passive: nothing is changed"
            print("back", flush=True)
        # Who is closed upon waits for nothing, so that its port is free again.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "serve":
        serve(*map(int, numbers))
    else:
        ask(*map(int, numbers))
