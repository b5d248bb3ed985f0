"""`Grammar`: see the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kshark.api import (
    Details,
    DissectError,
    Dissector,
    Framed,
    Item,
    Kind,
    Message,
    PluginError,
    ProtocolSpec,
    Redact,
    Side,
    Step,
    Verdict,
)
from kshark.grammar import rules
from kshark.grammar.compiled import (
    Parser,
    broken,
    compiled_parser,
    plain_parser,
    told,
    twins_differ,
    why_not,
)
from kshark.grammar.derive import fill, plain, shown
from kshark.grammar.frames import LIMIT, Datagram, Frame
from kshark.grammar.parts import fields, optional

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Rule = str | Callable[[Any], Any] | None
"""A field's dotted name, a function of the parsed message, or nothing."""

UNDISSECTED: Final = "undissected"
"""Note of a message whose struct ended before the message did."""
RETOLD: Final = 4096
"""Bytes of a refused message that is parsed once more, interpreted, to say which field it was."""
RETELLINGS: Final = 64
"""Times that a grammar does so for one kind of mistake."""
TRIED: Final = 64
"""Places at which `Grammar.resync` parses in one look; more that seem to begin a message are passed over."""


class Grammar:
    """A protocol by a struct: `message` is what the client sends, `answer` (the same if not given) the server.

    `verb`, `target`, `status`, `ok` and `key` say what a row shows: each is a field's dotted name, or a
    function of the parsed message. `kind` is a function of the parsed message and the side; without it the
    client's messages are requests and the server's responses. The target of a response is its error text.

    `key` pairs: messages with the same number belong together, whatever their order. 0 is a number like any other
    (`kshark.api.Message.key` has it mean "in order", so it is made another one here); where it is None, or there
    is no `key`, order alone pairs.

    `redact` gives redaction classes to fields by their dotted names, through `If` and `Switch`. `request` and
    `response` are typed details in place of those that are derived from the structs: they mark what is secret
    themselves (`kshark.api.doc`). `values` gives the values of details from the parsed message, where these
    are not its own fields. `resync` allows to look for the next message after a gap: where one parses whole with
    another right behind it, or with the end of the chunk. `compile=False` leaves the structs interpreted.

    What does not fit together is refused here, by `PluginError`: a name that is no field, a rule that cannot be
    called, details whose types are not those of the struct.
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
        self.redact = dict(redact or {})
        self.kind = kind
        self.values = values
        self.resyncs = resync
        self.why_not_compiled = "" if compile else "compile=False"
        self._wants_compiled = compile
        self._parsers: tuple[Parser, ...] = ()
        self._retold: dict[str, int] = {}
        self._hidden_target = self.redact.get(target) if isinstance(target, str) else None
        module = sys._getframe(1).f_globals.get("__name__", __name__)  # whose TSHARK may be near
        given = {"verb": verb, "target": target, "status": status, "ok": ok}
        try:
            rules.kind(kind)
            made = {name: rules.rule(name, one, self.structs) for name, one in given.items()}
            self.key = rules.rule("key", key, self.structs)
            self.request, self.response = rules.details(
                name, self.structs, (request, response), self.redact, values is not None, module
            )
        except PluginError as error:
            raise PluginError(f"Grammar {name!r}: {error}") from None
        self.rules = {name: rule for name, rule in made.items() if rule is not None}
        self.derived = (request is None, response is None)

    # ------------------------------------------------------------ dissect

    def dissector(self) -> Dissector:
        """A fresh dissector of one flow."""
        if isinstance(self.frame, Datagram):
            return _Datagrams(self)
        return _Stream(self)

    def parse(self, raw: bytes, side: Side = Side.CLIENT) -> Any:
        """A whole message as construct gives it; `DissectError` where it is none."""
        return self._parse(raw, side)[0]

    def _parse(self, raw: bytes, side: Side, *, tell: bool = False) -> tuple[Any, int]:
        """What construct made of it, and how many bytes of it; `tell`: say where it failed."""
        try:
            return self._parser(side)(raw)
        except broken() as error:
            text = self._told(error, raw, side) if tell else type(error).__name__
            raise DissectError(text) from error

    def _told(self, error: Exception, raw: bytes, side: Side) -> str:
        """Why these bytes are no message: compiled code does not know, so they are parsed once more.

        That takes longer than it took to refuse them, so not of long ones, and not again and again.
        """
        kind = type(error).__name__
        count = self._retold[kind] = self._retold.get(kind, 0) + 1
        if self.compiled and count <= RETELLINGS and len(raw) <= RETOLD:
            try:
                self.structs[side].parse(raw)
            except broken() as other:
                return told(other)
        return told(error)

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
        parsed, end = self._parse(raw, side, tell=True)
        message = Message(
            Kind(1 + side) if self.kind is None else self.kind(parsed, side),
            body=raw,
            truncated=not whole,
            extra=int(side),
        )
        if whole and end < len(raw):
            message.notes = (UNDISSECTED,)
        for name, rule in self.rules.items():
            setattr(message, name, _fit(name, rule(parsed)))
        if self.key is not None:
            message.key = _key(self.key(parsed))
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
        return fill(details, self.plain_values(parsed))

    def plain_values(self, parsed: Any) -> Mapping[str, Any]:
        """The values of the details, by the names of their fields."""
        found: Mapping[str, Any] = plain(parsed if self.values is None else self.values(parsed))
        return found

    # ------------------------------------------------------------ build

    def build(self, side: Side = Side.CLIENT, /, **fields: Any) -> bytes:
        """The bytes of a message; its length is written by the framer, whatever `fields` says.

        What is under an `If` may be left out.
        """
        return self.frame.seal(self.structs[side].build(_completed(self.structs[side], fields)))

    def messages(
        self, *samples: Mapping[str, Any], side: Side = Side.CLIENT
    ) -> SearchStrategy[bytes]:
        """A hypothesis strategy: messages like the samples, one or two of their values varied.

        A number becomes another of as many bytes, text and bytes others of up to 80, a list others of its
        items; a mapping is varied like a sample. What is None, and what a sample leaves out, stays so.
        """
        from kshark.grammar.strategies import messages

        return messages(self, samples, side)

    # ------------------------------------------------------------ register

    def spec(self, **more: Any) -> ProtocolSpec:
        """The `ProtocolSpec`; `more` are its other fields (ports, magic, doc ...).

        Without `magic`, `replies` and `probe`, a probe is made of the struct: LIKELY where the first bytes
        are whole messages to the end, or two of them. That is little to go by for a lenient struct: check
        constant fields in it (`construct.Const`), or give a `probe`.

        Where `target` is a field that `redact` names, rows hide it as well.
        """
        if self._hidden_target is not None:
            more.setdefault("target_redact", self._hidden_target)
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

    def _parser(self, side: Side) -> Parser:
        if not self._parsers:
            if self._wants_compiled:
                self._parsers = self._compiled()
            if not self._parsers:
                self._parsers = tuple(map(plain_parser, self.structs))
        return self._parsers[side]

    def _compiled(self) -> tuple[Parser, ...]:
        found: list[Parser] = []
        for struct in self.structs:
            try:
                found.append(compiled_parser(struct))
            except Exception as error:  # construct compiles what it can, and raises anything else
                self.why_not_compiled = why_not(struct, error)
                return ()
        return tuple(found)

    def twins_differ(self, raw: bytes, side: Side) -> str:
        """ "" or how the compiled and the interpreted struct disagree on these bytes."""
        if not self.compiled:
            return ""
        return twins_differ(self.structs[side], self._parser(side), raw)


def grammar_of(spec: ProtocolSpec) -> Grammar | None:
    """The grammar that a spec was made of, if it was."""
    found = getattr(spec.dissector, "__self__", None)
    return found if isinstance(found, Grammar) else None


def _completed(struct: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields to build a struct of, those under an `If` that were left out as None."""
    found = dict(given)
    for name, subs in fields([struct], lists=False).items():
        if name not in found and any(map(optional, subs)):
            found[name] = None
        elif isinstance(found.get(name), Mapping):
            found[name] = _completed(subs[0], found[name]) if len(subs) == 1 else found[name]
    return found


def _key(number: Any) -> int:
    """A pairing key: 0 would mean "in order", so a field's 0 is made another."""
    return 0 if number is None else -1 if number == 0 else int(number)


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

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        whole, raw = len(data) <= LIMIT, data[:LIMIT]
        message = self.grammar.message(raw, side) if whole else self.grammar.remains(raw, side)
        if message is None:
            return ()
        message.size = len(data)
        return (message,)

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        return ()

    def close(self) -> Iterable[Item]:
        return ()
