"""The sink ``webhook``: what it posts, and its books when it cannot."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from kshark.api import PluginError
from kshark.fanout import Fanout
from kshark.lane import LaneOptions
from kshark.sinks._http import HttpOptions
from kshark.sinks._http import Peer as HttpPeer
from kshark.sinks.webhook import Webhook, WebhookOptions
from sinks.conftest import FakeContext, MakeEntry
from sinks.http_peer import Answer, Peer, serving


def run(context: FakeContext, make_entry: MakeEntry, peer: Peer, **options: Any) -> dict[str, Any]:
    """The books after a hundred entries, which balance."""

    async def whole() -> dict[str, Any]:
        fanout = Fanout(context.say)
        sink = Webhook(WebhookOptions(target=f"{peer.url}/in", **options), context)
        fanout.add("webhook", sink, LaneOptions(), live=False)
        await fanout.open()
        for n in range(0, 100, 10):
            await fanout.put([make_entry(n + k) for k in range(10)])
            await asyncio.sleep(0)
        await fanout.drain()
        return fanout.snapshot()["webhook"]

    books = asyncio.run(whole())
    assert books["entries"] == books["delivered"] + sum(books["dropped"].values())
    return books


def lines(peer: Peer) -> list[bytes]:
    return b"".join(one.body for one in peer.taken).splitlines()


@pytest.mark.parametrize("bad", [Answer(500), Answer(0), Answer(429, "", {"Retry-After": "0"})])
def test_all_comes_in_order_whatever_fails(
    context: FakeContext, make_entry: MakeEntry, bad: Answer
) -> None:
    with serving(lambda request, number: bad if number % 2 == 0 else Answer()) as peer:
        books = run(context, make_entry, peer, token="s3cret")
    assert books["delivered"] == 100
    assert lines(peer) == context.encode([make_entry(n) for n in range(100)]).splitlines()
    assert peer.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in "".join(context.said)


def test_what_is_refused_is_counted(context: FakeContext, make_entry: MakeEntry) -> None:
    with serving(lambda request, number: Answer(400, "no") if number == 0 else Answer()) as peer:
        books = run(context, make_entry, peer)
    assert books["delivered"] == len(lines(peer))
    assert books["dropped"] == {"refused": 100 - len(lines(peer))}
    assert context.said == ["webhook: entries refused: HTTP 400: no"]


def test_an_address_is_needed(context: FakeContext) -> None:
    with pytest.raises(PluginError, match="needs an address"):
        Webhook(WebhookOptions(target="nowhere"), context)


def test_what_was_posted_is_forgotten() -> None:
    """Not only when Python looks for circles: a process that lives for months holds what it must alone."""
    content = bytes(range(200)) * 10
    held = sys.getrefcount(content)

    async def post(url: str) -> None:
        http = HttpPeer(url, HttpOptions(), "sink x", "webhook")
        await http.open()
        for _ in range(3):
            assert (await http.post(content, {})).status == 204
        assert sys.getrefcount(content) == held
        await http.close()

    gc.disable()
    try:
        with serving() as peer:
            asyncio.run(post(peer.url))
    finally:
        gc.enable()
    assert [one.body for one in peer.taken] == [content] * 3
    assert peer.requests[0].headers["content-length"] == str(len(content))
