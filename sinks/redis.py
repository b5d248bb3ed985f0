"""Entries to a Redis stream: ``XADD`` in one pipeline a batch, the stream's length bounded.

Each entry is an item with the field ``entry``, its JSON. A batch counts as taken once Redis has answered for all
of it; what Redis cannot take now (away, loading, out of memory) waits in the sink's queue, whose policy decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from kshark.api import (
    Context,
    Entry,
    Options,
    PluginError,
    SinkBusy,
    SinkSpec,
    hookimpl,
    option,
)
from kshark.sinks._backoff import Backoff
from kshark.sinks._http import needed

TOLD = 3
"""Tries in vain after which the user is told."""


class RedisOptions(Options):
    """Options of the sink ``redis``."""

    target: Annotated[str, option("Its address: redis://HOST:PORT/DATABASE; rediss:// is TLS")] = (
        "redis://127.0.0.1:6379"
    )
    stream: Annotated[str, option("Key of the stream")] = "kshark"
    maxlen: Annotated[
        int, msgspec.Meta(ge=0), option("Items that the stream keeps, about; 0 = all")
    ] = 1_000_000
    full: Annotated[bool, option("With the protocol's own object: details and bodies")] = False
    user: Annotated[str, option("User (ACL)")] = ""
    password: Annotated[str, option("Password; better a file, or the environment")] = ""
    password_file: Annotated[str, option("A file that holds the password")] = ""
    ca_file: Annotated[str, option("Certificates (PEM) to trust in place of the system's")] = ""
    timeout: Annotated[float, option("How long an answer is waited for", unit="seconds")] = 5.0


class Redis:
    """The sink."""

    def __init__(self, options: RedisOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._library = needed("redis.asyncio", "sink redis", "redis")
        self._errors = needed("redis.exceptions", "sink redis", "redis").RedisError
        self._client: Any = None
        self._backoff = Backoff()
        self._batch: Sequence[Entry] = ()
        self._lines: list[bytes] = []  # those of the batch that Redis does not have yet

    async def open(self) -> None:
        options = self._options
        given = self._settings()
        self._client = self._library.Redis.from_url(
            options.target, socket_timeout=options.timeout,
            socket_connect_timeout=options.timeout, **given,
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        options = self._options
        try:
            parts = urlsplit(options.target)
            sound = parts.scheme in ("redis", "rediss") and parts.hostname and (parts.port or 1)
        except ValueError:
            sound = False
        if not sound or "@" in parts.netloc:
            raise PluginError(
                "sink redis needs an address such as redis://127.0.0.1:6379, without credentials:"
                " give user and password_file"
            )
        password = options.password
        if options.password_file:
            try:
                password = Path(options.password_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise PluginError(
                    f"sink redis: password_file {options.password_file} cannot be read"
                ) from None
        given: dict[str, Any] = {"username": options.user or None, "password": password or None}
        if options.ca_file:
            if parts.scheme != "rediss":
                raise PluginError("sink redis: ca_file is for rediss://")
            if not Path(options.ca_file).is_file():
                raise PluginError(f"sink redis: ca_file {options.ca_file} is no file")
            given["ssl_ca_certs"] = options.ca_file
        return given

    async def write(self, batch: Sequence[Entry]) -> None:
        if batch is not self._batch:  # else it comes again, after SinkBusy
            self._lines = self._context.encode(batch, full=self._options.full).split(b"\n")[:-1]
            self._batch = batch
        try:
            answers = await self._add(self._lines) if self._lines else []
        except (self._errors, OSError) as error:
            await self._wait(error)
            raise SinkBusy from None
        pairs = zip(self._lines, answers, strict=True)
        self._lines = [line for line, answer in pairs if isinstance(answer, Exception)]
        if self._lines:  # out of memory, no rights, no stream: some may have been taken
            await self._wait(next(a for a in answers if isinstance(a, Exception)))
            raise SinkBusy
        if self._backoff.tries >= TOLD:
            self._context.say("redis: takes entries again")
        self._backoff.reset()
        self._batch = ()

    async def _add(self, lines: Sequence[bytes]) -> list[Any]:
        options = self._options
        async with self._client.pipeline(transaction=False) as pipeline:
            for line in lines:
                pipeline.xadd(
                    options.stream, {"entry": line}, maxlen=options.maxlen or None,
                    approximate=True,
                )  # fmt: skip
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _wait(self, error: Exception) -> None:
        pause = self._backoff.next()
        if self._backoff.tries == TOLD:
            first = (str(error).splitlines() or [""])[0][:200]
            self._context.say(f"redis: entries wait: {first or type(error).__name__}")
        await asyncio.sleep(pause)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [SinkSpec(name="redis", make=Redis, options=RedisOptions, doc="A Redis stream")]
