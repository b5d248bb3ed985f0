"""The guards on the same conversations, by either door: what they make of them, and what they leave behind.

As a program it compares them: ``python guards.py CONVERSATIONS``; with ``KSHARK_PURE=1`` the two plain guards, too.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import msgspec
from fakes import TOY, FakeWire, Table, Toy

from kshark import wire
from kshark._pure import pure
from kshark.api import ProtocolSpec, Side
from kshark.engine import guard_class
from kshark.feeder import Feeder, Found
from kshark.flow import Guard
from kshark.limits import EARLY_MESSAGES

WORDS = ["TOY", "GET", "OK", "OK", "OK", "ERR", "X#1", "X#2", "wait", "push"]
ODD = ["boom", "crash", "rubbish", "switch toy", "switch none"]


class Inner(Toy):
    """It knows the extent of what has begun: an answer may come before its request is whole."""

    def inside(self, side: int) -> bool:
        return bool(self.held[side])


class Fed(Inner, Feeder):
    """The same by the other door."""

    feed = Feeder.feed  # type: ignore[assignment]

    def take(self, side: int, data: bytes, found: Found) -> None:
        for message in Inner.feed(self, Side(side), data):
            found.append(message)


SPEC = msgspec.structs.replace(TOY, dissector=Inner)
FED = msgspec.structs.replace(TOY, dissector=Fed)
Step = tuple[str, int, Any, int]  # what, side, bytes or how many, ns


def conversation(rng: random.Random) -> list[Step]:
    """Mostly in turns, mostly whole lines, mostly forward in time."""
    steps: list[Step] = []
    ns = 1_000
    odd = rng.choice([0.0, 0.0, 0.01])
    rest = [b"", b""]
    for turn in range(rng.randrange(2, 60)):
        words = WORDS if rng.random() >= odd else ODD
        line = rest[turn % 2] + f"{rng.choice(words)} {turn}".encode() + b"\n"
        rest[turn % 2] = b""
        for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
            at = rng.choice([0, 0, 0, 1, 4])
            pieces = [line[:at], line[at:]]
            if rng.random() < 0.1:
                rest[turn % 2] = pieces.pop()
            for piece in filter(None, pieces):
                ns += rng.choice([1_000, 1_000, 1_000, 0, -500, 31_000_000_000])
                steps.append(("chunk", turn % 2, piece, max(1, ns)))
            line = rest[turn % 2] or line
        if rng.random() < 0.1:
            steps.append(("expire", 0, None, max(1, ns)))
        if rng.random() < 0.02:
            steps.append(("gap", turn % 2, rng.randrange(1, 9), max(1, ns)))
    return [("chunk", 0, b"TOY 0\n", 999), *steps]


def play(
    kind: type[Guard], steps: list[Step], spec: ProtocolSpec = SPEC, midstream: bool = False
) -> Any:
    """Everything that can be seen afterwards."""
    table = Table(spec)
    engine = table.engine
    engine.states["toy"].strict = False  # as of a built-in
    engine.guard = kind
    guard = table.open(midstream=midstream)
    seen: list[Any] = []
    for what, side, value, ns in steps:
        if what == "expire":
            engine.expire(ns)
        elif what == "gap":
            seen.append(guard.gap(side, value, ns))
        else:
            seen.append(guard.chunk(side, value, ns))
        if pure("kshark.flow"):
            seen.append((guard.held[:], guard.since[:], guard.silent[:]))
        seen.append((guard.state, guard.reserved))
        seen.append(
            (
                min(guard.messages, EARLY_MESSAGES),
                guard.timed,
                len(engine.timers),
                engine.tally.current,
            )
        )
    guard.end(1, 10**15)
    seen += [engine.ledger.snapshot(), engine.ledger.check(), table.said]
    if pure("kshark.ledger"):
        seen += [{n: v for n, v in vars(engine.tally).items() if n not in ("current", "found")}]
    return [*seen, engine.states["toy"].bytes, msgspec.to_builtins(engine.take())]


def shortcuts(quick: type[Guard], steps: list[Step]) -> tuple[int, int]:
    """How many chunks there are, and how many of them took the long way."""
    long = 0

    class Counted(quick):  # type: ignore[misc,valid-type]
        def slowly(self, side: int, data: bytes, ns: int) -> bool:
            nonlocal long
            long += 1
            return bool(super().slowly(side, data, ns))

        def take(self, found: Any, side: int, size: int, ns: int) -> bool:
            nonlocal long
            long += 1
            return bool(super().take(found, side, size, ns))

    play(Counted, steps)
    return len(steps), long


def main() -> None:
    wire.load = lambda: FakeWire
    quick = guard_class()  # of the compiled build the guard itself
    for seed in range(int(sys.argv[1])):
        rng = random.Random(seed)
        steps = conversation(rng)
        late = rng.random() < 0.2
        plain = play(Guard, steps, SPEC, late)
        assert play(Guard, steps, FED, late) == plain, f"seed {seed}, fed by take()"
        if quick is not Guard:
            assert play(quick, steps, SPEC, late) == plain, f"seed {seed}"
    if quick is Guard:
        return
    lockstep = [("chunk", n % 2, b"OK 1\n", n) for n in range(1, 200)]
    whole, long = shortcuts(
        quick, [("chunk", 0, b"TOY 0\n", 0), ("chunk", 1, b"OK\n", 0), *lockstep]
    )
    assert long < 5 < whole, f"{long} of {whole} chunks took the long way"


if __name__ == "__main__":
    main()
