"""Entries to NDJSON: the plain twin, oracle of ``_rows.pyx`` and fallback without a compiler.

A row is assembled from pieces; those that a flow's entries share are made once a flow. The bytes
are what msgspec makes of an `EntryJson`. What UTF-8 cannot express (lone surrogates) becomes U+FFFD,
so that a row is valid JSON whatever a peer sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Final, NamedTuple

from kshark.api import Endpoint, Entry, Flow, Message, Outcome
from kshark.entry_json import SECOND, date_time, notes_of
from kshark.limits import ROW_FLOWS

OK = Outcome.OK
STATUSES: Final = 256
"""Status codes whose part of a row is kept."""
SOUND: Final = ',"gap_bytes":0,"midstream":false,"truncated":false'
_quoted = encode_basestring  # `quote`, at the cost of a C function
_LONE = re.compile("[\ud800-\udfff]")


def scrub(text: str) -> str:
    """Replace each surrogate by U+FFFD.

    >>> scrub("caf\\udce9")
    'caf\\ufffd'
    """
    return _LONE.sub("\ufffd", text)


def quote(text: str) -> str:
    """A JSON string, quoted; not yet scrubbed.

    >>> quote('say "hi"\\n')
    '"say \\\\"hi\\\\"\\\\n"'
    """
    return encode_basestring(text)


class FlowPieces(NamedTuple):
    """The parts of a row that entries of a flow share, and what they were made from."""

    flow: Flow
    client: Endpoint
    server: Endpoint
    protocol: str
    head: str  # {"id":"FLOW-
    ends: str  # ","protocol": ... "request":
    swapped: str  # the same with src and dst exchanged
    backend: str  # ,"backend":"..."
    plain: str  # all that follows the times where nothing is wrong

    def fits(self, flow: Flow, protocol: str) -> bool:
        """Whether they are still true: enrichers replace endpoints, and flows change protocol."""
        return (
            self.flow is flow
            and self.client is flow.client
            and self.server is flow.server
            and self.protocol is protocol
        )


def endpoint(end: Endpoint) -> str:
    """One end as JSON."""
    name = "null" if end.name is None else quote(end.name)
    dns = "" if end.dns is None else f',"dns":{quote(end.dns)}'
    pid = "" if end.pid is None else f',"pid":{end.pid:d}'
    comm = "" if end.comm is None else f',"comm":{quote(end.comm)}'
    tid = "" if end.tid is None else f',"tid":{end.tid:d}'
    cgroup = "" if end.cgroup is None else f',"cgroup":{quote(end.cgroup)}'
    netns = "" if end.netns is None else f',"netns":{end.netns:d}'
    whose = f"{pid}{comm}{tid}{cgroup}{netns}"
    return f'{{"ip":{quote(end.ip)},"port":{end.port:d},"name":{name}{dns}{whose}}}'


def pieces(flow: Flow, protocol: str) -> FlowPieces:
    """Make the shared parts of a flow's rows."""
    client, server = endpoint(flow.client), endpoint(flow.server)
    backend = f',"backend":{quote(flow.backend)}'
    names = f'","protocol":{quote(protocol)},"transport":{quote(flow.transport)}'
    return FlowPieces(
        flow=flow,
        client=flow.client,
        server=flow.server,
        protocol=protocol,
        head=f'{{"id":{quote(flow.id)[:-1]}-',
        ends=f'{names},"src":{client},"dst":{server},"request":',
        swapped=f'{names},"src":{server},"dst":{client},"request":',
        backend=backend,
        plain=f',"outcome":"ok"{SOUND}{backend}}}\n',
    )


class FlowCache:
    """`FlowPieces` by flow, in two generations: the least used go, a lookup is one dict access."""

    def __init__(self) -> None:
        self.young: dict[int, FlowPieces] = {}
        self._old: dict[int, FlowPieces] = {}

    def find(self, flow: Flow, protocol: str) -> FlowPieces:
        """The pieces for an entry of this flow; they hold the flow, so its id() stays its own."""
        found = self.young.get(id(flow)) or self._old.get(id(flow))
        if found is None or not found.fits(flow, protocol):
            found = pieces(flow, protocol)
        if len(self.young) >= ROW_FLOWS:
            self._old, self.young = self.young, {}
        self.young[id(flow)] = found
        return found


