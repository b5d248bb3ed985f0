"""Everything that the author of a kshark plugin needs: one module, nothing else to learn.

A plugin is any object (usually a module) whose functions are marked with ``@hookimpl``; it is found through the
entry-point group ``kshark`` or by ``--plugin path/to/file.py``. The built-in protocols, backends and sinks are
plugins by this same module. The hooks (`kshark.hookspecs`), each optional: ``register_protocols() -> [ProtocolSpec]``,
``register_backends() -> [BackendSpec]``, ``register_sinks() -> [SinkSpec]``,
``register_enrichers() -> [EnricherSpec]``, ``register_commands(cli)``, which adds commands to a ``click.Group``.

    >>> from kshark.api import ProtocolSpec, hookimpl
    >>> class Echo:
    ...     def feed(self, side, data): return ()
    ...     def gap(self, side, missing): return ()
    ...     def close(self): return ()
    >>> @hookimpl
    ... def register_protocols(): return [ProtocolSpec(name="echo", dissector=Echo, magic=(b"ECHO ",))]

Units: every time is an integer of nanoseconds since the epoch, every size is in bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec
import pluggy

if TYPE_CHECKING:
    from kshark._framed import Stepper

hookimpl = pluggy.HookimplMarker("kshark")
API_VERSION = 1


# ---------------------------------------------------------------- what a dissector says
class Side(IntEnum):
    """Who sent the bytes: the one who asks (CLIENT) or the one who answers (SERVER)."""

    CLIENT = 0
    SERVER = 1


class Kind(IntEnum):
    """What a message is to its pair. INTERIM answers without ending the wait (HTTP 100, 103)."""

    REQUEST = 1
    RESPONSE = 2
    INTERIM = 3
    ONEWAY = 4


class Verdict(IntEnum):
    """A probe's opinion of the first bytes of one side of a flow."""

    NO = 0
    MORE = 1
    LIKELY = 2
    CERTAIN = 3


class Outcome(StrEnum):
    """How an exchange ended.

    ``ok`` and ``error`` are whole pairs (or one-way messages); ``unanswered``: nothing came back;
    ``orphan``: the answer to a request that was not seen; ``cut``: bytes that decide were lost.
    """

    OK = "ok"
    ERROR = "error"
    UNANSWERED = "unanswered"
    ORPHAN = "orphan"
    CUT = "cut"


class Message(msgspec.Struct, gc=False):
    """One protocol data unit, as cheap as possible: what a list row shows, and the raw bytes.

    A dissector fills it and forgets it; the engine dates it and pairs it. ``size`` counts every byte
    that the dissector consumed for this message since the last one of that side ended, so that sizes
    add up to the stream (a capped ``body`` does not change it).
    """

    kind: int
    verb: str = ""  # GET, SET, a gRPC method ...
    target: str = ""  # path, key, topic; of a response: the text of its error, else empty
    status: int = 0  # the protocol's status code, 0 where it has none
    ok: bool = True
    key: int = 0  # pairing key: 0 = in order, else stream id or correlation id
    size: int = 0
    head: bytes = b""  # raw, may hold secrets: for details() only
    body: bytes = b""  # raw and capped (BODY_KEPT)
    truncated: bool = False  # bytes are missing from head or body: capped, cut or lost
    notes: tuple[str, ...] = ()  # "bad-chunk"; "resync": its size includes bytes skipped
    gap_bytes: int = 0  # bytes of this message that the capture lost
    first_ns: int = 0  # dated by the engine while 0
    last_ns: int = 0
    extra: Any = None  # what details() needs beside head and body; the protocol's own
    cut: bool = False  # its end was not seen: lost in a gap, or the flow ended inside it
    side: int = -1  # who sent it, where that is not the side that was fed; in close()
    protocol: str = ""  # one on top of the flow's own, whose entry this is: gRPC on HTTP/2


class Switch(msgspec.Struct, frozen=True):
    """Yielded by a dissector to hand the flow over (HTTP Upgrade, CONNECT, STARTTLS).

    ``protocol`` is a name, or "" to identify afresh. ``client`` and ``server`` are the bytes of each side that
    the old dissector was given and that belong to the new one. ``context`` is for the new one's `switched`, and
    so is ``request``: the client's last request, where the new protocol answers it. With ``opaque`` (why) nobody
    takes over: what follows cannot be read; a ``context`` that is text is then the server's name in its entry.
    """

    protocol: str = ""
    client: bytes = b""
    server: bytes = b""
    context: Any = None
    opaque: str = ""
    request: Message | None = None


