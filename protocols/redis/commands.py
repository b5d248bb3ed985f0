"""What is known of Redis commands: their names, where their key is, what they do to the connection.

Names and first keys are those of ``COMMAND`` of Redis 7.0 (with the newer ones of 7.2 to 8.x added from
the command reference), and of the modules by prefix. An unknown name is no error: its first argument
counts as its key, and it is answered like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

REDACTED: Final = "[redacted]"


class Act(IntEnum):
    """What the dissector must do about a command, beside showing it."""

    PLAIN = 0
    PLACED = 1  # its key is not the first argument
    CONTAINER = 2  # its first argument is a subcommand
    CLIENT = 3  # CLIENT: a container, and CLIENT REPLY changes who is answered
    SUBSCRIBE = 4  # answered by one confirmation a channel
    UNSUBSCRIBE = 5
    MONITOR = 6  # answered, then an endless stream
    MULTI = 7
    EXEC = 8  # and DISCARD
    RESET = 9
    SYNC = 10  # answered by a snapshot without a line before it
    PSYNC = 11  # answered by a line, then a snapshot or a stream of commands
    REPLCONF = 12  # REPLCONF ACK is not answered
    SECRET = 13  # its first argument may be a secret


class Command(msgspec.Struct, frozen=True):
    """A known command. ``key``: index of its first key among its words, 0 = it has none."""

    verb: str
    act: int = Act.PLAIN
    key: int = 1


PLAIN: Final = """
append asking bgrewriteaof bgsave bitcount bitfield bitfield_ro bitpos blmove blpop brpop brpoplpush
bzpopmax bzpopmin copy dbsize decr decrby del delex digest dump echo exists expire expireat
expiretime failover flushall flushdb geoadd geodist geohash geopos georadius georadius_ro
georadiusbymember georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange
getset hdel hello hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby
hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan
hset hsetex hsetnx hstrlen httl hvals incr incrby incrbyfloat info keys lastsave lcs lindex linsert
llen lolwut lpop lpos lpush lpushx lrange lrem lset ltrim mget move mset msetex msetnx persist
pexpire pexpireat pexpiretime pfadd pfcount pfmerge pfselftest ping psetex pttl publish quit
randomkey readonly readwrite rename renamenx replicaof restore restore-asking role rpop rpoplpush
rpush rpushx sadd save scan scard sdiff sdiffstore select set setbit setex setnx setrange shutdown
sinter sinterstore sismember slaveof smembers smismember smove sort sort_ro spop spublish srandmember
srem sscan strlen substr sunion sunionstore swapdb time touch ttl type unlink unwatch vadd vcard vdim
vemb vgetattr vinfo vismember vlinks vrandmember vrem vsetattr vsim wait waitaof watch xack xackdel
xadd xautoclaim xclaim xdel xdelex xlen xpending xrange xrevrange xsetid xtrim zadd zcard zcount
zdiffstore zincrby zinterstore zlexcount zmscore zpopmax zpopmin zrandmember zrange zrangebylex
zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange
zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunionstore
"""
PLACED: Final = {
    "bitop": 2,
    "blmpop": 3,
    "bzmpop": 3,
    "eval": 3,
    "eval_ro": 3,
    "evalsha": 3,
    "evalsha_ro": 3,
    "fcall": 3,
    "fcall_ro": 3,
    "lmpop": 2,
    "migrate": 3,
    "pfdebug": 2,
    "sintercard": 2,
    "zdiff": 2,
    "zinter": 2,
    "zintercard": 2,
    "zmpop": 2,
    "zunion": 2,
    "xread": -1,  # after STREAMS
    "xreadgroup": -1,
}
CONTAINERS: Final = """
acl cluster command config debug function latency memory module object pubsub script sentinel slowlog
xgroup xinfo
"""
ACTS: Final = {
    "auth": Act.SECRET,
    "client": Act.CLIENT,
    "discard": Act.EXEC,
    "exec": Act.EXEC,
    "monitor": Act.MONITOR,
    "multi": Act.MULTI,
    "psubscribe": Act.SUBSCRIBE,
    "psync": Act.PSYNC,
    "punsubscribe": Act.UNSUBSCRIBE,
    "replconf": Act.REPLCONF,
    "reset": Act.RESET,
    "ssubscribe": Act.SUBSCRIBE,
    "subscribe": Act.SUBSCRIBE,
    "sunsubscribe": Act.UNSUBSCRIBE,
    "sync": Act.SYNC,
    "unsubscribe": Act.UNSUBSCRIBE,
}
MODULES: Final = (
    b"FT.",
    b"JSON.",
    b"BF.",
    b"CF.",
    b"TS.",
    b"CMS.",
    b"TOPK.",
    b"TDIGEST.",
    b"GRAPH.",
    b"_FT.",
)
"""Prefixes of the commands of the usual modules."""

FOREIGN_INLINE: Final = frozenset(
    b"""append asking auth client command config copy debug decr del discard dump echo eval exec exists expire
    failover function get hello incr info keys latency memory mget migrate module monitor move multi object
    persist ping publish pubsub quit readonly readwrite rename reset restore role save scan script select
    sentinel set shutdown sort subscribe sync time touch ttl type unlink unsubscribe unwatch wait watch""".split()
)
"""Words that begin lines of other protocols too: memcached, NATS, IRC, FTP, SMTP, POP3, MPD, STOMP, one's own."""

