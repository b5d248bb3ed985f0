"""Damage for fuzzing, and its opposite: smaller inputs with the same effect. All by a given `Random`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from time import monotonic
from typing import Final

from kshark.api import ProtocolSpec, Side
from kshark.talk import Piece

Input = list[Piece]

EDGES: Final = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
    b"\r\n", b"\n", b"\r", b" ", b":", b"0", b"-1", b"65537", b"4294967296", b"99999999999999999999",
)  # fmt: skip
"""What parsers go wrong with."""
WORDS: Final = 400
"""Words of the seeds that are put elsewhere."""


def words(corpus: Sequence[Input], spec: ProtocolSpec) -> list[bytes]:
    """Pieces of the seeds worth repeating: words, numbers, and what the spec says."""
    found = dict.fromkeys([*spec.magic, *spec.replies])
    for pieces in corpus:
        for _, piece in pieces:
            if isinstance(piece, bytes):
                found.update(dict.fromkeys(re.findall(rb"[A-Za-z-]{2,}|\d+|\W{1,3}", piece[:4096])))
    return [word for word in found if word][:WORDS] + list(EDGES)


def mutated(
    random: Random, parent: Input, other: Input, known: Sequence[bytes], limit: int
) -> Input:
    """A child of `parent`, with one to six changes; at most `limit` bytes."""
    child = list(parent)
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        if not child:
            child = list(other)
        if random.random() < 0.25:
            _among(random, child, other)
        else:
            _within(random, child, known)
    return _bounded(child, limit)


def _among(random: Random, child: Input, other: Input) -> None:
    """Pieces dropped, doubled, moved, of the other side, from another input, or lost."""
    at = random.randrange(len(child))
    side, piece = child[at]
    what = random.randrange(7)
    if what == 0:
        del child[at]
    elif what == 1:
        child.insert(at, child[at])
    elif what == 2:
        child.insert(random.randrange(len(child)), child.pop(at))
    elif what == 3:
        child[at] = (Side(1 - side), piece)
    elif what == 4 and other:
        child.insert(at, random.choice(other))
    elif what == 5:
        child[at] = (side, len(piece) if isinstance(piece, bytes) else piece)
    else:
        child.insert(at, (side, random.choice((1, 7, 100, 70_000))))


def _within(random: Random, child: Input, known: Sequence[bytes]) -> None:
    """The bytes of one piece."""
    at = random.randrange(len(child))
    side, piece = child[at]
    if isinstance(piece, int):
        child[at] = (side, random.randint(1, 1_000))
        return
    data = bytearray(piece)
    place = random.randint(0, len(data))
    size = min(random.choice((1, 1, 2, 4, 16, 64)), len(data) - place)
    what = random.randrange(8)
    if what == 0 and place < len(data):
        data[place] ^= 1 << random.randrange(8)
    elif what == 1 and place < len(data):
        data[place] = random.randrange(256)
    elif what == 2:
        del data[place : place + size]
    elif what == 3:
        data[place:place] = data[place : place + size]
    elif what == 4:
        data[place:place] = random.choice(known)
    elif what == 5:
        word = random.choice(known)
        data[place : place + len(word)] = word
    elif what == 6 and place < len(data):
        data[place] = (data[place] + random.choice((-1, 1, 128))) % 256
    else:
        data[place:place] = data[place : place + 1] * random.choice((2, 30, 500, 5_000))
    child[at] = (side, bytes(data))


def _bounded(child: Input, limit: int) -> Input:
    kept: Input = []
    for side, piece in child[:64]:
        if isinstance(piece, int):
            kept.append((side, piece))
        elif limit > 0 and piece:
            kept.append((side, piece[:limit]))
            limit -= len(piece)
    return kept


def smaller(pieces: Input, fails: Callable[[Input], bool], deadline: float) -> Input | None:
    """A smaller input that still fails, None where no step makes it so or time is over."""
    for at in range(len(pieces)):
        if monotonic() > deadline:
            return None
        if fails(candidate := pieces[:at] + pieces[at + 1 :]):
            return candidate
    for at, (side, piece) in enumerate(pieces):
        if not isinstance(piece, bytes):
            continue
        step = len(piece) // 2
        while step:
            for start in range(0, len(piece), step):
                if monotonic() > deadline:
                    return None
                rest = piece[:start] + piece[start + step :]
                if rest and fails(candidate := [*pieces[:at], (side, rest), *pieces[at + 1 :]]):
                    return candidate
            step //= 2
    return None