class Inner(msgspec.Struct, frozen=True):
    """Yielded by a dissector that finds another protocol within its own (TLS with its keys).

    ``data`` are bytes of ``side`` in the flow within, after ``missing`` bytes that are lost; they are a flow of their
    own, between the same ends, its server's ``name`` (of the first `Inner`) where that is known. ``protocol`` names
    it outright, ``hint`` breaks ties. ``size`` counts the bytes consumed for them, like `Message.size`."""

    side: Side
    data: bytes
    size: int = 0
    missing: int = 0
    protocol: str = ""
    hint: str = ""
    name: str = ""


Item = Message | Switch | Inner
"""What a dissector yields."""


class DissectError(Exception):
    """The peer broke the protocol. Expected and counted; the flow is identified again or turns opaque."""


class NotMine(DissectError):
    """These bytes are another protocol's: identify the flow again."""


class Dissector(Protocol):
    """One instance a flow: synchronous, no I/O, no clock, no globals. ``data`` is yours to keep."""

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        """Take the next bytes of one side; give the messages that they complete. Empty = need more.

        `DissectError` may be raised while iterating, after the messages before it. Then `gap` with
        nothing missing asks for a new start.
        """
        ...

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        """`missing` bytes of this side were lost. Skip them if the framing allows, else start over."""
        ...

    def close(self) -> Iterable[Item]:
        """The flow ended: give what only its end completes, and what it cut (``cut=True``)."""
        ...

    # Optional: ``inside(side) -> bool``. True while that side is within a message whose extent is known (a counted
    # body, or one until the end), so that a gap there loses no pair, a long body is not taken for silence and a slow
    # answer that has begun not for none. ``answering(side, key) -> bool`` says the last of an answer with a key.
    # Optional: ``switched(switch: Switch) -> Message | None``: told before it is fed what handed the flow over; gives
    # ``switch.request`` back as its own, with its key.
    # Optional: ``carry(layers: Layers) -> None``: told before it is fed whom to ask for layers; see `Layer`.
    # Optional: ``slim() -> int``: memory is short. Forget the bodies kept so far of messages under way, which then
    # end ``truncated``, and give the number of bytes still held. Without it such a flow is not dissected any more.


class Layer(Protocol):
    """A protocol that rides in another's exchanges, as gRPC in HTTP/2: one instance an exchange.

    The carrier's dissector gives it what the exchange carries, as it comes and in order; it gives back messages with
    its own name as ``protocol``. Synchronous, no I/O, no clock, no globals.
    """

    def feed(self, side: Side, data: bytes) -> Iterable[Message]:
        """The next bytes of content from one side; messages that they complete, one-way as a rule."""
        ...

    def gap(self, side: Side, missing: int) -> Iterable[Message]:
        """`missing` bytes of content are lost, -1 where nobody knows how many."""
        ...

    def end(self, side: Side, message: Message) -> Iterable[Message]:
        """The carrier's own message of that side is over, or cut: what to give in its place, mostly itself, changed."""
        ...

    # Optional: ``now: int``, set before each call to when (ns) what it tells came, where the carrier knows: for
    # messages that are given later than they came (their ``first_ns``; 0 is dated by the carrier).
    # Optional: ``slim(side) -> None``: memory is short, forget the content kept of that side. Who has none, and
    # holds much, hears no more of the exchange. ``over(side) -> Iterable[Message]``: a tunnel ends, `end` came first.


Layers = Callable[[str, Message], Layer | None]
"""Asked by a carrier's dissector when it knows a request's head, which it gives: the content type, or ``:protocol``."""


class Take(msgspec.Struct, frozen=True):
    """Yielded in a `Framed.parse`: consume `size` bytes, and get the first `keep` of them.

    What a counted body wants: it may be longer than ``Framed.limit``, and a gap within it is
    skipped (the next message then has ``gap_bytes`` and ``truncated``, and less is kept).
    """

    size: int
    keep: int = 65_536


Step = int | bytes | Take | Message | Switch | Inner


