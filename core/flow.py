"""The guard of one flow: identify it, feed its dissector within budgets, date and pair its messages.

Invariants: whatever a dissector does, nothing escapes from here but what is counted; every packet of the
flow is settled exactly once, as dissected or as opaque with a reason; a flow without any other entry ends
as a ``tcp``, ``udp`` or ``icmp`` entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kshark import limits
from kshark.api import (
    DissectError,
    Dissector,
    Item,
    Kind,
    Message,
    NotMine,
    Outcome,
    Side,
    Switch,
)
from kshark.breaker import ProtocolState, interrupted
from kshark.feeder import Feeder, Found, direct, fault_of
from kshark.given import Rubbish, checked, gather, handed, said, within
from kshark.handover import end_inner, finish, introduce, other
from kshark.identify import Choice, View
from kshark.ledger import Tally
from kshark.overdue import answering
from kshark.pairing import Emitter, Pairing
from kshark.unknown import emit_last
from kshark.window import Window
from kshark.wire import END_EVICTED, END_FIN, END_IDLE, WireFlow
from kshark.wire.listener import Listener

if TYPE_CHECKING:
    from kshark.clear import Carried
    from kshark.engine import Engine

IDENTIFY = 0
DISSECT = 1
OPAQUE = 2
ENDED = 3

SIDES = (Side.CLIENT, Side.SERVER)
REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
INTERIM = int(Kind.INTERIM)

SILENT_BYTES = limits.SILENT_BYTES
EARLY_MESSAGES = limits.EARLY_MESSAGES
MESSAGES = limits.MESSAGES
REPLAYED = limits.REPLAYED
HELD = limits.UNDISSECTED + limits.BODY_KEPT
NO_NOTES = Message(0).notes
NOBODY = "no dissector matched"
EMPTY = "no payload"


class Guard(Listener):
    """A `kshark.wire.Consumer`: takes one flow's chunks, gives entries to the engine."""

    def __init__(self, engine: Engine, wire: WireFlow) -> None:
        self.engine = engine
        self.tally: Tally = engine.tally
        self.wire = wire
        self.state = IDENTIFY
        self.flip = 0  # 1: the wire took the server for the client
        self.oriented = not (wire.midstream and wire.proto == 6)
        self.midstream = wire.midstream
        self.window = Window()  # of identification
        self.refused: frozenset[str] = frozenset()
        # dissection
        self.proto: ProtocolState | None = None
        self.dissector: Dissector | None = None
        self.feed: Callable[[Side, bytes], Iterable[Item]] | None = None
        self.feeder: Feeder | None = None  # the dissector again, where it is fed by `take`
        self.strict = True
        self.emitter: Emitter | None = None
        self.asked: Pairing | None = None  # the client asks
        self.asked_back: Pairing | None = None  # the server asks
        self.messages = self.switches = self.errors = 0
        self.held = [0, 0]  # bytes of unfinished messages, by side
        self.spared = 0  # of them not in memory, since it was short
        self.since = [0, 0]  # when the first of them came
        self.silent = [0, 0]  # bytes since the last message
        self.reserved = self.settled = 0
        self.timed = self.replaying = self.proven = False
        self.reason = self.server_name = self.hint = self.familiar = ""
        self.inner: Guard | None = None  # of the flow within
        self.passed: Message | None = None  # a request that the next dissector may answer
        self.clear: Carried | None = None  # what comes in clear beside this flow

    # ------------------------------------------------------------ what the wire calls

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        """The next bytes of one side."""
        tally = self.tally
        tally.chunks += 1
        tally.payload += len(data)
        if self.state == DISSECT:
            return self.dissect(side ^ self.flip, data, ns)
        if self.state == IDENTIFY:
            return self.identify(side, data, ns)
        return True

    def gap(self, side: int, missing: int, ns: int) -> bool:
        """Bytes of one side are lost."""
        if self.state == DISSECT:
            return self.skip(side ^ self.flip, missing, ns)
        if self.state == IDENTIFY:
            self.midstream = True
            self.forget_window()
            return False
        return True

    def end(self, reason: int, ns: int) -> None:
        """The flow is over: finish what is open and settle its packets."""
        if self.state == ENDED:
            return
        if self.state == IDENTIFY and self.window.spoken():
            choice, _ = self.engine.decide(self.view(self.window.first), True)
            if choice is not None:
                self.begin(choice)
        if reason == END_EVICTED:
            self.engine.since = ns
        if self.state == DISSECT:
            finish(self, ns)
            end_inner(self, reason)
            outcome = Outcome.CUT if reason == END_EVICTED else Outcome.UNANSWERED
            self.close_pairs(outcome, reason in (END_FIN, END_IDLE))
            self.settle("")
        else:
            if self.state == IDENTIFY:
                self.reason = NOBODY if self.window.seen else EMPTY
            self.settle(self.reason)
        emit_last(self, reason, ns, self.state == OPAQUE)
        self.state = ENDED
        self.leave()
        self.forget_window()
        self.engine.forget(self)

    # ------------------------------------------------------------ identification

    def identify(self, side: int, data: bytes, ns: int) -> bool:
        """Keep the bytes, ask the identifier; begin, wait, or give up."""
        window = self.window
        if window.passes(side, len(data)) and not self.engine.begins(self.wire, data):
            return window.seen >= SILENT_BYTES and self.give_up(NOBODY)
        asked = not (window.pieces or self.refused)
        choice = self.engine.assumed(self.wire) if asked else None
        last = window.add(side, data, ns)
        if choice is not None:
            return self.begin(choice)
        self.reserve(0)
        choice, more = self.engine.decide(self.view(window.first), last)
        if choice is None and self.midstream:
            choice = self.fresh(side, data, ns)
        if choice is not None:
            return self.begin(choice)
        if last or (window.both() and not more):
            return self.undecided(side)
        return False

    def fresh(self, side: int, data: bytes, ns: int) -> Choice | None:
        """Joined in mid-stream, a message rather begins with a chunk than where the window does."""
        piece = data[: limits.PROBE_BYTES]
        choice, _ = self.engine.decide(self.view((b"", piece) if side else (piece, b"")), False)
        if choice is not None:
            self.window.replay([(side, data, ns)])
        return choice

    def view(self, first: tuple[bytes, bytes]) -> View:
        wire, transport = self.wire, self.engine.transport(self.wire)
        ports = (wire.client_port, wire.server_port)
        return View(first, ports, self.oriented, transport, self.refused, self.hint)

    def undecided(self, side: int) -> bool:
        """The window is over. A flow joined inside a long message gets further ones, for what comes after it."""
        if self.midstream and self.window.again(side):
            self.forget_window()
            return False
        return self.give_up(NOBODY)

    def forget_window(self) -> None:
        self.window.clear()
        self.reserve(0)

    def begin(self, choice: Choice, after: Switch | None = None) -> bool:
        """Start a dissector and give it what came so far."""
        if choice.flip:
            self.flip ^= 1
        pieces = self.window.pieces
        proto = self.engine.state_of(choice.spec)
        if proto.tripped:
            return self.give_up(proto.tripped)
        self.oriented = True
        proto.flows += 1
        self.proto = proto
        flow = self.engine.describe(self.wire, bool(self.flip), choice.spec.name, choice.reason)
        self.emitter = self.engine.emitter(flow, self.midstream, self.wire, self.emitter)
        self.asked, self.asked_back = self.new_pairing(self.emitter, False), None
        self.strict = proto.strict
        self.state = DISSECT
        try:
            dissector = self.call(choice.spec.dissector)
            if self.strict:
                self.feed = self.call(getattr, dissector, "feed")
                self.feeder = self.call(direct, dissector)
            else:
                self.feed, self.feeder = dissector.feed, direct(dissector)
            if after is not None or choice.spec.name in self.engine.carried:
                introduce(self, dissector, after)
        except BaseException as error:
            return self.broke(error)
        self.dissector = dissector
        self.tally.dissectors += 1
        self.replaying, self.proven = True, False  # pieces stay until the choice has proven itself
        for side, data, ns in pieces:
            if self.dissect(side ^ self.flip, data, ns) or self.dissector is not dissector:
                return self.state == OPAQUE  # another one was fed all of them, if any
        self.replaying = False
        if self.window.held > REPLAYED:
            self.prove()
        return False

    def prove(self) -> None:
        """The choice stands: nothing is kept to be replayed."""
        self.proven = True
        self.window.clear()

    # ------------------------------------------------------------ dissection

    def dissect(self, side: int, data: bytes, ns: int) -> bool:
        """Feed the dissector; true when it wants no more."""
        proto = self.proto
        if proto is None or self.feed is None or proto.tripped:
            return self.give_up(self.switched_off())
        if not (self.proven or self.replaying or self.window.keep(side ^ self.flip, data, ns)):
            self.prove()
        tally = self.tally
        proto.bytes += len(data)
        tally.feeds += 1
        tally.current = proto
        self.held[side] += len(data)
        try:
            if self.feeder is None:
                found = self.feed(SIDES[side], data)
                if type(found) is not list:
                    found, fault = gather(found)
                    if fault is not None:
                        tally.current = None
                        return self.accept(found, side, ns) or self.failed(fault, side, ns)
                tally.current = None
                if found:
                    return self.accept(found, side, ns)
            else:
                into = Found() if self.strict else tally.found  # a stranger may keep it
                into.now = ns
                fault = fault_of(self.feeder, side, data, into)
                tally.current = None
                if fault is not None:
                    over = into.count > 0 and self.accept(into.drain(), side, ns)
                    return over or self.failed(fault, side, ns)
                if into.count == 1:
                    return self.heard(into.only(), side, ns) or self.rest(side, ns)
                if into.count:
                    return self.accept(into.drain(), side, ns)
        except BaseException as error:
            tally.current = None
            tally.found.drain()
            known = isinstance(error, DissectError)
            return self.failed(error, side, ns) if known else self.broke(error)  # type: ignore[arg-type]
        self.since[side] = self.since[side] or ns
        self.silent[side] += len(data)
        self.reserve(min(self.held[0], HELD) + min(self.held[1], HELD) - self.spared)
        return self.silent[side] > SILENT_BYTES and self.quiet(side)

    def accept(self, found: Sequence[Item], side: int, ns: int) -> bool:
        """The messages of one feed."""
        if len(found) > MESSAGES:
            raise Rubbish(f"it gave more than {MESSAGES} messages at once")
        for item in found:
            if self.heard(item, side, ns):
                return True
            if type(item) is Switch:  # another one has the flow now
                return False
        return self.rest(side, ns)

    def heard(self, item: Item | None, side: int, ns: int) -> bool:
        """Date one message and pair it; true when nothing more is wanted."""
        if type(item) is not Message:
            return other(self, handed(item), ns)
        message = checked(item) if self.strict else item
        if message.protocol is not self.familiar:  # that of the last one
            self.registered(message.protocol)
        sender = message.side
        if sender >= 0 and sender != side:
            self.date_other(message, ns)
            self.route(message, sender)
            return False
        first = self.since[side]  # of what was held
        last = first if first > ns else ns  # what closes a hole may be younger than what follows it
        if message.notes is not NO_NOTES and "resync" in message.notes:
            first = last  # what it skipped before belongs to no message ...
            self.lost(side, last)  # ... that anybody has seen
        stamp = last
        if message.first_ns != 0 or message.last_ns != 0:  # the dissector knows better
            message.first_ns = message.first_ns or first or stamp
            message.last_ns = max(message.last_ns or stamp, message.first_ns)
        else:
            message.last_ns = stamp
            message.first_ns = first if first and first != last else stamp
        self.since[side] = last  # what is left came just now
        size = message.size
        self.held[side] -= size
        self.silent[side] = 0
        self.route(message, side)
        return False

    def registered(self, name: str) -> None:
        """A message is of another protocol than its flow."""
        if name and name not in self.engine.states:
            raise Rubbish("it gave a Message of a protocol that is not there")
        self.familiar = name

    def consumed(self, side: int, size: int, ns: int) -> None:
        """Bytes of a side are in no message, but done with."""
        self.held[side] = max(0, self.held[side] - size)
        self.silent[side] = 0
        self.since[side] = ns

    def rest(self, side: int, ns: int) -> bool:
        """What is held after messages is the beginning of the next one, which is wanted: false."""
        self.spared = 0
        if self.held[side] > 0:
            self.since[side] = self.since[side] or ns
            self.reserve(min(self.held[0], HELD) + min(self.held[1], HELD))
        else:
            self.held[side] = self.since[side] = 0
            if self.reserved or not self.proven:
                self.reserve(min(self.held[1 - side], HELD))
        return False

    def date_other(self, message: Message, ns: int) -> None:
        """A message of the side that was not fed (it waited there for this feed)."""
        other = message.side
        message.first_ns = message.first_ns or self.since[other] or ns
        message.last_ns = max(message.last_ns, message.first_ns)
        self.held[other] = max(0, self.held[other] - message.size)
        self.since[other] = self.since[other] if self.held[other] else 0

    def route(self, message: Message, side: int) -> None:
        """Count one message and give it to its pairing."""
        tally = self.tally
        tally.messages += 1
        self.messages += 1
        if not self.proven and self.messages >= EARLY_MESSAGES:
            self.prove()
        what = message.kind
        if what == RESPONSE:
            tally.responses += 1
            pairing = self.pairing(1 - side)
            if pairing.idle() and not message.key and self.inside(1 - side):
                pairing.await_request(message)
            else:
                pairing.response(message)
        elif what == REQUEST:
            tally.requests += 1
            self.pairing(side).request(message)
            if not self.timed:
                self.timed = True
                self.engine.watch(self, message.last_ns)
        elif what == INTERIM:
            tally.interim += 1
            self.pairing(1 - side).interim(message)
        else:
            tally.oneway += 1
            outcome = Outcome.CUT if message.cut else Outcome.OK if message.ok else Outcome.ERROR
            self.pairing(side).emitter.emit(message, None, outcome, side == 1)

    def pairing(self, asker: int) -> Pairing:
        if asker == 0 and self.asked is not None:
            return self.asked
        if self.asked_back is None and self.emitter is not None:
            self.asked_back = self.new_pairing(self.emitter, True)
        assert self.asked_back is not None
        return self.asked_back

    def new_pairing(self, emitter: Emitter, swapped: bool) -> Pairing:
        """Joined in mid-stream, a protocol has requests that nobody saw; not so one that is handed over to."""
        pairing = Pairing(emitter, self.engine.ledger, swapped)
        if self.midstream and not self.switches:
            pairing.last_ns = self.engine.since
            pairing.begin_doubt(0)
        return pairing

    def skip(self, side: int, missing: int, ns: int) -> bool:
        """A hole: the dissector may keep its framing, else pairs are unsure."""
        if not self.running():
            return self.give_up(self.switched_off())
        self.prove()
        try:
            found, fault = self.given("gap", SIDES[side], missing)
            if fault is not None:
                self.count_error(fault)
            if found and self.accept(found, side, ns):
                return True
        except BaseException as error:
            return self.broke(error)
        if not self.inside(side) or any(type(m) is Message and m.cut for m in found):
            self.held[side] = self.since[side] = self.silent[side] = 0
            self.lost(side, ns)
        return False

    def lost(self, side: int, now: int) -> None:
        """Messages of this side may have been lost."""
        if self.asked is not None:
            self.asked.lost(side == 1, now)
        if self.asked_back is not None:
            self.asked_back.lost(side == 0, now)

    def inside(self, side: int) -> bool:
        """Whether the dissector is within a message of known extent (optional in the contract)."""
        try:
            return self.running() and bool(self.call(within, self.dissector, SIDES[side]))
        except BaseException as error:
            self.blame(error)
            return False

    def quiet(self, side: int) -> bool:
        """SILENT_BYTES without a message: fine inside a long body, else not this protocol."""
        self.silent[side] = 0
        if self.inside(side):
            return False
        self.engine.ledger.count(self.engine.ledger.limits, "silent_bytes")
        return self.give_up("1 MiB without a message")

    # ------------------------------------------------------------ when it goes wrong

    def failed(self, error: DissectError, side: int, ns: int) -> bool:
        """The peer broke the protocol, or this is another: identify again, start over, or give up."""
        engine = self.engine
        self.count_error(error)
        self.errors += 1
        young = self.messages < EARLY_MESSAGES and self.engine.assumed(self.wire) is None
        if not self.refused and (young or isinstance(error, NotMine)):
            return self.identify_again()
        if self.errors >= limits.ERRORS:
            engine.ledger.count(engine.ledger.limits, "errors")
            return self.give_up(f"{self.name()}: {said(error)}")
        return self.skip(side, 0, ns)

    def identify_again(self) -> bool:
        """Once: the protocol was chosen wrongly. What it made of the bytes so far is void."""
        self.refused = frozenset((self.name(),))
        pieces = self.window.pieces
        self.leave()
        for pairing in (self.asked, self.asked_back):
            if pairing is not None:
                pairing.forget()
        self.state = IDENTIFY
        self.proven = False
        self.forget_window()
        self.messages = 0
        for side, data, ns in pieces:
            if self.state == DISSECT:
                if self.dissect(side ^ self.flip, data, ns):
                    return True
            elif self.identify(side, data, ns):
                return True
        return False

    def broke(self, error: BaseException) -> bool:
        """A plugin's bug: counted, said once, the flow is quarantined."""
        return self.give_up(f"{self.name()} failed: {self.blame(error)}")

    def blame(self, error: BaseException) -> str:
        """Say and count it; gives what the plugin did."""
        if interrupted(error):
            raise error
        return str(self.engine.blame(self.name(), error))

    def count_error(self, error: DissectError) -> None:
        self.engine.ledger.count(self.engine.ledger.errors, f"{self.name()}: {said(error)}")

    def give_up(self, reason: str) -> bool:
        """From now on the flow is opaque."""
        if self.state == DISSECT:
            self.close_pairs(Outcome.CUT)
            self.settle("")
        self.leave()
        self.reason = reason
        self.state = OPAQUE
        self.forget_window()
        self.engine.turned_opaque(self.wire)
        return True

    def leave(self) -> None:
        """Forget the dissector, and end what was within."""
        end_inner(self, END_EVICTED)
        if self.dissector is not None:
            self.tally.dissectors -= 1
        self.dissector = self.feed = self.feeder = None
        for side in range(2):
            self.held[side] = self.since[side] = self.silent[side] = 0

    def name(self) -> str:
        return self.proto.name if self.proto is not None else ""

    # ------------------------------------------------------------ hand-over and end

    def restart(self) -> None:
        """Nothing is known of what comes now."""
        self.state = IDENTIFY
        self.window = Window()
        self.proven = False
        self.messages = 0
        self.refused = frozenset()

    def route_last(self, message: Message, ns: int) -> None:
        """Date a message that the end completes, and pair it."""
        side = message.side if message.side >= 0 else int(message.kind in (RESPONSE, INTERIM))
        message.first_ns = message.first_ns or self.since[side] or ns
        message.last_ns = max(message.last_ns or self.wire.last_ns, message.first_ns)
        self.route(message, side)

    # ------------------------------------------------------------ calls into the plugin

    def running(self) -> bool:
        """Whether there is a dissector that may be called."""
        return self.dissector is not None and self.proto is not None and not self.proto.tripped

    def switched_off(self) -> str:
        return (self.proto.tripped if self.proto is not None else "") or "no dissector"

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the plugin with the breaker's clock running: `dissect` does the same by itself."""
        tally = self.tally
        tally.feeds += 1
        tally.current = self.proto
        try:
            return function(*arguments)
        finally:
            tally.current = None

    def given(self, name: str, *arguments: Any) -> tuple[list[Item], DissectError | None]:
        """The messages that a method of the dissector gives, and the error that follows them."""
        self.tally.feeds += 1
        self.tally.current = self.proto
        try:
            return gather(getattr(self.dissector, name)(*arguments))
        except DissectError as error:
            return [], error
        finally:
            self.tally.current = None

    def close_pairs(self, outcome: Outcome, over: bool = False) -> None:
        for pairing in (self.asked, self.asked_back):
            if pairing is not None:
                pairing.close(outcome, over)

    def expire(self, now: int) -> int:
        """Requests unanswered for too long; gives when to look again, 0 for never."""
        oldest = 0
        for asker, pairing in ((0, self.asked), (1, self.asked_back)):
            if pairing is not None:
                long = self.held[1 - asker] > 0 and self.inside(1 - asker)
                pairing.expire(now, long, partial(answering, self, SIDES[1 - asker]))
                waits = pairing.oldest()
                oldest = min(oldest, waits) if oldest and waits else oldest or waits
        self.timed = bool(oldest)
        return max(oldest + limits.UNANSWERED, now + limits.SECOND) if oldest else 0

    def reserve(self, amount: int) -> None:
        """Account for the bytes that a dissector holds (buffers grow by an eighth), and for the window."""
        amount = max(0, amount + (amount >> 3))
        if not self.proven:
            amount += self.window.held
        self.tally.reserved += amount - self.reserved
        self.reserved = amount

    def oldest(self) -> int:
        """When the first bytes of an unfinished message came, 0 without one."""
        return min(filter(None, (self.since[0], self.since[1])), default=0)

    def spare(self, left: int) -> None:
        """The dissector holds no more than this, whatever it was fed."""
        self.prove()
        self.spared = min(self.held[0], HELD) + min(self.held[1], HELD) - left
        self.reserve(left)

    def settle(self, reason: str) -> None:
        """The packets since the last time go to dissected (no reason), or to opaque with one."""
        count = self.wire.packets(0) + self.wire.packets(1)
        self.engine.settle(count - self.settled, reason)
        self.settled = count
