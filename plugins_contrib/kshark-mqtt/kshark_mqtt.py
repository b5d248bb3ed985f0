"""MQTT 3.1.1 and 5: connections, subscriptions and messages, as a grammar.

Section numbers are those of MQTT 5.0. Which version a connection speaks is known from its CONNECT
alone, and a grammar keeps nothing between messages: the properties of version 5 are shown as part of the payload.
"""

from typing import Annotated

import construct as c
from construct import this

from kshark.api import Details, Kind, Redact, doc, hookimpl
from kshark.grammar import Grammar, VarintPrefix

Text = c.PascalString(c.Int16ub, "utf8")
Data = c.Prefixed(c.Int16ub, c.GreedyBytes)
Properties = c.If(this.version == 5, c.Prefixed(c.VarInt, c.GreedyBytes))

Connect = c.Struct(
    "name" / Text,
    "version" / c.Byte,
    "flags" / c.Byte,
    "keepalive" / c.Int16ub,
    "properties" / Properties,
    "client" / Text,
    "will_properties" / c.If(this.flags & 4, Properties),
    "topic" / c.If(this.flags & 4, Text),
    "payload" / c.If(this.flags & 4, Data),
    "user" / c.If(this.flags & 128, Text),
    "password" / c.If(this.flags & 64, Data),
)
Connack = c.Struct("flags" / c.Byte, "code" / c.Byte, "rest" / c.GreedyBytes)
Publish = c.Struct("topic" / Text, "payload" / c.GreedyBytes)
Surely = c.Struct("topic" / Text, "id" / c.Int16ub, "payload" / c.GreedyBytes)  # with QoS 1 and 2
Ack = c.Struct("id" / c.Int16ub, "code" / c.Optional(c.Byte), "rest" / c.GreedyBytes)
Filters = c.Struct("id" / c.Int16ub, "rest" / c.GreedyBytes)
Nothing = c.Struct("rest" / c.GreedyBytes)

KINDS = {  # the first byte: type and flags (section 2.1.2, 2.1.3)
    0x10: ("CONNECT", Kind.REQUEST, Connect),
    0x20: ("CONNACK", Kind.RESPONSE, Connack),
    0x40: ("PUBACK", Kind.RESPONSE, Ack),
    0x50: ("PUBREC", Kind.RESPONSE, Ack),
    0x62: ("PUBREL", Kind.REQUEST, Ack),
    0x70: ("PUBCOMP", Kind.RESPONSE, Ack),
    0x82: ("SUBSCRIBE", Kind.REQUEST, Filters),
    0x90: ("SUBACK", Kind.RESPONSE, Ack),
    0xA2: ("UNSUBSCRIBE", Kind.REQUEST, Filters),
    0xB0: ("UNSUBACK", Kind.RESPONSE, Filters),
    0xC0: ("PINGREQ", Kind.REQUEST, Nothing),
    0xD0: ("PINGRESP", Kind.RESPONSE, Nothing),
    0xE0: ("DISCONNECT", Kind.ONEWAY, Nothing),
    0xF0: ("AUTH", Kind.ONEWAY, Nothing),
    **{0x30 | flags: ("PUBLISH", Kind.ONEWAY, Publish) for flags in (0, 1, 8, 9)},
    **{0x30 | flags: ("PUBLISH", Kind.REQUEST, Surely) for flags in (2, 3, 4, 5, 10, 11, 12, 13)},
}
Packet = c.Struct(
    "type" / c.Byte,
    "length" / c.VarInt,
    "body" / c.Switch(this.type, {code: body for code, (_, _, body) in KINDS.items()}, default=c.Error),
    c.Terminated,
)


class Mqtt(Details):
    packet: Annotated[str, doc("Packet type", otel="messaging.operation.name")] = ""
    topic: Annotated[str | None, doc("Topic", otel="messaging.destination.name")] = None
    qos: Annotated[int, doc("Quality of service of a PUBLISH: 0, 1, 2")] = 0
    id: Annotated[int | None, doc("Packet identifier", otel="messaging.message.id")] = None
    code: Annotated[int | None, doc("Reason code of an answer; 128 and more: refused")] = None
    client: Annotated[str | None, doc("Client id", otel="messaging.client.id")] = None
    version: Annotated[int | None, doc("Protocol version: 3, 4 (3.1.1), 5")] = None
    user: Annotated[str | None, doc("User name")] = None
    password: Annotated[str | None, doc("Password", redact=Redact.VALUE)] = None
    payload: Annotated[str | None, doc("What is published, or the last will")] = None


def name(m):
    return KINDS[m.type][0]


def code(m):
    return getattr(m.body, "code", None) or 0


def key(m):
    """Packet identifiers; the second half of QoS 2, and what has no identifier, apart from them."""
    if name(m) in ("PUBREL", "PUBCOMP"):
        return m.body.id + 0x10000
    return getattr(m.body, "id", None) or 0x20000 + (m.type >> 4 > 2)


def target(m):
    if m.type in (0x82, 0xA2):  # the first filter; version 5 has properties before it, mostly none
        rest = m.body.rest.removeprefix(b"\0") if m.body.rest[:2] == b"\0\0" else m.body.rest
        return rest[2 : 2 + int.from_bytes(rest[:2], "big")]
    return getattr(m.body, "client", None) or getattr(m.body, "topic", "")


def values(m):
    own = {"packet": name(m), "qos": (m.type >> 1) & 3 if name(m) == "PUBLISH" else 0}
    return {"topic": None if "client" in m.body else target(m) or None, **m.body, **own}


GRAMMAR = Grammar(
    "mqtt", Packet, VarintPrefix(at=1, first=KINDS), resync=True,
    kind=lambda m, side: KINDS[m.type][1], verb=name, target=target, status=code, key=key,
    ok=lambda m: code(m) < (1 if name(m) == "CONNACK" else 128),
    request=Mqtt, response=Mqtt, values=values,
)  # fmt: skip


@hookimpl
def register_protocols():
    return [GRAMMAR.spec(doc="MQTT 3.1.1 and 5", ports=(1883,))]
