"""What a dissector costs: memory that it keeps, and time that grows faster than its input."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from time import process_time

from kshark.api import DissectError, Side
from kshark.limits import ERRORS, MIB
from kshark.testing._case import NAMES, Case, LawBroken, guarded, short
from kshark.testing._weight import weigh

FED = MIB * 3 // 4
"""Bytes of a hostile stream; after 1 MiB without a message the engine calls a flow opaque."""
PATIENCE = 0.05
"""Seconds for one hostile stream, while the dissector keeps less than half of it."""
KEPT = 512 * 1024
"""Bytes that a dissector may keep: a head and a body of 64 KiB for each side, and as much again."""
REPEATS = 6_000
"""Messages of one side that nobody answers: 88 bytes kept for each is too much."""
SEGMENT = 1_460
DRIPPED = 60_000
"""Bytes that come one by one; below what a dissector may hold."""
BIG = 512 * 1024
"""Bytes that come at once, and a sixteenth of them to compare with."""
GROWTH = 2.0
"""How much dearer a byte may get with the length of the input. Copies of all that is held: 7."""
FILLERS = (b"x", b"1", b"\0", b"\xff", b"name: " + b"v" * 60 + b"\r\n")
DOUBT = 5.0
"""Below it, growth may be the processor's caches; above it the longer look would take minutes."""
AGAIN = 1.4
"""What growth over `GROWTH` by copies comes to at least, from one chunk to one twice as long: 1.5."""
TRIES = 4


def law_memory(case: Case) -> None:
    """Endless messages, and requests that nobody answers, are not hoarded."""
    for side, start, filler in hostile(case):
        stream = start + filler * min(FED // len(filler), FED if len(filler) == 1 else REPEATS)
        kept, text = guarded("memory", partial(keep, case, side, stream), [(side, stream)])
        if kept > KEPT:
            flood = f"{short(start)} and then {short(filler)} again and again"
            raise LawBroken(
                "memory",
                f"of {len(stream) >> 10} KiB from the {NAMES[side]} ({flood}) the dissector keeps "
                f"{kept >> 10} KiB{text}; more than {KEPT >> 10} KiB is too much: raise "
                f"DissectError where a piece gets too long",
            )


def hostile(case: Case) -> Iterator[tuple[Side, bytes, bytes]]:
    """(side, beginning, what is repeated): unfinished messages, and whole ones of one side only."""
    for side in (Side.CLIENT, Side.SERVER):
        own = b"".join(data for who, data in case.talk if who == side)
        if not own:
            continue
        points = sorted({0, 1, len(own) // 3, len(own) * 2 // 3, len(own) - 1})
        for number, at in enumerate(points):
            yield side, own[:at], FILLERS[number % len(FILLERS)]
        for start in exaggerated(own):
            yield side, start, FILLERS[0]
        yield side, b"", b"".join(data for who, data in case.again if who == side) or own


def exaggerated(own: bytes) -> Iterator[bytes]:
    """The first messages with their lengths made long: written out, or binary."""
    for number in islice(re.finditer(rb"\d+", own), 4):
        yield own[: number.start()] + b"99999999" + own[number.end() :]
    for at in range(min(8, len(own) - 2)):
        yield own[:at] + b"\x7f\xff" + own[at + 2 :]


def keep(case: Case, side: Side, stream: bytes) -> tuple[int, str]:
    """Bytes that the dissector holds in the end more than at first, and after how many errors.

    A slow one is not fed all of it, unless what it was fed piles up.
    """
    dissector = case.spec.dissector()
    before = weigh(dissector)
    deadline = process_time() + PATIENCE
    errors = 0
    for at in range(0, len(stream), SEGMENT):
        if drop(partial(dissector.feed, side, stream[at : at + SEGMENT])):
            errors += 1 + drop(partial(dissector.gap, side, 0))
        if errors >= ERRORS:
            break
        if process_time() > deadline:
            if weigh(dissector) - before < at // 2:
                break
            deadline = process_time() + PATIENCE
    return weigh(dissector) - before, f" after {errors} errors" * bool(errors)


def drop(call: Callable[[], Iterable[object]]) -> int:
    """Let the messages go; 1 for a `DissectError`."""
    try:
        for _ in call():
            pass
    except DissectError:
        return 1
    return 0


def law_time(case: Case) -> None:
    """Twice the input takes about twice the time, byte by byte and all at once."""
    for side in (Side.CLIENT, Side.SERVER):
        own = b"".join(data for who, data in case.talk if who == side)
        if not own:
            continue
        for start in (b"", own[: len(own) // 2]):
            growth = least(partial(drip, case, side, start))
            if growth > GROWTH:
                raise LawBroken(
                    "time",
                    f"{short(start)} and then {DRIPPED} times b'x' from the {NAMES[side]}, byte by "
                    f"byte: the last quarter takes {growth:.0f} times as long as the first; "
                    f"do not search or copy again what was there before",
                )
        fresh = b"".join(data for who, data in case.again if who == side) or own
        growth = least(partial(gulp, case, side, fresh))
        if growth > GROWTH:
            raise LawBroken(
                "time",
                f"{short(fresh)} from the {NAMES[side]} again and again in one chunk of "
                f"{BIG >> 10} KiB: a byte takes {growth:.0f} times as long as in {BIG >> 14} KiB; "
                f"do not copy the rest of the chunk for each message",
            )


def least(measure: Callable[[], float]) -> float:
    """The smallest of a few tries, fewer where they leave no doubt: noise only ever adds."""
    found = measure()
    for tried in range(TRIES):
        if found <= GROWTH or (tried and found > DOUBT):
            break
        found = min(found, measure())
    return found


def drip(case: Case, side: Side, start: bytes) -> float:
    """Time of the last quarter of the bytes by that of the first; 0 where they are refused."""
    dissector = case.spec.dissector()
    if start and drop(partial(dissector.feed, side, start)):
        return 0.0
    feeds = iter(range(DRIPPED))

    def quarter() -> float:
        began = process_time()
        for _ in islice(feeds, DRIPPED // 4):
            for _ in dissector.feed(side, b"x"):
                pass
        return process_time() - began

    with _quiet():
        try:
            first, _, _, last = (quarter() for _ in range(4))
        except DissectError:
            return 0.0
    return last / max(first, 1e-4)


def gulp(case: Case, side: Side, piece: bytes) -> float:
    """Time a byte of a long chunk by that of a shorter one; 0 where it is refused.

    In doubt twice as long a chunk has to be dearer again: what no longer fits into the
    processor's caches costs more too, but once, while copies of the rest go on growing.
    """
    little = min(timed(case, side, piece, BIG // 16) for _ in range(3))  # noise here hides growth
    big = timed(case, side, piece, BIG) if little else 0.0
    growth = big / max(little, 1e-10)
    if GROWTH < growth < DOUBT and timed(case, side, piece, 2 * BIG) < big * AGAIN:
        return 1.0
    return growth


def timed(case: Case, side: Side, piece: bytes, size: int) -> float:
    """Time a byte of one chunk that is `piece` again and again, 0 where it is refused."""
    stream = piece * (size // len(piece) + 1)
    dissector = case.spec.dissector()
    with _quiet():
        began = process_time()
        refused = drop(partial(dissector.feed, side, stream))
        spent = process_time() - began
    return 0.0 if refused else spent / len(stream)


class _quiet:
    """Without the garbage collector, whose work depends on what else lives."""

    def __enter__(self) -> None:
        self.was = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self.was:
            gc.enable()
