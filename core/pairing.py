"""Requests meet their responses: by key, else in order. Plugin authors never write this.

A wrong pair is worse than none. What makes an order unsure (a join in mid-stream, a hole that swallowed an
answer, a request given up on) is remembered, and whatever could belong to two requests is paired with neither;
`kshark.doubt` tells when the order is certain again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kshark import limits, made
from kshark.api import Entry, Flow, Message, Outcome
from kshark.doubt import Doubt
from kshark.ledger import Ledger, Tally
from kshark.wire import WireFlow

OK = Outcome.OK
ERROR = Outcome.ERROR
UNANSWERED = Outcome.UNANSWERED
ORPHAN = Outcome.ORPHAN
CUT = Outcome.CUT

WAITING = limits.WAITING
PATIENCE = limits.UNANSWERED
CALM = limits.CALM
STEADY = limits.STEADY
MATCHED = limits.MATCHED
COST = limits.MESSAGE_COST
INTERIM_NOTES = 8
NOTHING = Message(0).protocol


class Emitter:
    """Makes the entries of one flow and numbers them."""

    def __init__(
        self,
        flow: Flow,
        out: list[Entry],
        tally: Tally,
        midstream: bool,
        wire: WireFlow | None,
        shown: frozenset[str] | None = None,
    ) -> None:
        self.flow = flow
        self.protocol = flow.protocol
        self.out = out
        self.tally = tally
        self.midstream = midstream
        self.wire = wire  # where packets are kept, else None
        self.shown = shown  # protocols whose entries are wanted, None for all
        self.seq = 0
        self.muted = False  # there were entries that are not wanted

    def silent(self) -> bool:
        """Whether nothing came of the flow so far."""
        return self.seq == 0 and not self.muted

    def emit(
        self, request: Message | None, response: Message | None, outcome: Outcome, swapped: bool
    ) -> None:
        """One entry, at least one half given."""
        protocol = self.protocol
        if request is not None and request.protocol is not NOTHING:
            protocol = request.protocol or protocol
        elif response is not None and response.protocol is not NOTHING:
            protocol = response.protocol or protocol
        if self.shown is not None and protocol not in self.shown:
            self.muted = True
            return
        tally = self.tally
        if outcome is OK:
            tally.ok += 1
        elif outcome is ERROR:
            tally.error += 1
        elif outcome is UNANSWERED:
            tally.unanswered += 1
        elif outcome is ORPHAN:
            tally.orphan += 1
        else:
            tally.cut += 1
        gap, capped = 0, False
        if request is not None:
            gap = request.gap_bytes
            capped = request.truncated
        if response is not None:
            gap += response.gap_bytes
            if response.truncated:
                capped = True
        entry = made.entry(self.flow, self.seq, protocol, request, response, outcome)
        if gap:
            entry.gap_bytes = gap
        if capped:
            entry.truncated = True
        if self.midstream:
            entry.midstream = True
        if swapped:
            entry.swapped = True
        if self.wire is not None:
            entry.packets = self.wire.take_packets()
        self.seq += 1
        self.out.append(entry)


class Pairing:
    """The requests of one asking side that wait, and what is known of their order."""

    def __init__(self, emitter: Emitter, ledger: Ledger, swapped: bool) -> None:
        self.emitter = emitter
        self.ledger = ledger
        self.tally = emitter.tally
        self.swapped = swapped
        self.first: Message | None = None  # key 0, answered in order: the one whose turn is next,
        self.queue: deque[Message] | None = None  # ... and those after it, which are rare
        self.keyed: dict[int, Message] = {}
        self.pipelined = (
            False  # two requests were open when an answer came: the client does not wait for each
        )
        self.stacked = False  # two are open, and it is not known whether it does
        self.late = 0  # in-order requests given up on, whose answers may still come first
        self.unsure = False  # whose answers come next is not known; then there is a
        self.doubt: Doubt | None = None
        self.guessed = False  # it was not known, and something settled it
        self.ahead: Message | None = None  # the answer to a request that is not whole yet
        self.early: tuple[
            str, ...
        ] = ()  # notes of interim answers to a request that is not whole yet
        self.inherited: Message | None = None
        self.last_ns = 0

    def request(self, message: Message) -> None:
        """A request waits for its answer."""
        if message.key != 0:
            self.wait_keyed(message)
            return
        if self.unsure:
            self.ask_in_doubt(message)
        if self.ahead is not None:
            answer, self.ahead = self.ahead, None
            self.tally.reserved -= weight(answer)
            self.pair(message, answer)
            return
        if self.early:
            message.notes = (*message.notes, *self.early)
            self.early = ()
        if self.first is not None:
            self.stacked = not self.pipelined
            if self.waiting() >= WAITING:
                self.give_up()
        if self.first is None:
            self.first = message
        elif self.queue is None:
            self.queue = deque((message,))
        else:
            self.queue.append(message)
        self.tally.reserved += len(message.head) + len(message.body) + COST
        self.last_ns = message.last_ns

    def wait_keyed(self, message: Message) -> None:
        keyed = self.keyed
        old = keyed.pop(message.key, None)
        if old is None and len(keyed) >= WAITING:
            self.ledger.count(self.ledger.limits, "waiting")
            old = keyed.pop(next(iter(keyed)))
        if old is not None:
            self.release(old, UNANSWERED)
        keyed[message.key] = message
        self.tally.reserved += weight(message)

    def response(self, message: Message) -> None:
        """An answer finds its request, or is an orphan."""
        asked: Message | None = None
        if message.key != 0:
            asked = self.keyed.pop(message.key, None)
        elif (self.unsure or self.guessed) and self.matched(message):
            return
        elif self.late:
            self.late -= 1
        elif self.first is not None:
            if self.stacked:
                self.stacked = False
                self.pipelined = self.waiting() > 1
            asked = self.turn()
        self.last_ns = message.last_ns
        if asked is None:
            self.emitter.emit(None, message, CUT if message.cut else ORPHAN, self.swapped)
            return
        self.tally.reserved -= len(asked.head) + len(asked.body) + COST
        self.pair(asked, message)

    def pair(self, asked: Message, message: Message) -> None:
        """A request and its answer are an entry."""
        if message.first_ns < asked.first_ns:  # the capture's clock had them the other way round
            message.first_ns = asked.first_ns
            message.last_ns = max(message.last_ns, asked.first_ns)
        if message.cut or asked.cut:
            outcome = CUT
        else:
            outcome = OK if message.ok and asked.ok else ERROR
        self.emitter.emit(asked, message, outcome, self.swapped)

    def idle(self) -> bool:
        """Whether the next in-order answer can belong to no request that was seen whole."""
        return self.first is None and not self.late and not self.unsure and self.ahead is None

    def waiting(self) -> int:
        """How many in-order requests wait."""
        if self.queue is None:
            return int(self.first is not None)
        return 1 + len(self.queue)

    def turn(self) -> Message:
        """The in-order request whose turn is next, which waits no more."""
        first = self.first
        assert first is not None
        if self.queue is None:
            self.first = None
        else:
            self.first = self.queue.popleft()
            self.queue = self.queue or None
        return first

    def all_waiting(self) -> list[Message]:
        """Every request that waits, those in order first."""
        in_order = [] if self.first is None else [self.first, *(self.queue or ())]
        return [*in_order, *self.keyed.values()]

    def await_request(self, answer: Message) -> None:
        """A final answer to the request that is still being sent (413, 401): it waits for its end."""
        self.ahead = answer
        self.tally.reserved += weight(answer)
        self.last_ns = answer.last_ns

    def orphan_ahead(self) -> None:
        """The request of the answer that waits will not be known."""
        if self.ahead is not None:
            answer, self.ahead = self.ahead, None
            self.tally.reserved -= weight(answer)
            self.emitter.emit(None, answer, ORPHAN, self.swapped)

    def interim(self, message: Message) -> None:
        """An answer before the answer: noted on the request that waits, or that is still being sent."""
        waits = self.keyed.get(message.key) if message.key else self.first
        note = f"interim-{message.status}"
        if waits is None:
            if not message.key and not self.unsure and len(self.early) < INTERIM_NOTES:
                self.early = (*self.early, note)
        elif len(waits.notes) < INTERIM_NOTES:
            waits.notes = (*waits.notes, note)

    def give_up(self) -> None:
        """The oldest in-order request has waited too long; its answer may still come, first of all."""
        self.release(self.turn(), UNANSWERED)
        self.ledger.count(self.ledger.limits, "waiting")
        self.late += 1

    def withdraw(self, message: Message) -> Message | None:
        """The last request in order, if it is this: it waits no more here, another protocol answers it."""
        last = self.first if self.queue is None else self.queue[len(self.queue) - 1]
        if last is None or (last.verb, last.target, last.head) != (
            message.verb, message.target, message.head,
        ):  # fmt: skip
            return None
        if self.queue is None:
            self.first = None
        else:
            self.queue.pop()
            self.queue = self.queue or None
        self.tally.reserved -= weight(last)
        return last

    def inherit(self, message: Message) -> None:
        """A request that came by another protocol: counted there, answered here."""
        self.inherited = message
        self.request(message)

    def reserved(self) -> int:
        """Bytes accounted for what waits here."""
        held = self.all_waiting()
        if self.ahead is not None:
            held.append(self.ahead)
        if self.doubt is not None:
            held += [message for pair in self.doubt.pairs for message in pair]
        return sum(map(weight, held))

    def shed(self) -> None:
        """Memory is short: those that have waited longest wait no longer."""
        self.part()
        for _ in range((self.waiting() + 1) // 2):
            self.give_up()
        for number in list(self.keyed)[: (len(self.keyed) + 1) // 2]:
            self.release(self.keyed.pop(number), UNANSWERED)

    def release(self, message: Message, outcome: Outcome) -> None:
        self.tally.reserved -= weight(message)
        self.emitter.emit(message, None, CUT if message.cut else outcome, self.swapped)

    def lost(self, answers: bool, now: int) -> None:
        """A hole of unknown content among the answers, or else among the requests.

        Answers: any that wait may have been answered in it; only a client that waits for each stays in
        step. Requests: those that wait keep their turn, but how many were lost after them is not known.
        """
        self.orphan_ahead()
        self.last_ns = max(self.last_ns, now)  # what was lost was no quiet
        steady = self.pipelined or (self.doubt is not None and self.doubt.enough > CALM)
        bursts = STEADY if steady else CALM
        if answers:
            doubtful = self.unsure or steady or self.waiting() > 1
            self.part()
            while self.first is not None:
                self.release(self.turn(), CUT)
            self.late = 0
            self.guessed = False  # an answer too many is no wonder now
            if doubtful:
                self.begin_doubt(0, bursts)
        elif self.doubt is not None:
            self.doubt.bursts = 0
            self.doubt.last_ns = max(self.doubt.last_ns, now)
        else:
            self.begin_doubt(self.waiting(), bursts)

    # ------------------------------------------------------------ in doubt

    def begin_doubt(self, certain: int, bursts: int = STEADY) -> None:
        """Nobody knows what is still to be answered, but for so many of those that wait."""
        self.unsure = True
        self.doubt = Doubt(certain, self.last_ns, bursts)

    def ask_in_doubt(self, message: Message) -> None:
        if self.doubt is not None and self.doubt.request(message, self.waiting() + self.late):
            self.settle()

    def matched(self, message: Message) -> bool:
        """Keep an answer with the request that may be its own, until that is certain."""
        if self.doubt is None:
            if self.first is None and not self.late:  # one too many: something was guessed wrongly
                self.begin_doubt(0)
            return False
        doubt = self.doubt
        doubt.answer(message, self.waiting() + self.late)
        if self.first is None and not self.late:
            self.part()
        if self.late or self.first is None:
            return False
        if doubt.ahead:
            doubt.ahead -= 1
            return False
        doubt.pairs.append((self.turn(), message))
        self.tally.reserved += weight(message)
        if len(doubt.pairs) > MATCHED:
            self.parted(*doubt.pairs.pop(0))
        return True

    def settle(self) -> None:
        """The order is certain, and was: all answers are matched rightly."""
        doubt, self.doubt = self.doubt, None
        self.unsure = False
        self.guessed = True
        for asked, answer in doubt.pairs if doubt is not None else ():
            self.tally.reserved -= weight(asked) + weight(answer)
            self.pair(asked, answer)

    def part(self) -> None:
        """It will not be known whether what is matched belongs together."""
        if self.doubt is not None:
            pairs, self.doubt.pairs = self.doubt.pairs, []
            for asked, answer in pairs:
                self.parted(asked, answer)

    def parted(self, asked: Message, answer: Message) -> None:
        self.release(asked, CUT)
        self.tally.reserved -= weight(answer)
        self.emitter.emit(None, answer, CUT if answer.cut else ORPHAN, self.swapped)

    # ------------------------------------------------------------ time and the end

    def oldest(self) -> int:
        """When the oldest request that waits was sent, 0 if none waits."""
        first = 0 if self.first is None else self.first.last_ns
        if self.doubt is not None and self.doubt.pairs:
            first = first or self.doubt.last_ns
        if self.keyed:
            other = next(iter(self.keyed.values())).last_ns
            first = min(first, other) if first else other
        return first

    def expire(self, now: int, begun: bool, answering: Callable[[int], bool]) -> None:
        """End what waits longer than UNANSWERED and whose answer has not begun: in order (`begun`), or by its key."""
        if not begun:
            if self.doubt is not None and now - self.doubt.last_ns >= PATIENCE:
                if self.first is not None:
                    self.part()
                elif self.doubt.pairs:
                    self.settle()
            while self.first is not None and now - self.first.last_ns >= PATIENCE:
                self.release(self.turn(), UNANSWERED)
                self.late += 1
        for number in [k for k, m in self.keyed.items() if now - m.last_ns >= PATIENCE]:
            if not answering(number):
                self.release(self.keyed.pop(number), UNANSWERED)

    def forget(self) -> None:
        """Another protocol was meant: those that wait were no requests, but for one that was handed over."""
        heir, self.inherited = self.inherited, None
        if heir is not None and self.keyed.get(heir.key) is heir:
            self.release(self.keyed.pop(heir.key), CUT)
        for message in self.all_waiting():
            self.tally.reserved -= weight(message)
        if self.ahead is not None:
            self.tally.reserved -= weight(self.ahead)
            self.ahead = None
        for pair in self.doubt.pairs if self.doubt is not None else ():
            self.tally.reserved -= weight(pair[0]) + weight(pair[1])
        self.doubt = self.first = self.queue = None
        self.keyed.clear()

    def close(self, outcome: Outcome, over: bool = False) -> None:
        """The flow is over: nothing that waits will be answered. `over`: both sides have ended it."""
        self.orphan_ahead()
        if self.doubt is not None:
            if self.doubt.ends(self.waiting() + self.late, over):
                self.settle()
            self.part()
        if self.first is not None or self.keyed:
            for message in self.all_waiting():
                self.release(message, outcome)
            self.first = self.queue = None
            self.keyed.clear()


def weight(message: Message) -> int:
    """What a message that waits is accounted for."""
    return len(message.head) + len(message.body) + COST
