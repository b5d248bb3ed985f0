"""Forty minutes of calls whose rates, errors and latencies are known, with twelve minutes of trouble in them.

Every `STEP` seconds the same calls come. ``cart`` (HTTP) answers in 20 ms, ``pay`` (HTTP) in 5 ms and ``cache``
(Redis) in 500 us. In trouble every fifth call of ``cart`` is a 503, and ``pay`` takes two seconds and leaves one
call of fifteen without an answer; meanwhile a sink and a backend lose something, and node b is down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome

STEP: Final = 15
"""Seconds between two scrapes."""
LENGTH: Final = 40 * 60
TROUBLE: Final = range(10 * 60, 22 * 60)
"""Seconds of the trouble."""
IN_TROUBLE: Final = 21 * 60 + 30
"""A moment at which every alert has had its time."""
AFTER: Final = 38 * 60
"""A moment at which all have had time to cease."""
NS: Final = 1_000_000_000


class Service(NamedTuple):
    """One that answers."""

    protocol: str
    name: str
    ip: str
    port: int
    verb: str
    target: str
    calls: int  # a step
    latency_ns: int


CART: Final = Service("http", "cart", "10.0.0.2", 80, "GET", "/cart", 30, 20_000_000)
PAY: Final = Service("http", "pay", "10.0.0.3", 8080, "POST", "/pay", 15, 5_000_000)
CACHE: Final = Service("redis", "cache", "10.0.0.4", 6379, "GET", "user:1", 15, 500_000)
SERVICES: Final = (CART, PAY, CACHE)


def calls(start: int, second: int) -> Iterator[Entry]:
    """The calls of the step that begins so many seconds after `start` (seconds since the epoch)."""
    for number, service in enumerate(SERVICES):
        for n in range(service.calls):
            first = (start + second) * NS + (n * STEP * NS) // service.calls + number
            yield call(service, second * 100 + n, first, second in TROUBLE)


def call(service: Service, seq: int, first: int, trouble: bool) -> Entry:
    flow = Flow(
        service.name, "tcp", Endpoint("10.0.0.1", 40_000), Endpoint(service.ip, service.port, service.name),
        protocol=service.protocol, backend="ebpf",
    )  # fmt: skip
    latency = 2 * NS if trouble and service is PAY else service.latency_ns
    failed = trouble and service is CART and seq % 5 == 0
    status = 0 if service is CACHE else 503 if failed else 200
    request = Message(
        Kind.REQUEST,
        verb=service.verb,
        target=service.target,
        size=100,
        first_ns=first,
        last_ns=first,
    )
    answered = first + latency
    response = Message(
        Kind.RESPONSE, status=status, ok=not failed, size=900, first_ns=answered, last_ns=answered
    )
    entry = Entry(
        flow, seq, service.protocol, request, response, Outcome.ERROR if failed else Outcome.OK
    )
    if trouble and service is PAY and seq % 100 == 7:
        entry.response, entry.outcome = None, Outcome.UNANSWERED
    return entry


def books(second: int) -> dict[str, Any]:
    """The ledger at that moment: 1,000 packets a second, of which one in ten cannot be read."""
    bad = max(0, min(second, TROUBLE.stop) - TROUBLE.start)  # seconds of trouble so far
    entries = second * 4
    return {
        "packets": {"received": second * 1000, "dissected": second * 900, "late": 0,
                    "opaque": {"encrypted": second * 100}, "dropped": {}},
        "flows": {"http": second * 3, "redis": second},
        "messages": {"requests": second * 4},
        "entries": {"ok": entries - bad, "error": bad},
        "limits": {"shed": bad},
        "errors": {"http: bad chunk": bad * 2},
        "backends": {"ebpf": {"received": second * 1000, "dropped": {"ring full": bad * 10}}},
        "sinks": {"loki": {"entries": entries, "filtered": 0, "delivered": entries - bad, "busy": 0,
                           "queued": 30_000 if second in TROUBLE else 0, "dropped": {"oldest": bad}}},
    }  # fmt: skip
