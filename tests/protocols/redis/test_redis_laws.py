"""The laws that every dissector is held to, over conversations of every kind."""

from __future__ import annotations

import pytest
from redis_kit import C, S, Talk, array, ask, bulk
from test_redis_dissector import DISKLESS, MONITOR, PUBSUB2

from kshark.protocols.redis import SPEC
from kshark.testing import check_laws

CALLS: Talk = [
    (C, ask("SET", "first", "one")),
    (S, b"+OK\r\n"),
    (C, ask("GET", "first") + ask("INCR", "second") + ask("MGET", "third", "fourth")),
    (S, bulk("one") + b":7\r\n" + array(bulk("3"), b"$-1\r\n")),
    (C, ask("LPUSH", "fifth", "x" * 300)),
    (S, b"-WRONGTYPE Operation against a key\r\n"),
]
AGAIN: Talk = [(C, ask("GET", "again")), (S, bulk("and again"))]


CALMLY: Talk = [
    turn
    for words, answer in [
        (("SET", "first", "one"), b"+OK\r\n"),
        (("GET", "first"), bulk("one")),
        (("MGET", "third", "fourth"), array(bulk("3"), b"$-1\r\n")),
        (("LPUSH", "fifth", "x" * 300), b"-WRONGTYPE Operation against a key\r\n"),
        (("CONFIG", "GET", "save"), b"%1\r\n" + bulk("save") + bulk("")),
        (("TTL", "k"), b":99\r\n"),
    ]
    for turn in ((C, ask(*words)), (S, answer))
]
ENGINE = {
    "pairs",
    "packets",
}  # what the engine's own tests expect to fail: pipelines, late questions
STATEFUL = {"gaps"}  # a command that is lost changes what later messages are: it cannot be known
FINAL = {"prefix"}  # a replica asks no more: nothing of `again` may follow


def test_every_law() -> None:
    check_laws(SPEC, CALMLY, again=AGAIN, examples=5, skip={"packets"})


def test_laws_of_a_pipeline() -> None:
    check_laws(SPEC, CALLS, again=AGAIN, examples=5, skip=ENGINE)


@pytest.mark.parametrize("talk", [PUBSUB2, MONITOR], ids=["pubsub", "monitor"])
def test_laws_of_stateful_conversations(talk: Talk) -> None:
    check_laws(SPEC, talk, again=AGAIN, examples=5, skip=ENGINE | STATEFUL)


def test_laws_of_replication() -> None:
    check_laws(SPEC, DISKLESS, again=AGAIN, examples=5, skip=ENGINE | STATEFUL | FINAL)
