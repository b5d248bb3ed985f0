"""Entries posted to an address, as JSON lines: a batch is taken when the server has said so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from kshark.api import Context, Entry, SinkBusy, SinkSpec, SinkStats, hookimpl, option
from kshark.sinks._backoff import Backoff
from kshark.sinks._http import HttpOptions, Kind, Peer, Reply

TOLD = 3
"""Tries in vain after which the user is told."""


class WebhookOptions(HttpOptions):
    """Options of the sink ``webhook``."""

    target: Annotated[str, option("The address")] = ""
    full: Annotated[bool, option("With the protocol's own object: details and bodies")] = False


class Webhook:
    """The sink. While the server cannot take a batch, the sink's queue and policy decide."""

    def __init__(self, options: WebhookOptions, context: Context) -> None:
        self._context = context
        self._full = options.full
        self._peer = Peer(options.target, options, "sink webhook", "webhook")
        self._backoff = Backoff()
        self._batch: Sequence[Entry] = ()
        self._body = b""
        self._dropped: dict[str, int] = {}

    async def open(self) -> None:
        await self._peer.open()

    async def write(self, batch: Sequence[Entry]) -> None:
        if batch is not self._batch:  # else it comes again, after SinkBusy
            self._body = self._context.encode(batch, full=self._full)
            self._batch = batch
        if self._body:
            reply = await self._peer.post(self._body, {"Content-Type": "application/x-ndjson"})
            if reply.kind is Kind.LATER:
                await self._wait(reply)
                raise SinkBusy
            self._answered(reply)
        self._batch, self._body = (), b""

    async def _wait(self, reply: Reply) -> None:
        pause = self._backoff.next(reply.after)
        if self._backoff.tries == TOLD:
            self._context.say(f"webhook: entries wait: {reply.why}")
        await asyncio.sleep(pause)

    def _answered(self, reply: Reply) -> None:
        if self._backoff.tries >= TOLD:
            self._context.say("webhook: takes entries again")
        self._backoff.reset()
        if reply.kind is Kind.REFUSED:
            if not self._dropped:
                self._context.say(f"webhook: entries refused: {reply.why}")
            lost = self._dropped.get("refused", 0) + self._body.count(b"\n")
            self._dropped["refused"] = lost

    def stats(self) -> SinkStats:
        return SinkStats(0, 0, dict(self._dropped))

    async def close(self) -> None:
        await self._peer.close()


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="webhook", make=Webhook, options=WebhookOptions, doc="JSON lines posted over HTTP"
        )
    ]