class Framed:
    """The pleasant way to write a dissector: one generator a side, and the bytes come when you ask.

    ``data = yield 5`` gives five bytes, ``line = yield b"\\r\\n"`` all up to and with a delimiter, ``body = yield
    Take(n)`` the kept part of a long body. ``yield Message(...)`` emits; a ``size`` of 0 becomes the bytes consumed
    since the last message. Returning ignores the rest of that side. When the flow ends, `EOFError` (with what had
    come of the piece) is raised at your ``yield``: catch it only to give a message that the end completes or cuts.
    Override `resync` to find the next message after a gap or an error; `parse` then starts afresh, and that message
    has the note "resync" if bytes were passed over.

        >>> class Line(Framed):
        ...     def parse(self, side):
        ...         while True:
        ...             line = yield b"\\n"
        ...             yield Message(Kind.REQUEST, verb=line.decode("latin-1").strip())
        >>> [m.verb for m in Line().feed(Side.CLIENT, b"one\\ntwo\\nthr")]
        ['one', 'two']
    """

    _steppers: tuple[Stepper, Stepper]
    limit = 65_536  # longest piece that may be asked for or searched, in bytes

    def parse(self, side: Side) -> Generator[Step, bytes, None]:
        """Yield what you need or what you found; raise `DissectError` where the peer is wrong."""
        raise NotImplementedError

    def resync(self, side: Side, data: bytes) -> int:
        """After a gap or an error: the offset in `data` at which a message begins, or -1 for "not in here".

        After a gap `data` begins anywhere, within a word too; after a `DissectError` it is what came next,
        and may begin at a message. After -1 the last 256 bytes come again, with what follows them.
        """
        return -1

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        from kshark._framed import Stepper

        self = super().__new__(cls)  # here, so that a subclass may have an __init__ of its own
        self._steppers = (Stepper(self, Side.CLIENT), Stepper(self, Side.SERVER))
        return self

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        return self._steppers[side].feed(data)

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        return self._steppers[side].gap(missing)

    def inside(self, side: Side) -> bool:
        return self._steppers[side].inside()

    def close(self) -> Iterable[Item]:
        return [*self._steppers[0].close(), *self._steppers[1].close()]


# ---------------------------------------------------------------- what a protocol declares
class Redact(StrEnum):
    """Redaction class of a schema field: what is hidden before an entry reaches any sink."""

    NONE = ""
    VALUE = "value"  # the whole value
    URL = "url"  # user info and secret query parameters
    HEADERS = "headers"  # values of secret names in a list of (name, value)
    BODY = "body"  # values of secret names in a form, multipart, JSON or XML


def doc(text: str, *, otel: str = "", redact: Redact = Redact.NONE) -> msgspec.Meta:
    """Describe a schema field: its doc line, OpenTelemetry attribute name and redaction class.

    >>> from typing import Annotated
    >>> class Login(Details):
    ...     password: Annotated[str, doc("What the user typed", redact=Redact.VALUE)] = ""
    """
    if not isinstance(redact, Redact):
        names = ", ".join(f"Redact.{one.name}" for one in Redact)
        raise TypeError(f"redact must be one of {names}, not {redact!r}")
    return msgspec.Meta(description=text, extra={"otel": otel, "redact": redact.value})


