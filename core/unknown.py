"""Flows that no dissector claims are entries too: ``tcp``, ``udp`` and ``icmp``, with what can be known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from kshark.api import (
    Details,
    Kind,
    Message,
    Outcome,
    ProtocolSpec,
    doc,
    hookimpl,
)
from kshark.wire import END_RST, WireFlow

if TYPE_CHECKING:
    from kshark.flow import Guard


class FlowDetails(Details):
    """One direction of a flow that nobody dissects."""

    packets: Annotated[int, doc("Packets sent, each counted once")] = 0
    bytes: Annotated[int, doc("Payload bytes sent")] = 0
    duration_ns: Annotated[int, doc("From the flow's first packet to its last, in ns")] = 0
    sni: Annotated[
        str, doc("Server name, where a handshake said one (TLS)", otel="tls.client.server_name")
    ] = ""
    reason: Annotated[str, doc("Why no dissector took the flow, or how it ended")] = ""


def whole(
    wire: WireFlow, flip: int, reason: str, name: str, reset: bool
) -> tuple[Message | None, Message | None, Outcome]:
    """A flow as request (what the client sent), response (what came back) and outcome."""
    request = half(wire, flip, Kind.REQUEST, reason, name)
    response = half(wire, 1 - flip, Kind.RESPONSE, reason, "")
    if response is not None:
        response.ok = not (wire.refused or reset)
    if wire.refused:
        return request, response, Outcome.ERROR
    if request is None:
        return None, response, Outcome.ORPHAN
    if response is None and not wire.midstream:
        return request, None, Outcome.UNANSWERED
    return request, response, Outcome.OK


def half(wire: WireFlow, side: int, kind: Kind, reason: str, name: str) -> Message | None:
    """One direction as a message, so that every sink shows it like any other."""
    packets = wire.packets(side)
    if not (packets or wire.bytes(side)):  # a flow within another has bytes alone
        return None
    duration = wire.last_ns - wire.first_ns
    details = FlowDetails(
        packets=packets, bytes=wire.bytes(side), duration_ns=duration, sni=name, reason=reason
    )
    return Message(
        kind,
        verb="FLOW" if kind == Kind.REQUEST else "",
        target=name,
        size=details.bytes,
        first_ns=wire.first_at(side),
        last_ns=wire.last_ns,
        extra=details,
    )


def flow_details(message: Message) -> Details:
    """Details of a `summary`."""
    return message.extra if isinstance(message.extra, FlowDetails) else FlowDetails()


@hookimpl
def register_protocols() -> Iterable[ProtocolSpec]:
    """tcp, udp, icmp."""
    text = {
        "tcp": "TCP connections that no dissector claims: bytes, packets, the name of a TLS server",
        "udp": "UDP conversations that no dissector claims",
        "icmp": "ICMP and ICMPv6 conversations",
    }
    return [
        ProtocolSpec(
            name=name,
            doc=line,
            transport=name,
            request=FlowDetails,
            response=FlowDetails,
            details=flow_details,
        )
        for name, line in text.items()
    ]


def emit_flow(guard: Guard, end: int) -> None:
    """A flow that nobody dissected, as an entry of its own."""
    wire, engine = guard.wire, guard.engine
    name = guard.server_name
    request, response, outcome = whole(wire, guard.flip, guard.reason, name, end == END_RST)
    if request is None and response is None:
        return  # a flow within another, of which nothing came
    flow = engine.describe(wire, bool(guard.flip), engine.transport(wire), guard.reason)
    emitter = engine.emitter(flow, guard.midstream, wire, guard.emitter)
    emitter.emit(request, response, outcome, False)


def emit_last(guard: Guard, end: int, ns: int, opaque: bool) -> None:
    """The flow is over. Where nothing else tells of it, it is an entry: at once, or after what it carries in clear."""
    unshown = opaque or guard.emitter is None or guard.emitter.silent()
    if guard.clear is not None:
        guard.clear.ended(end, ns, unshown)
    elif unshown:
        emit_flow(guard, end)
