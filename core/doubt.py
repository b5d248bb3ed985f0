"""Whether the order of requests and answers is certain again: after a join in mid-stream, or after a hole.

Requests that nobody saw may still have to be answered, and they are answered first. As long as their number
is not known each answer is matched with the oldest request that was seen, but no pair is given: an answer too
many refutes them all. What settles the matter is a moment at which nothing can be outstanding:

- STEADY bursts of requests, of one or many each, were answered wholly before the next one began, and nothing
  else was seen. CALM are enough of a client that is known not to pipeline;
- or the server says nothing for QUIET times as long as it ever took while it had work;
- or nobody says anything for UNANSWERED;
- or the flow ends: by FIN or by silence, or anyhow if the client was never seen to pipeline.

A client that keeps several requests open, at any time as many, and sends one for each answer looks like one
that keeps one open: no packet tells the two apart.

Limits: MATCHED pairs, all of them accounted for.
"""

from __future__ import annotations

from typing import Final

from kshark import limits
from kshark.api import Message

CALM: Final = limits.CALM
STEADY: Final = limits.STEADY
QUIET: Final = limits.QUIET
QUICK: Final = limits.QUICK
PATIENCE: Final = limits.UNANSWERED


class Doubt:
    """What has been seen since. `ahead` requests of those that wait are certain: they were sent before."""

    __slots__ = (
        "ahead",
        "answered",
        "answers",
        "bursts",
        "enough",
        "last_ns",
        "mixed",
        "pairs",
        "piped",
        "slowest",
    )

    def __init__(self, ahead: int, last_ns: int, bursts: int) -> None:
        self.ahead = ahead
        self.enough = bursts
        self.last_ns = last_ns  # when somebody said something, 0: never
        self.pairs: list[tuple[Message, Message]] = []
        self.bursts = 0  # in a row, answered wholly
        self.answered = False  # an answer to the present burst was seen,
        self.mixed = False  # ... and then another request, of this burst or an earlier one
        self.piped = False  # the client pipelines
        self.answers = 0
        self.slowest = 0  # ns until an answer came

    def request(self, message: Message, waiting: int) -> bool:
        """A request, while so many wait already; whether that settles the matter."""
        if waiting:
            self.mixed = self.mixed or self.answered
        elif self.settled(message.first_ns):
            return True
        else:
            self.answered = False
        self.last_ns = message.last_ns
        return False

    def settled(self, now: int) -> bool:
        """Whether nothing can be outstanding now that every request that was seen is answered."""
        if self.bursts >= self.enough and not self.mixed:
            return True
        quiet = now - self.last_ns if self.last_ns else 0
        slow = max(self.slowest, QUICK)
        return quiet > PATIENCE or (self.answers >= CALM and quiet > QUIET * slow)

    def answer(self, message: Message, waiting: int) -> None:
        """An answer, while so many requests wait for one."""
        if self.last_ns:
            self.slowest = max(self.slowest, message.first_ns - self.last_ns)
        self.last_ns = message.last_ns
        if waiting:
            self.answered = True
            if waiting > 1:
                self.piped = True
                self.enough = STEADY
            self.bursts += waiting == 1
        else:
            self.bursts = 0
            self.piped = self.piped or self.answers > 0
        self.answers += 1

    def ends(self, waiting: int, over: bool) -> bool:
        """Whether the end of the flow settles it. `over`: neither side had more to say."""
        return not waiting and (over or not self.piped)