class Details(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of a protocol's typed schema; annotate every field with `doc`."""


def never() -> Dissector:
    """The dissector of a protocol that has none: it is what nobody dissects, or a layer."""
    raise PluginError("this protocol has no dissector of its own")


class ProtocolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol: how to recognise it, who dissects it, what its fields are.

    ``magic`` are prefixes of the client's first bytes, ``replies`` of the server's; ``probe`` is asked where no
    prefix decides, once for each possible side. ``ports`` break ties between probes that are equally sure; by
    themselves they decide nothing. ``also`` is the same protocol on another transport, where it is framed otherwise:
    a spec of the same name and schema (`msgspec.structs.replace` makes it), with a dissector and a probe of its own.

    A user's ``options`` (as those of a sink: ``[protocol.NAME]``, ``KSHARK_PROTOCOL_NAME_KEY``) are given to
    ``configure`` before anything is captured; what that returns takes the spec's place.
    ``secrets`` is told the key logs that captures hold. A protocol that has it may hold any other, once it is
    decrypted: it is dissected whatever is asked for.

    ``over`` names protocols that this one may come in: they are dissected wherever it is asked for. ``layer``, of one
    that rides in them, gives a `Layer` for each request whose content type or ``:protocol`` begins with a ``types``.
    """

    name: str
    dissector: Callable[[], Dissector] = never
    doc: str = ""
    transport: str = "tcp"
    magic: tuple[bytes, ...] = ()
    replies: tuple[bytes, ...] = ()
    ports: tuple[int, ...] = ()
    probe: Callable[[bytes, Side], Verdict] | None = None
    request: type[Details] | None = None
    response: type[Details] | None = None
    details: Callable[[Message], Details] | None = None
    target_redact: Redact = Redact.NONE  # of Message.target
    also: tuple[ProtocolSpec, ...] = ()  # DNS: over TCP, and also over UDP
    over: tuple[str, ...] = ()  # WebSocket: over "http"
    layer: Callable[[Message], Layer | None] | None = None
    types: tuple[str, ...] = ()  # gRPC: "application/grpc"
    options: type[Options] | None = None
    configure: Callable[[Any], ProtocolSpec] | None = None
    secrets: Callable[[bytes], None] | None = None


# ---------------------------------------------------------------- what sinks receive
class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a flow. ``None`` is "not known", never a guess."""

    ip: str
    port: int
    name: str | None = None
    pid: int | None = None
    comm: str | None = None
    dns: str | None = None  # the name that the other end asked DNS for, and got this address
    tid: int | None = None  # the thread that used it first
    cgroup: str | None = None  # path of the process's control group, "/" where it is in none
    netns: int | None = None  # inode of the network namespace, as in ls -i /proc/PID/ns/net


class Flow(msgspec.Struct, gc=False):
    """A conversation between two endpoints; shared by its entries."""

    id: str
    transport: str
    client: Endpoint
    server: Endpoint
    backend: str = ""
    iface: str = ""
    protocol: str = ""
    reason: str = ""  # why this protocol was chosen, or why none was
    began_ns: int = 0  # its first packet; of a flow within another one, that one's


class Packet(msgspec.Struct, frozen=True):
    """A captured packet, for sinks that store packets."""

    time_ns: int
    data: bytes
    wire_len: int
    linktype: int
    iface: str


class Entry(msgspec.Struct, gc=False):
    """A request with its response, or the half that was seen: what every sink receives."""

    flow: Flow
    seq: int  # number of this entry in its flow
    protocol: str
    request: Message | None
    response: Message | None
    outcome: Outcome
    gap_bytes: int = 0
    midstream: bool = False
    truncated: bool = False
    swapped: bool = False  # the server end asked (server push, peer to peer)
    packets: Sequence[Packet] = ()  # with a sink that stores packets only
    extra: dict[str, Details] | None = None  # by enrichers, by the names in `EnricherSpec.adds`

    @property
    def id(self) -> str:
        """Unique, and the same in every replay."""
        return f"{self.flow.id}-{self.seq}"

    @property
    def src(self) -> Endpoint:
        """Who asked."""
        return self.flow.server if self.swapped else self.flow.client

    @property
    def dst(self) -> Endpoint:
        """Who answers."""
        return self.flow.client if self.swapped else self.flow.server

    @property
    def time_ns(self) -> int:
        """First byte of the request, or of the response where there is no request."""
        return (self.request or self.response).first_ns  # type: ignore[union-attr]

    @property
    def latency_ns(self) -> int | None:
        """First byte of the request to first byte of the response."""
        if self.request is None or self.response is None:
            return None
        return self.response.first_ns - self.request.first_ns


# ---------------------------------------------------------------- backends, sinks, enrichers
class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Typed options of a backend, sink or enricher; annotate every field with `option`.

    One declaration serves ``--sink name:target,key=value``, the TOML table and the environment
    variable ``KSHARK_SINK_NAME_KEY``. The field called ``target`` is what follows the colon.
    """


def option(text: str, *, unit: str = "") -> msgspec.Meta:
    """Describe an option; ``unit`` "bytes" reads 1MiB, "seconds" reads 5m, "file" is a file of its own."""
    return msgspec.Meta(description=text, extra={"unit": unit})


class Block(msgspec.Struct):
    """Packets from a backend. ``data`` is borrowed until the engine's ``feed`` returns.

    ``index`` holds `count` records of `INDEX_FORMAT`: time_ns, offset into data, captured length, wire length,
    interface number (into ``ifaces``), flags. No ``ifaces``: the capture cannot have but one, and none of its packets
    was seen on another, too. ``secrets`` are key logs that the capture holds, for `ProtocolSpec.secrets`. ``within``
    ("tls"): these packets are what connections carry in clear; see docs/carriers.md.
    """

    data: Any  # buffer
    index: Any  # buffer
    count: int
    linktype: int
    ifaces: tuple[str, ...] = ("",)
    secrets: tuple[bytes, ...] = ()
    within: str = ""


INDEX_FORMAT = "<qIIIHH"  # 24 bytes a packet


class Coverage(msgspec.Struct, frozen=True):
    """Whether what a process says over TLS is read in clear."""

    pid: int
    comm: str
    library: str  # "" where it is not known
    hooked: bool
    why: str = ""  # why it is not


class CaptureStats(msgspec.Struct):
    """A backend's own books: packets handed over, and packets lost before kshark saw them, by reason."""

    received: int = 0
    dropped: dict[str, int] = {}
    notes: list[str] = []  # "last record truncated", "eth1 appeared"
    facts: dict[str, str] = {}  # how it captures ("hooks": "fentry"), for the ledger and metrics
    coverage: list[Coverage] = []  # of processes that were seen to speak TLS
    spared: dict[str, int] = {}  # bytes not copied, since nobody reads them: no loss


class Backend(Protocol):
    """A source of packets. `live` ones may lose packets when the engine is slow, files wait.

    One with ``drains = True`` still gives what it holds after `close`, then ends `blocks` itself. While ``grows`` is
    true (a pipe, a growing file), time passes without packets. Optional: ``check() -> None`` may raise `PluginError`
    before sinks are opened; ``renew(options) -> None`` takes other options while it runs, or raises one; ``name(flow:
    Flow) -> None`` may give a flow's endpoints a `pid` and the like, asked until both have one; ``opaque(flow: Flow,
    seen_ns: int) -> None``: nobody reads this TCP connection, as of its packet at `seen_ns`: spare its payload.
    """

    live: bool

    def blocks(self) -> AsyncIterator[Block]:
        """Yield blocks until the end or cancellation; raise `PluginError` for what a user can mend."""
        ...

    def stats(self) -> CaptureStats: ...
    async def close(self) -> None: ...


class SinkBusy(Exception):
    """Raised by `Sink.write` to be given the same batch again after a pause."""


class PluginError(Exception):
    """Something the user can mend; its text is one line that says what to do. Exit code 2 or 1."""


class SinkStats(msgspec.Struct):
    """Books of a sink that delivers later than `write` returns: what it holds, was told to leave out, and lost."""

    held: int = 0
    filtered: int = 0
    dropped: dict[str, int] = {}


class Sink(Protocol):
    """A place for entries: its own queue, policy and counters are the engine's business.

    At the end of a file, one that takes nothing is given up after a while; not so while its attribute
    ``waits_for_reader`` (optional) is true. Optional, for one that gathers entries and sends them later:
    ``stats() -> SinkStats``, and a coroutine ``flush()``, awaited (as long as it delivers) before `close` at the end.
    """

    async def open(self) -> None: ...
    async def write(self, batch: Sequence[Entry]) -> None: ...
    async def close(self) -> None: ...


class Enricher(Protocol):
    """Changes or drops entries, a batch at a time, before filters and sinks."""

    def enrich(self, batch: list[Entry]) -> list[Entry]: ...


class Context(Protocol):
    """What the application offers a sink."""

    protocols: Mapping[str, ProtocolSpec]

    def encode(self, batch: Sequence[Entry], *, full: bool = False) -> bytes:
        """The entries as JSON, one object a line (DESIGN: JSON of an entry)."""
        ...

    def details(self, message: Message, protocol: str) -> Details | None:
        """The typed details of a message, redacted."""
        ...

    def say(self, text: str) -> None:
        """One line to the user (standard error, quiet in a pipe)."""
        ...

    def unshown(self, entry: Entry, error: Exception) -> None:
        """This entry cannot be shown: counted as lost, and said once. The others of its batch go on."""
        ...

    def ledger(self) -> dict[str, Any]:
        """The books of the run at this moment, as `kshark doctor` and the closing line read them."""
        ...


class BackendSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    make: Callable[[Any], Backend]  # takes the options
    options: type[Options] = Options
    doc: str = ""
    available: Callable[[], str] | None = None  # "" or one line: why not, and what to do
    how: Callable[[], str] | None = None  # for `kshark doctor`, where it is available: in which way
    rank: int = 0  # among live backends for --backend auto; 0 = never chosen
    coverage: Callable[[], Sequence[Coverage]] | None = None  # of processes that may speak TLS


class SinkSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    make: Callable[[Any, Context], Sink]  # takes the options and the context
    options: type[Options] = Options
    doc: str = ""
    packets: bool = False  # entries shall carry the packets of their flow


class EnricherSpec(msgspec.Struct, frozen=True, kw_only=True):
    """``adds``: typed objects that it puts into `Entry.extra`, by name; shown with full, like a protocol's.

    It is given entries of ``protocols`` alone (empty: of all); where ``marks``, ``begins`` or ``targets`` are said, of
    those the ones whose request has one of them. Compiled code looks, so that entries of no interest cost nothing.
    """

    name: str
    make: Callable[[Any, Context], Enricher]
    options: type[Options] = Options
    doc: str = ""
    adds: Mapping[str, type[Details]] = {}
    protocols: tuple[str, ...] = ()
    marks: tuple[bytes, ...] = ()  # anywhere in the request's body
    begins: tuple[bytes, ...] = ()  # how that body begins
    targets: tuple[str, ...] = ()  # anywhere in the request's target