class Rows:
    """Renders rows; keeps what the next ones are likely to share."""

    def __init__(self) -> None:
        self._flows = FlowCache()
        self._from = self._until = 0  # ns: the second of which the date and time are kept
        self._date_time = ""
        self._answers: dict[int, str] = {}

    def encode(self, batch: Sequence[Entry], objects: Sequence[bytes] = ()) -> bytes:
        """One line an entry; `objects`, if given, are members that go before each closing brace."""
        if objects:
            lines = map(self._with_object, batch, objects)
            return b"".join(lines)
        return self._encode([self._row(entry) for entry in batch])

    def _with_object(self, entry: Entry, members: bytes) -> bytes:
        return self._encode([self._row(entry)])[:-2] + members + b"}\n"

    def _encode(self, rows: list[str]) -> bytes:
        text = "".join(rows)
        try:
            return text.encode()
        except UnicodeEncodeError:
            return scrub(text).encode()

    def _row(self, entry: Entry) -> str:
        flow, flows = entry.flow, self._flows
        shared = flows.young.get(id(flow))
        if (
            shared is None or shared[0] is not flow or shared[3] is not entry.protocol
            or shared[1] is not flow.client or shared[2] is not flow.server
        ):  # fmt: skip
            shared = flows.find(flow, entry.protocol)
        request, response = entry.request, entry.response
        if (
            request is None or response is None or entry.outcome is not OK or not response.ok
            or response.target or request.notes or response.notes or entry.gap_bytes
            or entry.midstream or entry.truncated or entry.swapped
        ):  # fmt: skip
            return self._any_row(entry, shared)
        _, _, _, _, head, ends, _, _, plain = shared
        asked_ns, answered_ns, status = request.first_ns, response.first_ns, response.status
        if self._from <= asked_ns <= answered_ns < self._until:
            date = self._date_time
            when, then = f"{date}.{str(asked_ns)[-9:]}Z", f"{date}.{str(answered_ns)[-9:]}Z"
        else:
            when, then = self._time(asked_ns), self._time(answered_ns)
        # "+" makes plain integers of booleans and enumerations; a format of its own would cost more
        return (
            f'{head}{+entry.seq}","time":"{when}{ends}{{"verb":{_quoted(request.verb)}'
            f',"target":{_quoted(request.target)},"size":{+request.size},"time":"{when}"}}'
            f'{self._answers.get(status) or self._answer(status)}{+response.size},"time":"{then}"}}'
            f',"latency_ns":{answered_ns - asked_ns},"duration_ns":{response.last_ns - asked_ns}'
            f"{plain}"
        )

    def _answer(self, status: int) -> str:
        """What a good status makes of a row, up to the size. There are few of them, in most protocols."""
        text = f',"response":{{"status":{f"{status:d}" if status else "null"},"ok":true,"size":'
        if len(self._answers) < STATUSES:
            self._answers[status] = text
        return text

    def _any_row(self, entry: Entry, shared: FlowPieces) -> str:
        request, response = entry.request, entry.response
        latency = duration = "null"
        asked = answered = "null"
        when = ""
        if response is not None:
            when = self._time(response.first_ns)
            answered = _response(response, when)
        if request is not None:
            when = self._time(request.first_ns)
            asked = (
                f'{{"verb":{quote(request.verb)},"target":{quote(request.target)},'
                f'"size":{request.size:d},"time":"{when}"}}'
            )
            if response is not None:
                latency = f"{response.first_ns - request.first_ns:d}"
                duration = f"{response.last_ns - request.first_ns:d}"
        return (
            f'{shared.head}{entry.seq:d}","time":"{when}'
            f"{shared.swapped if entry.swapped else shared.ends}{asked}"
            f',"response":{answered},"latency_ns":{latency},"duration_ns":{duration}'
            f',"outcome":"{str.__str__(entry.outcome)}","gap_bytes":{entry.gap_bytes:d}'
            f',"midstream":{"true" if entry.midstream else "false"}'
            f',"truncated":{"true" if entry.truncated else "false"}'
            f"{shared.backend}{notes(request, response)}}}\n"
        )

    def _time(self, ns: int) -> str:
        if not self._from <= ns < self._until:
            second = ns // SECOND
            if second <= 0:  # its digits would not do
                return f"{date_time(second)}.{ns % SECOND:09d}Z"
            self._from, self._until = second * SECOND, (second + 1) * SECOND
            self._date_time = date_time(second)
        return f"{self._date_time}.{str(ns)[-9:]}Z"


def _response(message: Message, when: str) -> str:
    status = f"{message.status:d}" if message.status else "null"
    error = f',"error":{quote(message.target)}' if message.target and not message.ok else ""
    return (
        f'{{"status":{status},"ok":{"true" if message.ok else "false"},'
        f'"size":{message.size:d},"time":"{when}"{error}}}'
    )


def notes(request: Message | None, response: Message | None) -> str:
    """The member "notes" as JSON, or nothing."""
    if not (request is not None and request.notes) and not (
        response is not None and response.notes
    ):
        return ""
    return f',"notes":[{",".join(map(quote, notes_of(request, response)))}]'


def weigh(batch: Sequence[Entry]) -> int:
    """Bytes of heads and bodies."""
    total = 0
    for entry in batch:
        request, response = entry.request, entry.response
        if request is not None:
            total += len(request.head) + len(request.body)
        if response is not None:
            total += len(response.head) + len(response.body)
    return total
