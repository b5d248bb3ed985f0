"""Fuzzing: conversations damaged in many ways, each of which must end well.

    >>> from kshark.api import Framed, Kind, Message, ProtocolSpec, Side
    >>> class Line(Framed):
    ...     def parse(self, side):
    ...         while True:
    ...             line = yield b"\\n"
    ...             yield Message(Kind(1 + side), verb=line.decode())  # not all bytes are UTF-8
    >>> spec = ProtocolSpec(name="line", dissector=Line)
    >>> report = Fuzzer(spec, [[(Side.CLIENT, b"ping\\n"), (Side.SERVER, b"pong\\n")]]).run(size=20_000)
    >>> report.findings[0].kind, "UnicodeDecodeError" in report.findings[0].text
    ('exception', True)

Seeds are mutated; a mutant that makes the dissector behave in a new way (other kinds, flags, errors, numbers of
messages) becomes a seed. Deterministic for a `seed`, up to what takes too long. Each input has bounds of
time and memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from time import monotonic, process_time
from typing import Any, Final

from kshark import talk
from kshark.api import ProtocolSpec, Side
from kshark.render import Renderer
from kshark.talk import Piece
from kshark.testing import _mutate
from kshark.testing._alarm import TooSlow, alarm
from kshark.testing._case import Case, LawBroken, face, make_case, show
from kshark.testing._cost import KEPT
from kshark.testing._holes import Hole, check_gap, check_pairs, pairs
from kshark.testing._twins import disagreement
from kshark.testing._weight import weigh
from kshark.testing.play import Heard, converse, hear

INPUT: Final = 16 * 1024
"""Bytes of one input."""
CORPUS: Final = 400
"""Inputs that are kept to mutate further."""
FINDINGS: Final = 20
"""Different findings after which a run ends."""
PATIENCE: Final = 1.0
"""Seconds of one input, 1,000 times what it should take."""
SHRINK: Final = 3.0
"""Seconds to make a finding smaller."""

Input = list[Piece]


@dataclass(slots=True)
class Finding:
    """An input that a dissector does not stand."""

    kind: str  # exception | slow | memory | cuts | sizes | parsers | gaps | pairs
    text: str
    pieces: Input
    key: str  # the same for the same mistake

    def __str__(self) -> str:
        shown = talk.show(self.pieces[:20]).rstrip()
        return f"{self.kind}: {self.text}\n{shown}"


@dataclass(slots=True)
class Report:
    """What a run did."""

    inputs: int = 0
    bytes: int = 0
    corpus: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class Fuzzer:
    """Feeds one protocol's dissector; see the module. `seeds` are conversations that it should know.

    `skip`: the laws ``gaps`` and ``pairs`` may be left out, for the same reasons as in `check_laws`.
    """

    def __init__(
        self,
        spec: ProtocolSpec,
        seeds: Iterable[Sequence[Piece]] = (),
        *,
        seed: int = 0,
        patience: float = PATIENCE,
        memory: int = KEPT,
        skip: Collection[str] = (),
    ) -> None:
        self.spec = spec
        self.random = Random(seed)
        self.patience = patience
        self.memory = memory
        self.skip = skip
        self.corpus: list[Input] = [list(one) for one in seeds] or list(_beginnings(spec))
        self.words = _mutate.words(self.corpus, spec)
        self.cases = list(_cases(spec, self.corpus))
        self.known: set[object] = set()
        self.renderer = Renderer({spec.name: spec})
        self.report = Report()

    def run(
        self,
        *,
        size: int = 0,
        seconds: float = 0.0,
        progress: Callable[[Report], None] | None = None,
    ) -> Report:
        """Until so many bytes were fed, or so much time has passed; whichever is first, 0 is no bound."""
        if not size and not seconds:
            raise ValueError("a bound is needed: size or seconds")
        report, began = self.report, monotonic()
        for pieces in self._inputs():
            self.look(pieces)
            report.seconds = monotonic() - began
            report.corpus = len(self.corpus)
            if progress is not None:
                progress(report)
            enough = bool(size and report.bytes >= size) or len(report.findings) >= FINDINGS
            if enough or (seconds and report.seconds >= seconds):
                break
        return report

    def _inputs(self) -> Iterator[Input]:
        yield from [list(one) for one in self.corpus]
        while True:
            parent = self.random.choice(self.corpus)
            other = self.random.choice(self.corpus)
            yield _mutate.mutated(self.random, parent, other, self.words, INPUT)

    # ------------------------------------------------------------ one input

    def look(self, pieces: Input) -> None:
        """Run one input; remember what is new, and what is wrong."""
        self.report.inputs += 1
        self.report.bytes += sum(len(p) for _, p in pieces if isinstance(p, bytes))
        turn = self.report.inputs % 16
        try:
            heard = self.play(pieces)
            if turn % 4 == 1:
                self.cut(pieces, heard)
            if turn == 2:
                self.whole(pieces)
            if turn in (3, 7, 11, 15) and self.cases:
                self.lose()
        except _Wrong as wrong:
            self.found(wrong, pieces)
            return
        shape = _shape(heard)
        if shape not in self.known:
            self.known.add(shape)
            if len(self.corpus) < CORPUS:
                self.corpus.append(pieces)
            else:
                self.corpus[self.random.randrange(CORPUS)] = pieces

    def play(self, pieces: Input) -> Heard:
        """A fresh dissector's answer, within its bounds."""
        dissector = self.guarded(self.spec.dissector)
        began = process_time()
        heard: Heard = self.guarded(partial(hear, dissector, pieces))
        if process_time() - began > self.patience:
            raise _Wrong("slow", f"more than {self.patience:g} s for one input", "slow")
        fed = [0, 0]
        for side, piece in pieces:
            fed[side] += len(piece) if isinstance(piece, bytes) else piece
        for side, message in heard.messages:
            fed[side] -= message.size
            self.guarded(partial(face, self.spec, side, message, "garbage"))
        for side in Side:
            if fed[side] < 0:
                raise _Wrong("sizes", f"messages count {-fed[side]} bytes more than came", "sizes")
        if text := self.guarded(partial(disagreement, self.spec, pieces)):
            raise _Wrong("parsers", text, "parsers")
        if self.report.inputs % 8 == 0 and (held := weigh(dissector)) > self.memory + INPUT:
            raise _Wrong("memory", f"the dissector keeps {held >> 10} KiB", "memory")
        return heard

    def cut(self, pieces: Input, heard: Heard) -> None:
        """However the bytes are cut, the messages are the same."""
        guess = any(isinstance(piece, int) for _, piece in pieces)  # a new start is a guess
        guess = guess or any("resync" in message.notes for _, message in heard.messages)
        if heard.errors or heard.switch is not None or guess or self.spec.transport != "tcp":
            return
        again = self.guarded(partial(hear, self.spec.dissector(), self._cut(pieces)))
        one, other = (
            [face(self.spec, side, m, "splits").core for side, m in h.messages]
            for h in (heard, again)
        )
        if sorted(map(repr, one)) != sorted(map(repr, other)):
            text = f"{len(one)} messages, and {len(other)} others when the bytes are cut otherwise"
            raise _Wrong("cuts", text, "cuts")

    def _cut(self, pieces: Input) -> Input:
        found: Input = []
        for side, piece in pieces:
            if isinstance(piece, bytes) and len(piece) > 1:
                at = self.random.randrange(1, len(piece))
                found += [(side, piece[:at]), (side, piece[at:])]
            else:
                found.append((side, piece))
        return found

    def whole(self, pieces: Input) -> None:
        """Through the engine, whose guard blames nobody, and to a sink, redacted."""
        try:
            entries = self.guarded(partial(converse, self.spec, pieces))
            self.guarded(partial(self.renderer.encode, entries, full=True))
        except AssertionError as error:
            raise _Wrong("exception", str(error), _bare(str(error))) from error

    def lose(self) -> None:
        """A hole in a conversation that was whole: nothing invented, no wrong pair."""
        case, right = self.random.choice(self.cases)
        side = self.random.choice([side for side, _ in case.talk])
        total = sum(len(data) for who, data in case.talk if who == side)
        start = self.random.randrange(total)
        hole = Hole(side, start, self.random.randint(1, min(total - start, 40)))
        pieces = hole.punch(case.talk)
        self.report.bytes += sum(len(p) for _, p in pieces if isinstance(p, bytes))
        try:
            if "gaps" not in self.skip:
                check_gap(case, hole)
            if "pairs" not in self.skip:
                check_pairs(case, right, pieces, str(hole))
        except LawBroken as error:
            raise _Wrong(error.law, str(error), error.law, pieces) from error

    def guarded(self, call: Callable[[], Any]) -> Any:
        """The call's result, within time; what it raises is a finding."""
        try:
            with alarm(self.patience):
                return call()
        except TooSlow as error:
            raise _Wrong("slow", f"more than {self.patience:g} s for one input", "slow") from error
        except LawBroken as error:
            raise _Wrong("exception", str(error), _bare(str(error))) from error
        except (AssertionError, _Wrong):
            raise
        except Exception as error:
            text = show(error)
            raise _Wrong("exception", text, text.partition(": ")[0] + _place(text)) from error

    # ------------------------------------------------------------ findings

    def found(self, wrong: _Wrong, pieces: Input) -> None:
        """Keep a finding of a new kind, made smaller."""
        if any(one.key == wrong.key for one in self.report.findings):
            return
        small = wrong.pieces or self.shrunk(wrong.key, pieces)
        self.report.findings.append(Finding(wrong.kind, wrong.text, small, wrong.key))

    def shrunk(self, key: str, pieces: Input) -> Input:
        """The same mistake from fewer bytes; slow ones stay as they are."""
        if key in ("slow", "cuts", "memory"):
            return pieces
        deadline = monotonic() + SHRINK

        def fails(candidate: Input) -> bool:
            try:
                self.play(candidate)
                self.whole(candidate)
            except _Wrong as wrong:
                return wrong.key == key
            return False

        smaller: Input | None = pieces
        while smaller is not None:
            pieces = smaller
            smaller = _mutate.smaller(pieces, fails, deadline)
        return pieces


