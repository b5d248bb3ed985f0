"""Redis and what speaks its protocol: Valkey, KeyDB, Dragonfly, Kvrocks, Sentinel."""

from __future__ import annotations

from kshark.api import ProtocolSpec, hookimpl

from .details import RedisCommand, RedisReply, details
from .dissector import RedisDissector
from .identify import probe

SPEC = ProtocolSpec(
    name="redis",
    dissector=RedisDissector,
    doc="Redis commands and replies: RESP2, RESP3, inline, pub/sub, MONITOR, replication",
    magic=tuple(b"*%d\r\n$" % count for count in range(1, 10)),
    ports=(6379,),
    probe=probe,
    request=RedisCommand,
    response=RedisReply,
    details=details,
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]
