"""What the comparisons share: where the corpora are, our exchanges, and listed differences."""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from kshark.api import Entry, Message, ProtocolSpec
from kshark.backends.pcap import read_blocks
from kshark.engine import Engine, EngineSettings
from kshark.protocols import dns, http, http2, redis, tls, websocket
from kshark.protocols._body import unpack
from kshark.protocols.http.details import HttpRequest, HttpResponse, codings, details

HERE = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("KSHARK_CORPORA", HERE / ".." / "shared" / "corpora"))
SPECS: list[ProtocolSpec] = [
    *dns.register_protocols(),
    *http.register_protocols(),
    *http2.register_protocols(),
    *redis.register_protocols(),
    *tls.register_protocols(),
    *websocket.register_protocols(),
]
CAPTURES = tuple(
    sorted(
        path.relative_to(CORPORA).as_posix()
        for kind in ("pcap", "pcapng", "trace")
        for path in CORPORA.rglob(f"*.{kind}")
    )
)


def folder() -> Path:
    """`CORPORA`, or a visible skip; CI has them and fails."""
    if not CAPTURES:
        missing = f"no corpora in {CORPORA} (KSHARK_CORPORA says where they are)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return CORPORA


class Exchange(NamedTuple):
    """One entry of HTTP and its typed details, nothing redacted."""

    entry: Entry
    request: HttpRequest | None
    response: HttpResponse | None

    @property
    def uri(self) -> str | None:
        """The target as the client sent it."""
        return None if self.request is None else self.entry.request.target  # type: ignore[union-attr]

    def entry_halves(self) -> list[Message]:
        """The messages that were seen, request first."""
        return [half for half in (self.entry.request, self.entry.response) if half is not None]

    def header(self, name: str) -> str | None:
        """The first header of that name in the request."""
        headers = self.request.headers if self.request else []
        return next((value for key, value in headers if key == name), None)


def replayed(path: Path, *, only: Iterable[str] = ()) -> tuple[Engine, list[Entry]]:
    """Every entry of a capture, and the engine with its books."""
    engine = Engine(SPECS, EngineSettings(only=frozenset(only)))
    entries: list[Entry] = []
    for block in read_blocks(str(path)):
        entries += engine.feed(block)
    entries += engine.finish()
    assert engine.ledger.check() == []
    return engine, entries


@functools.cache
def exchanges(name: str) -> tuple[Exchange, ...]:
    """The entries of HTTP of a capture of the corpora, HTTP alone looked for."""
    _, entries = replayed(CORPORA / name, only=["http"])
    return tuple(exchange(entry) for entry in entries if entry.protocol == "http")


def exchange(entry: Entry) -> Exchange:
    request = None if entry.request is None else details(entry.request)
    response = None if entry.response is None else details(entry.response)
    assert request is None or isinstance(request, HttpRequest)
    assert response is None or isinstance(response, HttpResponse)
    return Exchange(entry, request, response)


def plain(message: Message) -> bytes:
    """The kept body with its content codings undone."""
    headers = details(message).headers
    return unpack(message.body, codings(headers, "content-encoding")).data


def plain_size(message: Message) -> int:
    """Bytes of the body as its reader has it; the kept part is all where a coding was applied."""
    shown = details(message)
    if codings(shown.headers, "content-encoding"):
        return len(plain(message))
    return shown.body_size


def shown_body(half: HttpRequest | HttpResponse) -> bytes:
    """The body as the details show it."""
    if half.body_encoding == "base64":
        return base64.b64decode(half.body)
    return half.body.encode()


# ---------------------------------------------------------------- differences


@dataclass(frozen=True)
class Known:
    """Differences that are the oracle's opinion, or a decision of ours, with the reason."""

    reason: str
    fields: tuple[str, ...]
    where: tuple[object, ...]


Found = dict[tuple[object, str], tuple[object, object]]
"""(where, field) to (what the oracle says, what we say)."""


def settle(found: Found, known: Iterable[Known]) -> None:
    """Fail for each difference that nobody listed, and for each listed one that is no more."""
    listed = {(where, field) for k in known for where in k.where for field in k.fields}
    wrong = [
        f"{where} {field}: theirs {theirs!r}, ours {ours!r}"
        for (where, field), (theirs, ours) in found.items()
        if (where, field) not in listed
    ]
    wrong += [f"{where} {field}: listed, but equal now" for where, field in listed - set(found)]
    assert not wrong, "\n".join(wrong)


def differences(where: object, theirs: Mapping[str, object], ours: Mapping[str, object]) -> Found:
    """The fields of the oracle in which we differ."""
    return {
        (where, name): (value, ours.get(name))
        for name, value in theirs.items()
        if ours.get(name) != value
    }
