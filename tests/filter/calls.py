"""Entries, and a protocol whose schema has every type, for the tests of filters."""

from __future__ import annotations

from typing import Annotated, Any

from kshark.api import (
    Details,
    Endpoint,
    Entry,
    Flow,
    Kind,
    Message,
    Outcome,
    ProtocolSpec,
    Redact,
    doc,
)
from kshark.plugins import load

SECOND = 1_000_000_000
START = 1_767_323_045 * SECOND + 6


class Place(Details):
    city: Annotated[str, doc("City")] = ""
    zone: Annotated[int | None, doc("Zone")] = None


class Ask(Details):
    text: Annotated[str | None, doc("Text")] = None
    number: Annotated[int | None, doc("Number")] = None
    share: Annotated[float | None, doc("Share")] = None
    flag: Annotated[bool | None, doc("Flag")] = None
    blob: Annotated[bytes | None, doc("Blob")] = None
    words: Annotated[list[str], doc("Words")] = []
    numbers: Annotated[list[int], doc("Numbers")] = []
    pairs: Annotated[list[tuple[str, str]], doc("Pairs", redact=Redact.HEADERS)] = []
    table: Annotated[dict[str, str], doc("Table")] = {}
    anything: Annotated[Any, doc("Anything")] = None
    place: Annotated[Place | None, doc("Place")] = None
    secret: Annotated[str, doc("Secret", redact=Redact.VALUE)] = ""


class Answer(Details):
    text: Annotated[str | None, doc("Text")] = None
    number: Annotated[int | None, doc("Number")] = None
    anything: Annotated[Any, doc("Anything")] = None


class Tag(Details):
    """What a made-up enricher says of an entry."""

    text: Annotated[str | None, doc("Text")] = None
    number: Annotated[int | None, doc("Number")] = None
    place: Annotated[Place | None, doc("Place")] = None
    secret: Annotated[str, doc("Secret", redact=Redact.VALUE)] = ""


class Asked:
    """Counts the calls of details()."""

    calls = 0


def details(message: Message) -> Details:
    Asked.calls += 1
    if isinstance(message.extra, Exception):
        raise message.extra
    assert isinstance(message.extra, Details)
    return message.extra


def _never() -> Any:
    raise NotImplementedError


TOY = ProtocolSpec(
    name="toy", dissector=_never, doc="A toy", request=Ask, response=Answer, details=details
)
PROTOCOLS = {**load().protocols, "toy": TOY}
ADDS: dict[str, type[Details]] = {"a-tag": Tag}

CLIENT = Endpoint("10.0.0.1", 40_858, pid=7, comm="curl")
SERVER = Endpoint("10.0.0.2", 80, name="shop")
FLOW = Flow("f0", "tcp", CLIENT, SERVER, "pcap", "eth0", "http")
HEAD = b"GET /r?token=abc HTTP/1.1\r\nHost: a\r\nX-Tenant: a\r\nx-tenant: b\r\nCookie: c=d\r\n\r\n"


def request(**changes: Any) -> Message:
    given = {
        "verb": "GET",
        "target": "/r",
        "size": 80,
        "head": HEAD,
        "first_ns": START,
        "last_ns": START,
        **changes,
    }
    return Message(Kind.REQUEST, **given)


def response(**changes: Any) -> Message:
    given = {
        "status": 503,
        "ok": False,
        "size": 165,
        "head": b"HTTP/1.1 503 Busy\r\nServer: x\r\n\r\n",
        "first_ns": START + 200_000_000,
        "last_ns": START + 300_000_000,
        **changes,
    }
    return Message(Kind.RESPONSE, **given)


def entry(
    req: Message | None,
    res: Message | None,
    protocol: str = "http",
    outcome: Outcome = Outcome.ERROR,
    flow: Flow = FLOW,
    **changes: Any,
) -> Entry:
    return Entry(flow, 3, protocol, req, res, outcome, **changes)


WHOLE = entry(request(), response())
UNANSWERED = entry(request(), None, outcome=Outcome.UNANSWERED)
ORPHAN = entry(None, response(notes=("late",)), outcome=Outcome.ORPHAN)
REDIS = entry(
    request(verb="SET", target="k", head=b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
    response(status=0, ok=True, head=b":12\r\n"),
    "redis",
    Outcome.OK,
)
UNKNOWN = entry(request(verb="FLOW", target="", head=b""), None, "tcp", Outcome.OK, swapped=True)
ALL = {
    "whole": WHOLE,
    "unanswered": UNANSWERED,
    "orphan": ORPHAN,
    "redis": REDIS,
    "unknown": UNKNOWN,
}


def toy(req: Ask | Exception | None = None, res: Answer | Exception | None = None) -> Entry:
    """An entry with these details."""
    asked = None if req is None else request(extra=req)
    return entry(asked, None if res is None else response(extra=res), "toy")
