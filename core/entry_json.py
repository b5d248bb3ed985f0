"""The JSON of an entry as types: what ``jsonl`` writes and the JSON Schema is generated from.

`kshark.rows` writes the same bytes much faster than these can be built; tests hold the two
together. Facts that may be unknown for an entry are null; those that few backends know are left out.
"""

from __future__ import annotations

from time import gmtime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kshark.api import Message

_TIME = Meta(
    description="RFC 3339, UTC, nanoseconds",
    pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$",
    extra_json_schema={"format": "date-time"},
)
Time = Annotated[str, _TIME]
Size = Annotated[int, Meta(description="Bytes on the wire that this message consumed")]
Span = Annotated[int, Meta(description="Nanoseconds")]
SECOND: Final = 1_000_000_000  # ns
LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can say


class EndpointJson(msgspec.Struct, kw_only=True):
    """One end of a flow."""

    ip: Annotated[str, Meta(description="IPv4 or IPv6 address")]
    port: Annotated[int, Meta(description="TCP or UDP port; of ICMP the identifier")]
    name: Annotated[str | None, Meta(description="Pod, service or host name; null = not known")]
    dns: Annotated[
        str | UnsetType,
        Meta(description="The name that the other end asked DNS for, and got this address"),
    ] = UNSET
    pid: Annotated[int | UnsetType, Meta(description="Process id")] = UNSET
    comm: Annotated[str | UnsetType, Meta(description="Name of the process")] = UNSET
    tid: Annotated[int | UnsetType, Meta(description="The thread that used it first")] = UNSET
    cgroup: Annotated[
        str | UnsetType, Meta(description="Path of the process's control group; / is none")
    ] = UNSET
    netns: Annotated[
        int | UnsetType,
        Meta(description="Inode of the network namespace, as in ls -i /proc/PID/ns/net"),
    ] = UNSET


class RequestJson(msgspec.Struct, kw_only=True):
    """What was asked."""

    verb: Annotated[str, Meta(description="Method or command")]
    target: Annotated[str, Meta(description="Path, key, topic; secrets redacted")]
    size: Size
    time: Annotated[Time, Meta(description="First byte")]


class ResponseJson(msgspec.Struct, kw_only=True):
    """What came back."""

    status: Annotated[int | None, Meta(description="Status code; null where there is none")]
    ok: Annotated[bool, Meta(description="False: the protocol says it failed")]
    size: Size
    time: Annotated[Time, Meta(description="First byte")]
    error: Annotated[str | UnsetType, Meta(description="Text of the error, where ok is false")] = (
        UNSET
    )


class EntryJson(msgspec.Struct, kw_only=True):
    """A request with its response, or the half that was seen.

    With full, the protocol's own object follows under the protocol's name.
    """

    id: Annotated[str, Meta(description="Unique, and the same in every replay")]
    time: Annotated[Time, Meta(description="First byte of the request, else of the response")]
    protocol: Annotated[str, Meta(description="Protocol; tcp or udp where no dissector claims it")]
    transport: Annotated[str, Meta(description="tcp, udp, icmp ...")]
    src: Annotated[EndpointJson, Meta(description="Who asked")]
    dst: Annotated[EndpointJson, Meta(description="Who answers")]
    request: RequestJson | None
    response: ResponseJson | None
    latency_ns: Annotated[
        Span | None, Meta(description="First byte of the request to first of the response")
    ]
    duration_ns: Annotated[
        Span | None, Meta(description="First byte of the request to last of the response")
    ]
    outcome: Annotated[
        str,
        Meta(
            description="ok and error are whole; unanswered: nothing came back; orphan: the "
            "request was not seen; cut: bytes that decide were lost",
            extra_json_schema={"enum": ["ok", "error", "unanswered", "orphan", "cut"]},
        ),
    ]
    gap_bytes: Annotated[int, Meta(description="Bytes of this exchange that the capture lost")]
    midstream: Annotated[bool, Meta(description="The flow's beginning was not seen")]
    truncated: Annotated[bool, Meta(description="Bytes of a head or body are not kept")]
    backend: Annotated[str, Meta(description="What captured it")]
    notes: Annotated[
        list[str] | UnsetType, Meta(description="What a reader must know of this exchange")
    ] = UNSET


def time_text(ns: int) -> str:
    """RFC 3339 with nine decimals; what no date can express becomes the nearest that can.

    >>> time_text(1_767_323_045_000_000_006)
    '2026-01-02T03:04:05.000000006Z'
    """
    second, rest = divmod(ns, SECOND)
    return f"{date_time(second)}.{rest:09d}Z"


def date_time(second: int) -> str:
    """A second since the epoch as ``2026-01-02T03:04:05``, UTC."""
    year, month, day, hour, minute, second = gmtime(min(max(second, 0), LAST_SECOND))[:6]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def notes_of(request: Message | None, response: Message | None) -> list[str]:
    """The notes of both halves, each once, in order."""
    both = [*(request.notes if request else ()), *(response.notes if response else ())]
    return list(dict.fromkeys(both))
