"""`Grammar`: see the package."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from operator import attrgetter
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Final

from kshark.api import (
    Details,
    DissectError,
    Dissector,
    Framed,
    Kind,
    Message,
    ProtocolSpec,
    Redact,
    Side,
    Step,
    Switch,
    Verdict,
)
from kshark.grammar.derive import details_of, fill, plain, shown
from kshark.grammar.frames import LIMIT, Datagram, Frame

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Rule = str | Callable[[Any], Any] | None
"""A field's dotted name, a function of the parsed message, or nothing."""

TRIED: Final = 64
"""Places at which `Grammar.resync` parses in one look; more that seem to begin a message are passed over."""


class Grammar:
    """A protocol by a struct: `message` is what the client sends, `answer` (the same if not given) the server.

    `verb`, `target`, `status`, `ok` and `key` map fields to those of `kshark.api.Message`; `kind` is a
    function of the parsed message and the side, by default request and response by side. `key`
    is made so that 0, which would mean "in order", cannot come of it; a `key` of None pairs in order.

    `redact` gives redaction classes to fields by their dotted names; `request` and `response` are
    typed details to use in place of those that are derived from the structs, and `values` gives their
    values from the parsed message where these are not its own fields. `resync` allows to look
    for the next message after a gap: where one parses whole with another right behind it, or with
    the end of the chunk.
    """

    def __init__(
        self,
        name: str,
        message: Any,
        frame: Frame,
        *,
        answer: Any = None,
        kind: Callable[[Any, Side], Kind] | None = None,
        verb: Rule = None,
        target: Rule = None,
        status: Rule = None,
        ok: Rule = None,
        key: Rule = None,
        redact: Mapping[str, Redact] | None = None,
        request: type[Details] | None = None,
        response: type[Details] | None = None,
        values: Callable[[Any], Mapping[str, Any]] | None = None,
        resync: bool = False,
        compile: bool = True,
    ) -> None:
        self.name = name
        self.frame = frame
        self.structs = (message, message if answer is None else answer)
        self.kind = kind
        self.rules = {
            name: rule if callable(rule) else attrgetter(rule)
            for name, rule in (("verb", verb), ("target", target), ("status", status), ("ok", ok))
            if rule is not None
        }
        self.key = attrgetter(key) if isinstance(key, str) else key
        self.values = values
        self.resyncs = resync
        self.why_not_compiled = "" if compile else "compile=False"
        self._wants_compiled = compile
        self._parsers: tuple[Callable[[bytes], Any], ...] = ()
        title = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
        derived = details_of(f"{title}Request", self.structs[0], redact)
        self.request = request or derived
        self.response = response or details_of(f"{title}Response", self.structs[1], redact)

    # ------------------------------------------------------------ dissect

    def dissector(self) -> Dissector:
        """A fresh dissector of one flow."""
        if isinstance(self.frame, Datagram):
            return _Datagrams(self)
        return _Stream(self)

    def parse(self, raw: bytes, side: Side = Side.CLIENT) -> Any:
        """A whole message as construct gives it; `DissectError` where it is none."""
        try:
            return self._parser(side)(raw)
        except _broken() as error:
            text = str(error).strip().splitlines() or [""]
            raise DissectError(f"{type(error).__name__}: {text[-1][:80]}") from error

    def remains(self, raw: bytes, side: Side) -> Message | None:
        """What the beginning of a message tells, where the rest is missing or not kept.

        If that is not enough for the struct: nothing, where pairs are found by key and so none is wrong
        without it; a message by its side alone, where nothing else decides its kind; else an error, after which
        nobody relies on the order.
        """
        try:
            return self.message(raw, side, whole=False)
        except DissectError:
            if self.key is not None:
                return None
            if self.kind is not None:
                raise
            kind, notes = Kind(1 + side), ("unparsed",)
            return Message(kind, body=raw, truncated=True, notes=notes, extra=int(side))

    def message(self, raw: bytes, side: Side, whole: bool = True) -> Message:
        """The message for its bytes."""
        parsed = self.parse(raw, side)
        message = Message(
            Kind(1 + side) if self.kind is None else self.kind(parsed, side),
            body=raw,
            truncated=not whole,
            extra=int(side),
        )
        for name, rule in self.rules.items():
            setattr(message, name, _fit(name, rule(parsed)))
        if self.key is not None:
            number = self.key(parsed)
            message.key = 0 if number is None else -1 if number == 0 else int(number)
        return message

    def details(self, message: Message) -> Details:
        """The typed details of a message, parsed again from its bytes."""
        side = (
            Side(message.extra) if message.extra in (0, 1) else Side(message.kind == Kind.RESPONSE)
        )
        details = self.response if side == Side.SERVER else self.request
        try:
            parsed = self.parse(message.body, side)
        except DissectError:
            return details()  # cut: its row is all that is known
        return fill(details, plain(parsed if self.values is None else self.values(parsed)))

    # ------------------------------------------------------------ build

    def build(self, side: Side = Side.CLIENT, /, **fields: Any) -> bytes:
        """The bytes of a message; its length is written by the framer, whatever `fields` says."""
        return self.frame.seal(self.structs[side].build(fields))

    def messages(
        self, *samples: Mapping[str, Any], side: Side = Side.CLIENT
    ) -> SearchStrategy[bytes]:
        """A hypothesis strategy: messages like the samples, their values varied."""
        from kshark.grammar.strategies import messages

        return messages(self, samples, side)

    # ------------------------------------------------------------ register

    def spec(self, **more: Any) -> ProtocolSpec:
        """The `ProtocolSpec`; `more` are its other fields (ports, magic, doc ...).

        Without `magic`, `replies` and `probe`, a probe is made of the struct: LIKELY where the first bytes
        are whole messages to the end, or two of them. That is little to go by for a lenient struct: check
        constant fields in it (`construct.Const`), or give a `probe`.
        """
        if not {"magic", "replies", "probe"} & more.keys():
            more["probe"] = self.probe
        return ProtocolSpec(
            name=self.name,
            dissector=self.dissector,
            transport="udp" if isinstance(self.frame, Datagram) else "tcp",
            request=self.request,
            response=self.response,
            details=self.details,
            **more,
        )

    def probe(self, data: bytes, side: Side) -> Verdict:
        """Whether these first bytes may be ours."""
        at = count = 0
        while at < len(data):
            size = self.frame.size(data, at)
            if size < 0:
                return Verdict.NO
            if size == 0 or at + size > len(data):
                return Verdict.LIKELY if count > 1 else Verdict.MORE
            try:
                self.parse(data[at : at + size], side)
            except DissectError:
                return Verdict.NO
            at += size
            count += 1
            if count > 1:
                break
        return Verdict.LIKELY if count else Verdict.MORE

    def resync(self, side: Side, data: bytes) -> int:
        """Where a message begins after a gap, -1 if nowhere."""
        if not self.resyncs:
            return -1
        tried = 0
        for at in range(len(data)):
            size = self.frame.size(data, at)
            if size <= 0 or at + size > len(data):
                continue
            after = at + size
            follows = self.frame.size(data, after) if after < len(data) else 0
            if after < len(data) and (follows <= 0 or after + follows > len(data)):
                continue
            tried += 1
            if tried > TRIED:
                return -1
            if self._parses(data[at:after], side) and (
                not follows or self._parses(data[after : after + follows], side)
            ):
                return at
        return -1

    def _parses(self, raw: bytes, side: Side) -> bool:
        try:
            self.parse(raw, side)
        except DissectError:
            return False
        return True

    # ------------------------------------------------------------ construct

    @property
    def compiled(self) -> bool:
        """Whether construct could compile the structs; if not, `why_not_compiled` says why."""
        self._parser(Side.CLIENT)
        return not self.why_not_compiled

    def _parser(self, side: Side) -> Callable[[bytes], Any]:
        if not self._parsers:
            try:
                if self._wants_compiled:
                    self._parsers = tuple(struct.compile().parse for struct in self.structs)
            except Exception as error:  # construct compiles what it can, and raises anything else
                self.why_not_compiled = f"{type(error).__name__}: {error}".splitlines()[0]
            if not self._parsers:
                self._parsers = tuple(struct.parse for struct in self.structs)
        return self._parsers[side]


