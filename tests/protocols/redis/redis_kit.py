"""What the tests of Redis share: writing RESP, holding a conversation, and pairing it in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from kshark.api import Kind, Message, Side
from kshark.protocols.redis.dissector import RedisDissector

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]


def ask(*words: bytes | str | int) -> bytes:
    """A command as clients send it."""
    raw = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in raw)


def bulk(value: bytes | str) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return b"$%d\r\n%s\r\n" % (len(raw), raw)


def array(*items: bytes, kind: bytes = b"*") -> bytes:
    return b"%s%d\r\n" % (kind, len(items)) + b"".join(items)


def listen(talk: Iterable[tuple[Side, bytes]], close: bool = True) -> list[tuple[Side, Message]]:
    """All messages of a conversation, with who sent them."""
    dissector = RedisDissector()
    found: list[tuple[Side, Message]] = []
    for side, data in talk:
        found += [(side, message) for message in dissector.feed(side, data)]
    if close:
        found += [(S if m.kind == Kind.RESPONSE else C, m) for m in dissector.close()]
    return found


def row(side: Side, m: Message) -> tuple[Any, ...]:
    """Everything of a message that must not depend on how the stream was cut."""
    flags = (m.ok, m.cut, m.truncated, m.gap_bytes, m.notes, m.extra)
    return (int(side), m.kind, m.verb, m.target, m.size, m.head, *flags)


def rows(talk: Iterable[tuple[Side, bytes]]) -> list[tuple[Any, ...]]:
    return [row(side, message) for side, message in listen(talk)]


def pairs(talk: Iterable[tuple[Side, bytes]]) -> list[str]:
    """``GET k -> bulk``, ``<message news`` (unasked), ``>SET k`` (unanswered by nature), ``-> nil`` (orphan)."""
    waiting: list[Message] = []
    lines: list[str] = []
    for side, m in listen(talk):
        name = f"{m.verb} {m.target}".strip()
        if m.kind == Kind.REQUEST:
            waiting.append(m)
        elif m.kind == Kind.RESPONSE:
            asked = waiting.pop(0) if waiting else None
            lines.append((f"{asked.verb} {asked.target}".strip() if asked else "") + f" -> {name}")
        else:
            lines.append(("<" if side else ">") + name)
    return lines + [f"{m.verb} {m.target}".strip() + " ->" for m in waiting]


def chopped(talk: Talk, cuts: Sequence[int]) -> Talk:
    """The same conversation in other pieces; `cuts` is used round and round."""
    pieces: Talk = []
    turn = 0
    for side, data in talk:
        pos = 0
        while pos < len(data):
            step = cuts[turn % len(cuts)]
            turn += 1
            pieces.append((side, data[pos : pos + step]))
            pos += step
    return pieces


# ---------------------------------------------------------------- values, and the same as bytes

raw = st.binary(max_size=12) | st.sampled_from(
    [b"\r\n", b"+OK\r\n", b"*1\r\n$4\r\nPING\r\n", b"$-1"]
)
line = st.text("abcXYZ 0:_-", max_size=12).map(str.encode)
int64 = st.integers(-(2**63), 2**63 - 1)

resp2_leaf = st.one_of(
    raw.map(bulk),
    line.map(lambda t: b"+" + t + b"\r\n"),
    line.map(lambda t: b"-ERR " + t + b"\r\n"),
    int64.map(lambda i: b":%d\r\n" % i),
    st.just(b"$-1\r\n"),
    st.just(b"*-1\r\n"),
)
resp3_leaf = st.one_of(
    resp2_leaf,
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b",inf\r\n", b",-inf\r\n"]),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda f: b",%s\r\n" % repr(f).encode()),
    st.integers(-(10**40), 10**40).map(lambda i: b"(%d\r\n" % i),
    raw.map(lambda b: b"=%d\r\ntxt:%s\r\n" % (len(b) + 4, b)),
)
bulk_error = raw.map(lambda b: b"!%d\r\nERR %s\r\n" % (len(b) + 4, b))  # unknown to hiredis 1.x


def aggregates(kinds: bytes) -> Any:
    def make(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        def build(kind: int, items: list[bytes]) -> bytes:
            if kind == ord("%"):
                items = items[: len(items) // 2 * 2]
                return b"%%%d\r\n" % (len(items) // 2) + b"".join(items)
            return array(*items, kind=bytes((kind,)))

        return st.builds(build, st.sampled_from(kinds), st.lists(children, max_size=4))

    return make


resp2 = st.recursive(resp2_leaf, aggregates(b"*"), max_leaves=12)
resp3 = st.recursive(resp3_leaf, aggregates(b"*%~"), max_leaves=12)
parsable = st.recursive(  # hiredis makes sets and dicts: what is in them must be hashable
    resp3_leaf
    | st.lists(resp3_leaf, max_size=3).map(lambda items: array(*items, kind=b"~"))
    | st.tuples(resp3_leaf, resp3_leaf).map(lambda pair: b"%1\r\n" + b"".join(pair)),
    aggregates(b"*>"),
    max_leaves=8,
)
streamed_string = st.lists(raw.filter(bool), max_size=3).map(
    lambda parts: b"$?\r\n" + b"".join(b";%d\r\n%s\r\n" % (len(p), p) for p in parts) + b";0\r\n"
)


def streamed(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kind, items: kind + b"?\r\n" + b"".join(items) + b".\r\n",
        st.sampled_from([b"*", b"~"]),
        st.lists(children, max_size=3),
    )


attributes = st.builds(lambda key, value: b"|1\r\n" + key + value, line.map(bulk), resp3_leaf)
exotic = st.recursive(
    resp3_leaf | bulk_error | streamed_string,
    lambda inner: streamed(inner) | st.builds(lambda a, v: a + v, attributes, inner),
    max_leaves=8,
)
commands = st.lists(raw, min_size=1, max_size=6).map(lambda words: ask(*words))
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)
