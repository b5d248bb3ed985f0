"""A proxy that records what passes between real clients and servers."""

from __future__ import annotations

import socket
import threading

from kshark.api import Side

Chunk = tuple[Side, bytes]


class Recorder:
    """A TCP proxy on loopback; each connection is a list of (who, bytes), in the order they passed.

    What a client sends is noted before it is passed on, and what a server sends before the client sees it,
    so that an answer is never noted before its question.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.talks: list[list[Chunk]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            talk: list[Chunk] = []
            self.talks.append(talk)
            for source, sink, side in (
                (client, server, Side.CLIENT),
                (server, client, Side.SERVER),
            ):
                threading.Thread(
                    target=self.pump, args=(source, sink, side, talk), daemon=True
                ).start()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, side: Side, talk: list[Chunk]) -> None:
        try:
            while data := source.recv(16_384):
                talk.append((side, data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