def _broken() -> tuple[type[Exception], ...]:
    """What parsing hostile bytes raises: construct's own, and what expressions over them do."""
    from construct import ConstructError

    return (ConstructError, ArithmeticError, LookupError, ValueError, EOFError, StructError)


def _fit(name: str, value: Any) -> Any:
    """A value for a field of `Message`."""
    if name == "ok":
        return bool(value)
    if name == "status":
        return int(value or 0)
    if isinstance(value, bytes):
        return shown(value)
    return "" if value is None else str(value)


class _Stream(Framed):
    """A grammar's dissector of one TCP flow."""

    limit = LIMIT

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.recovers = grammar.resyncs  # what the kit's laws may expect

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        grammar = self.grammar
        while True:
            raw, whole = yield from grammar.frame.take()
            message = grammar.message(raw, side) if whole else grammar.remains(raw, side)
            if message is not None:
                yield message

    def resync(self, side: Side, data: bytes) -> int:
        return self.grammar.resync(side, data)


class _Datagrams:
    """A grammar's dissector of one UDP conversation."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def feed(self, side: Side, data: bytes) -> Iterable[Message | Switch]:
        whole, raw = len(data) <= LIMIT, data[:LIMIT]
        message = self.grammar.message(raw, side) if whole else self.grammar.remains(raw, side)
        if message is None:
            return ()
        message.size = len(data)
        return (message,)

    def gap(self, side: Side, missing: int) -> Iterable[Message | Switch]:
        return ()

    def close(self) -> Iterable[Message | Switch]:
        return ()
