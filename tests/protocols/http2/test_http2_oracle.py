"""Conversations made by the package h2, which plays both ends: what they said is what is dissected."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from kshark.api import Message, Side
from kshark.protocols import http2
from kshark.protocols.http2.details import Http2Request, Http2Response, details
from kshark.testing import converse
from kshark.testing.strategies import cut_talk

NAMES = st.sampled_from(["x-a", "x-b", "accept", "user-agent", "authorization"])
TEXTS = st.text("abcdefghij/-=0123456789", min_size=1, max_size=60)
HEADERS = st.lists(st.tuples(NAMES, TEXTS), max_size=5)
CALL = st.tuples(
    st.sampled_from(["GET", "POST"]),
    TEXTS.map(lambda text: "/" + text),
    HEADERS,
    st.lists(st.binary(max_size=300), max_size=3),
    st.sampled_from(["200", "204", "404", "418", "503"]),
    HEADERS,
    st.lists(st.binary(max_size=300), max_size=3),
    st.booleans(),  # trailers
)


class Talk:
    """Two ends and what passes between them."""

    def __init__(self) -> None:
        self.ends = [
            h2.connection.H2Connection(h2.config.H2Configuration(client_side=side == 0))
            for side in Side
        ]
        self.said: list[tuple[Side, bytes]] = []
        for end in self.ends:
            end.initiate_connection()
        self.pass_on()

    def pass_on(self) -> None:
        for _ in range(2):
            for side in Side:
                data = self.ends[side].data_to_send()
                if data:
                    self.said.append((side, data))
                    self.ends[1 - side].receive_data(data)

    def half(self, side: Side, stream: int, headers: Any, parts: list[bytes], end: Any) -> Any:
        """A generator: one frame a step, so that streams can be interleaved."""
        this = self.ends[side]
        this.send_headers(stream, headers, end_stream=not parts and not end)
        yield
        for number, part in enumerate(parts):
            this.send_data(stream, part, end_stream=number == len(parts) - 1 and not end)
            yield
        if end:
            this.send_headers(stream, end, end_stream=True)
            yield


def run(talk: Talk, steps: list[Any], data: st.DataObject) -> None:
    """Take a step of one of them until all are done."""
    while steps:
        one = data.draw(st.sampled_from(steps))
        try:
            next(one)
        except StopIteration:
            steps.remove(one)
        if data.draw(st.booleans()):
            talk.pass_on()
    talk.pass_on()


@given(st.lists(CALL, min_size=1, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_what_another_says(calls: list[Any], data: st.DataObject) -> None:
    talk = Talk()
    numbers = range(1, 2 * len(calls), 2)
    asks, answers = [], []
    for number, (method, path, headers, parts, status, more, content, end) in zip(
        numbers, calls, strict=True
    ):
        first = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a")]
        asks.append(talk.half(Side.CLIENT, number, first + headers, parts, None))
        last = [("x-end", "1")] if end else None
        answers.append(talk.half(Side.SERVER, number, [(":status", status), *more], content, last))
    for one in asks:
        next(one)  # streams are opened in order
    talk.pass_on()
    run(talk, asks, data)
    run(talk, answers, data)
    entries = {e.request.key: e for e in converse(http2.SPEC, talk.said) if e.request}
    assert sorted(entries) == list(numbers)
    for number, (method, path, headers, parts, status, more, content, end) in zip(
        numbers, calls, strict=True
    ):
        entry = entries[number]
        assert entry.request is not None
        assert entry.response is not None
        asked, answered = details(entry.request), details(entry.response)
        assert isinstance(asked, Http2Request)
        assert isinstance(answered, Http2Response)
        assert (entry.request.verb, entry.request.target) == (method, path)
        assert (asked.headers, entry.request.body) == (headers, b"".join(parts))
        assert (answered.status, answered.headers) == (int(status), more)
        assert entry.response.body == b"".join(content)
        assert answered.trailers == ([("x-end", "1")] if end else [])
        assert entry.outcome == ("ok" if int(status) < 400 else "error")
        assert not entry.truncated
    whole = [(e.seq, e.request, e.outcome) for e in converse(http2.SPEC, talk.said)]
    cut = converse(http2.SPEC, data.draw(cut_talk(talk.said)))
    assert [(e.seq, undated(e.request), e.outcome) for e in cut] == [
        (number, undated(request), outcome) for number, request, outcome in whole
    ]


def undated(message: Message | None) -> Message | None:
    return message and msgspec.structs.replace(message, first_ns=0, last_ns=0)