class _Wrong(Exception):
    """What an input showed."""

    def __init__(self, kind: str, text: str, key: str, pieces: Input | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.key, self.pieces = kind, text, key, pieces


def _beginnings(spec: ProtocolSpec) -> Iterator[Input]:
    """Where nobody gave a seed: how the spec says that a side begins."""
    found: list[Input] = [[(Side.CLIENT, one)] for one in spec.magic]
    found += [[(Side.SERVER, one)] for one in spec.replies]
    yield from found or [[(Side.CLIENT, b"\0")]]


def _cases(spec: ProtocolSpec, corpus: Sequence[Input]) -> Iterator[tuple[Case, list[Any]]]:
    """Seeds without holes that are understood whole, with their right pairs."""
    for pieces in corpus:
        if spec.transport == "tcp" and all(isinstance(piece, bytes) for _, piece in pieces):
            try:
                case = make_case(spec, pieces, None, False, 1)
                if not any(one.cut for one in case.whole):
                    yield case, pairs(case, list(case.talk))
            except AssertionError:
                continue


def _shape(heard: Heard) -> object:
    """How a dissector behaved: what is new is worth to mutate further."""
    kinds = {
        (side, m.kind, m.ok, m.cut, m.truncated, m.status, m.notes) for side, m in heard.messages
    }
    errors = frozenset(_bare(text) for text in heard.errors)
    return frozenset(kinds), errors, len(heard.messages).bit_length(), heard.switch is not None


def _bare(text: str) -> str:
    """Without what changes from input to input."""
    return re.sub(r"b?'[^']*'|\d+", "", text)[:200]


def _place(text: str) -> str:
    return text[text.rfind("(") :]