SECRET_SETTINGS: Final = frozenset(
    (
        "auth-pass",
        "masterauth",
        "requirepass",
        "sentinel-pass",
        "tls-client-key-file-pass",
        "tls-key-file-pass",
    )
)
"""Names after which a value is a secret, in CONFIG SET and SENTINEL SET."""


def _commands() -> dict[str, Command]:
    found = {name: Command(name.upper()) for name in PLAIN.split()}
    found |= {name: Command(name.upper(), Act.PLACED, at) for name, at in PLACED.items()}
    found |= {name: Command(name.upper(), Act.CONTAINER, 2) for name in CONTAINERS.split()}
    return found | {name: Command(name.upper(), act) for name, act in ACTS.items()}


COMMANDS: Final[dict[bytes, Command]] = {
    spelling.encode(): command
    for name, command in _commands().items()
    for spelling in (name, name.upper(), name.capitalize())
}
"""By name as clients write it: all lower, all upper, or capitalised."""


def known(name: bytes) -> bool:
    """Whether this is the name of a command of Redis or of one of the usual modules."""
    if name in COMMANDS:
        return True
    upper = name.upper()
    return upper in COMMANDS or upper.startswith(MODULES)


def secrets(args: Sequence[bytes]) -> frozenset[int]:
    """The indices of the words of a command that are secrets.

    >>> sorted(secrets([b"AUTH", b"ann", b"pa55"])), sorted(secrets([b"GET", b"k"]))
    ([2], [])
    """
    if not args:
        return frozenset()
    words = [word.lower() for word in args[:_WORDS]]
    find = _FINDERS.get(words[0])
    return frozenset(find(words)) if find is not None else frozenset()


_WORDS: Final = 1_024  # of a command, looked at for secrets


def _auth(words: list[bytes]) -> list[int]:
    """AUTH password; AUTH user password; anything longer is hidden whole."""
    return [2] if len(words) == 3 else list(range(1, len(words)))


def _hello(words: list[bytes]) -> list[int]:
    """HELLO [version [AUTH user password] [SETNAME name]], the options in any order."""
    found = [at + 2 for at, word in enumerate(words) if at > 0 and word == b"auth"]
    return [at for at in found if at < len(words)]


def _migrate(words: list[bytes]) -> list[int]:
    """MIGRATE host port key db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS ...]."""
    end = words.index(b"keys", 6) if b"keys" in words[6:] else len(words)
    found: list[int] = []
    for at in range(6, end):
        if words[at] == b"auth":
            found.append(at + 1)
        elif words[at] == b"auth2":
            found.append(at + 2)
    return [at for at in found if at < len(words)]


def _config(words: list[bytes]) -> list[int]:
    """CONFIG SET and SENTINEL [CONFIG] SET: a value after a secret name."""
    pairs = enumerate(words[:-1])
    return [at + 1 for at, word in pairs if at > 1 and word.decode("latin-1") in SECRET_SETTINGS]


def _acl(words: list[bytes]) -> list[int]:
    """ACL SETUSER: the rules that add or remove a password or its hash."""
    if words[1:2] != [b"setuser"]:
        return []
    return [at for at, word in enumerate(words) if at > 2 and word[:1] in (b">", b"<", b"#", b"!")]


_FINDERS: Final = {
    b"auth": _auth,
    b"hello": _hello,
    b"migrate": _migrate,
    b"config": _config,
    b"sentinel": _config,
    b"acl": _acl,
}
