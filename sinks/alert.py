"""Alerts: told once when too many entries of a kind come, and once more when they have ceased.

The sink's filter says which entries; ``rate`` how many in which time are too many, by the entries' own clock.
A target that is slow or dead holds nothing up: what is to be told waits in a short queue and is given up in the end.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from kshark import limits
from kshark.api import Context, Entry, PluginError, SinkSpec, hookimpl, option
from kshark.sinks._backoff import Backoff
from kshark.sinks._http import HttpOptions, Kind, Peer

RATE: Final = re.compile(r"(\d{1,6})\s*/\s*(s|sec|min|h)\Z")
SECONDS: Final = {"s": 1, "sec": 1, "min": 60, "h": 3600}
TRIES: Final = 5
"""Times that a notification is sent at most: half a minute."""
PATIENCE: Final = 5.0
"""Seconds at the end of a run for what is still to be told."""
TICK: Final = 0.25
"""Seconds between two looks whether an alert has ceased."""


class AlertOptions(HttpOptions):
    """Options of the sink ``alert``; its ``filter`` says which entries count."""

    target: Annotated[str, option("Name of the alert")] = "alert"
    rate: Annotated[str, option("So many in such a time are too many: 5/min, 1/s, 100/h")] = "1/min"
    to: Annotated[
        Literal["log", "webhook", "slack"],
        option("Who is told: standard error, a JSON webhook, one that Slack's format suits"),
    ] = "log"
    url: Annotated[str, option("Address of the webhook; it may be a secret, see url_file")] = ""
    url_file: Annotated[str, option("A file that holds the address")] = ""
    quiet: Annotated[
        float,
        msgspec.Meta(gt=0),
        option("It has ceased when the rate was not reached for so long", unit="seconds"),
    ] = 60.0


class Notice(msgspec.Struct):
    """What is told."""

    alert: str
    state: Literal["firing", "resolved"]
    entries: int  # that counted, since it began
    rate: str
    entry: msgspec.Raw  # the one that it took, as JSON

    @property
    def text(self) -> str:
        if self.state == "resolved":
            return f"{self.alert}: resolved after {self.entries:,} entries"
        return f"{self.alert}: firing, {self.rate} reached"


class Window:
    """Whether `count` entries came within `span` ns: their last dates alone are kept."""

    def __init__(self, rate: str) -> None:
        given = RATE.match(rate.strip())
        if not given or not 0 < int(given[1]) <= limits.ALERT_ENTRIES:
            raise PluginError(
                f"sink alert: rate {rate!r} is not such as 5/min, of 1 to {limits.ALERT_ENTRIES:,}"
            )
        self._span = SECONDS[given[2]] * limits.SECOND
        self._last: deque[int] = deque(maxlen=int(given[1]))

    def reached(self, time_ns: int) -> bool:
        last = self._last
        last.append(time_ns)
        return len(last) == last.maxlen and abs(time_ns - last[0]) < self._span


class Alert:
    """The sink."""

    def __init__(self, options: AlertOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._window = Window(options.rate)
        self._peer = make_peer(options)
        self._firing = False
        self._reached = 0.0  # when the rate was reached last, by the loop's clock
        self._entries = 0
        self._raw = msgspec.Raw(b"null")
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(limits.ALERT_NOTICES)
        self._tasks: list[asyncio.Task[None]] = []
        self.told = self.untold = 0

    async def open(self) -> None:
        if self._peer is not None:
            await self._peer.open()
        self._tasks = [asyncio.create_task(self._tell_all()), asyncio.create_task(self._watch())]

    async def write(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            self._entries += self._firing
            if self._window.reached(entry.time_ns):
                self._reached = asyncio.get_running_loop().time()
                if not self._firing:
                    self._firing, self._entries = True, 1
                    self._raw = msgspec.Raw(self._context.encode([entry]).strip() or b"null")
                    self._notify("firing")

    async def flush(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), PATIENCE)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        while not self._waiting.empty():
            self._give_up(self._waiting.get_nowait(), "the run ended")
        if self._peer is not None:
            await self._peer.close()

    def _notify(self, state: Literal["firing", "resolved"]) -> None:
        name, rate = self._options.target, self._options.rate
        notice = Notice(name, state, self._entries, rate, self._raw)
        try:
            self._waiting.put_nowait(notice)
        except asyncio.QueueFull:
            self._give_up(notice, "too many wait to be told")

    async def _watch(self) -> None:
        """See when it has ceased."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(min(TICK, self._options.quiet))
            if self._firing and clock() - self._reached >= self._options.quiet:
                self._firing = False
                self._notify("resolved")

    async def _tell_all(self) -> None:
        while True:
            notice = await self._waiting.get()
            try:
                await self._tell(notice)
            except asyncio.CancelledError:
                self._give_up(notice, "the run ended")
                raise
            finally:
                self._waiting.task_done()

    async def _tell(self, notice: Notice) -> None:
        if self._peer is None:
            self._context.say(f"alert {notice.text}")
            self.told += 1
            return
        slack = self._options.to == "slack"
        body = msgspec.json.encode({"text": f"kshark: {notice.text}"} if slack else notice)
        backoff, why = Backoff(first=1.0), ""
        while backoff.tries < TRIES:
            reply = await self._peer.post(body, {"Content-Type": "application/json"})
            if reply.kind is Kind.TAKEN:
                self.told += 1
                return
            why = reply.why
            pause = backoff.next(reply.after)
            if reply.kind is Kind.REFUSED:
                break
            await asyncio.sleep(pause)
        self._give_up(notice, why)

    def _give_up(self, notice: Notice, why: str) -> None:
        self.untold += 1
        self._context.say(f"alert {notice.text}; nobody could be told: {why}")


def make_peer(options: AlertOptions) -> Peer | None:
    """Who is told; None is standard error."""
    if options.to == "log":
        return None
    url = options.url
    if options.url_file:
        try:
            url = Path(options.url_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise PluginError(f"sink alert: url_file {options.url_file} cannot be read") from None
    return Peer(url, options, f"sink alert {options.target}", "webhook")


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="alert",
            make=Alert,
            options=AlertOptions,
            doc="Tells once when too many entries of a kind come",
        )
    ]
