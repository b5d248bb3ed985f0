"""A mix of Redis traffic: single commands, pipelines, a few errors; RESP2.

The number of a transaction stands in its key (``t000000042``) and comes back in the answer: in the
value, as the integer, or in the error's text.
"""

from __future__ import annotations

from random import Random

from .tcp import ACK, Connection, Faults


class Redis:
    """Makes the exchanges of one capture; a pipeline of n commands counts as n transactions."""

    ports = (6379,)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.values = [
            rng.randbytes(min(4_000, int(rng.lognormvariate(4.5, 1)))) for _ in range(256)
        ]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        """The frames of one command."""
        return self.frames(connection, [self.command(number)], faults)

    def pipeline(
        self, connection: Connection, first: int, count: int, faults: Faults
    ) -> list[bytes]:
        """The frames of `count` commands that are sent together."""
        pairs = [self.command(number) for number in range(first, first + count)]
        return self.frames(connection, pairs, faults)

    def frames(
        self, connection: Connection, pairs: list[tuple[bytes, bytes]], faults: Faults
    ) -> list[bytes]:
        asked = b"".join(request for request, _ in pairs)
        frames = faults.burst(connection, connection.send(0, asked))
        if self.rng.random() < 0.3:
            frames.append(connection.frame(1, ACK))
        answered = b"".join(response for _, response in pairs)
        frames += faults.burst(connection, connection.send(1, answered))
        frames.append(connection.frame(0, ACK))
        return frames

    def command(self, number: int) -> tuple[bytes, bytes]:
        """One command and its answer, by lot."""
        key, draw = b"t%09d" % number, self.rng.random()
        value = self.rng.choice(self.values)
        if draw < 0.45:
            return array(b"GET", key), bulk(key + value)
        if draw < 0.50:
            return array(b"GET", key, b"x"), b"-ERR wrong number of arguments, %b\r\n" % key
        if draw < 0.70:
            return array(b"SET", key, value, b"EX", b"60", b"GET"), bulk(key + value)
        if draw < 0.85:
            return array(b"INCRBY", key, b"1"), b":%d\r\n" % number
        if draw < 0.95:
            return array(b"HGETALL", key), array(b"id", key, b"name", b"amber", b"n", b"3")
        return array(b"EXPIRE", key, b"%d" % number), b":%d\r\n" % number


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(*items: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(items), b"".join(bulk(item) for item in items))
