import json

from kshark.api import Side
from kshark.testing import converse
from kshark.testing.context import context, protocol
from kshark_genai import Enricher, GenAI

HTTP = protocol("http")


def exchange(path, asked, answered, kind="application/json"):
    body = json.dumps(asked)
    request = f"POST {path} HTTP/1.1\r\nHost: llm\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(answered)}\r\n\r\n"
    talk = [(Side.CLIENT, request.encode()), (Side.SERVER, (head + answered).encode())]
    [entry] = Enricher(None, context(HTTP)).enrich(converse(HTTP, talk))
    return (entry.extra or {}).get("genai")


def test_openai():
    asked = {"model": "gpt-x", "messages": [{}, {}], "max_tokens": 99}
    usage = {"prompt_tokens": 12, "completion_tokens": 34}
    answered = {"model": "gpt-x-1", "choices": [{"finish_reason": "stop"}], "usage": usage}
    found = exchange("/v1/chat/completions", asked, json.dumps(answered))
    assert found == GenAI(
        operation="completions", model="gpt-x", answered_by="gpt-x-1", messages=2, max_tokens=99,
        input_tokens=12, output_tokens=34, finish="stop",
    )  # fmt: skip


def test_a_stream_of_anthropic():
    parts = [
        {"type": "message_start", "message": {"model": "c-1", "usage": {"input_tokens": 7}}},
        {"type": "content_block_delta", "delta": {"text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    ]
    events = "".join(f"event: x\r\ndata: {json.dumps(part)}\r\n\r\n" for part in parts)
    found = exchange("/v1/messages", {"model": "c", "stream": True}, events, "text/event-stream")
    assert (found.system, found.stream, found.finish) == ("anthropic", True, "end_turn")
    assert (found.answered_by, found.input_tokens, found.output_tokens) == ("c-1", 7, 5)


def test_others_are_left_alone():
    assert exchange("/v1/orders", {"model": "x"}, "{}") is None
    assert exchange("/api/chat", [], "{").model is None
    assert exchange("/api/chat", {}, "[" * 5_000).finish is None
