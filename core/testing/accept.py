"""What the CI of a plugin runs: `assert_dissector`, and `assert_harmless` for what is not understood yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, get_type_hints

import msgspec

from kshark import talk
from kshark._spec_checks import LEVELS, check, misfit, within
from kshark.api import Details, ProtocolSpec, Side
from kshark.engine import FLOWS, Engine, EngineSettings
from kshark.plugins import DEFAULT_PLUGINS
from kshark.testing import _cases
from kshark.testing._case import Talk, joined
from kshark.testing._cases import Case
from kshark.testing._secrets import assert_hidden
from kshark.testing.fuzz import Fuzzer
from kshark.testing.laws import check_laws
from kshark.testing.play import Conversation, converse, hear, play, rows
from kshark.testing.strategies import cut_talk, explore, garbage, mutations

COSTLY = frozenset({"memory", "time"})
"""Laws that take seconds, and tell of a dissector rather than of a conversation."""
_WEIGHED: set[ProtocolSpec] = set()
"""Specs that kept the costly laws in this process, with their first conversation."""
FUZZED = 20_000
"""Bytes of `assert_dissector`'s own fuzzing; ``kshark fuzz`` does the rest."""


def assert_dissector(
    spec: ProtocolSpec,
    conversation: Conversation | Case,
    expected: Sequence[str] | None = None,
    *,
    again: Conversation | None = None,
    recovers: bool | None = None,
    pipelined: bool = False,
    recognised: bool = True,
    skip: Collection[str] = (),
    examples: int = 40,
    fuzz: int = FUZZED,
) -> None:
    """Everything that kshark relies on, for one conversation; `AssertionError` says what is wrong.

    It must be understood as `expected` says (or the rows of a case; see `kshark.testing.rows`), keep the
    laws (`kshark.testing.LAWS`, `skip` by name; the other arguments are those of `check_laws`; COSTLY
    ones are tried with the first conversation of a spec alone), be recognised without a port, have documented
    details of the declared types, hide what is declared secret, and survive `fuzz` bytes of damage.
    ``recognised=False``: its bytes cannot tell it, users say ``--assume PORT=NAME``.
    `pipelined`: requests may go out before earlier ones are answered, so the same pairs must come
    of the conversation with all that the client says moved ahead.
    """
    pieces = conversation.pieces if isinstance(conversation, Case) else conversation
    if isinstance(conversation, Case):
        if _cases.UPDATE:
            conversation.write(converse(spec, pieces))
        expected = conversation.rows or expected
    if wrong := check(spec, ProtocolSpec):
        raise AssertionError(f"kshark would refuse this plugin: {wrong}")
    _declared(spec)
    _documented(spec)
    if expected is not None:
        _expected(spec, pieces, expected)
    skipped = {*skip, *(COSTLY if spec in _WEIGHED else ())}
    check_laws(spec, pieces, again=again, recovers=recovers, skip=skipped, examples=examples)
    _WEIGHED.add(spec)
    whole = joined(pieces, spec.transport)
    if pipelined:
        _pipelined(spec, whole)
    _typed(spec, whole)
    assert_hidden(spec, whole)
    if recognised:
        _recognised(spec, whole)
    if fuzz:
        report = Fuzzer(spec, [whole], skip=skip).run(size=fuzz)
        if report.findings:
            raise AssertionError(f"found by fuzzing: {report.findings[0]}")


def _expected(spec: ProtocolSpec, pieces: Conversation, expected: Sequence[str]) -> None:
    """The entries as they should be, or both side by side."""
    got = [talk.one_line(row) for row in rows(converse(spec, pieces))]
    if got != list(expected):
        lines = _beside(list(expected), got)
        raise AssertionError("other entries than expected:\n" + "\n".join(lines))


def _beside(wanted: list[str], got: list[str]) -> Iterable[str]:
    from difflib import ndiff

    return [line for line in ndiff(wanted, got) if not line.startswith("?")]


def _pipelined(spec: ProtocolSpec, pieces: Talk) -> None:
    """All questions first, then all answers: the same pairs."""
    ahead = sorted(pieces, key=lambda piece: piece[0])
    one, other = (sorted(rows(converse(spec, talk))) for talk in (pieces, ahead))
    if one != other:
        raise AssertionError(
            "other pairs when the client does not wait for answers (a pipeline):\n"
            + "\n".join(_beside(one, other))
        )


def _documented(spec: ProtocolSpec) -> None:
    """Every field of the details has a doc line: filters, pages and the display show it."""
    grammar = getattr(spec.dissector, "__self__", None)
    derived = getattr(grammar, "derived", (False, False))
    for schema, of_grammar in zip((spec.request, spec.response), derived, strict=True):
        if schema is not None:
            _told(schema, schema.__name__, of_grammar)


def _told(schema: type[msgspec.Struct], path: str, of_grammar: bool) -> None:
    hints = get_type_hints(schema, include_extras=True)
    for field in msgspec.structs.fields(schema):
        metas = getattr(hints[field.name], "__metadata__", ())
        where = f"{path}.{field.name}"
        if not any(isinstance(m, msgspec.Meta) and m.description for m in metas):
            how = f"annotate it, {field.name}: Annotated[..., doc('what it is')]"
            if of_grammar:
                how = f"add it in the struct, \"{field.name}\" / ... * 'what it is'"
            raise AssertionError(f"{where} has no doc line: {how}")
        for inner in within(field.type):
            if inner is not schema and where.count(".") < LEVELS:
                _told(inner, where, of_grammar)


def _typed(spec: ProtocolSpec, pieces: Talk) -> None:
    """Details are what the spec declares."""
    if spec.details is None:
        return
    declared = tuple(kind for kind in (spec.request, spec.response) if kind is not None)
    for _, message in hear(spec.dissector(), pieces).messages:
        found = spec.details(message)
        if not isinstance(found, declared or Details):
            names = " or ".join(kind.__name__ for kind in declared) or "Details"
            raise AssertionError(  # noqa: TRY004 - a test's verdict
                f"details() gives {type(found).__name__} for {message.verb!r}, not {names}: "
                f"filters and the JSON Schema know only what the spec declares"
            )
        if wrong := misfit(found):
            raise AssertionError(
                f"details() of {message.verb!r} are not what their types say: {wrong}"
            )
    _fitting(spec, pieces)


def _fitting(spec: ProtocolSpec, pieces: Talk) -> None:
    """The values of a grammar's messages are those that its details declare: none is left out."""
    grammar: Any = getattr(spec.dissector, "__self__", None)
    if not hasattr(grammar, "plain_values"):
        return
    from kshark.grammar.derive import fill

    for side, message in hear(spec.dissector(), pieces).messages:
        schema = grammar.response if side == Side.SERVER else grammar.request
        values = grammar.plain_values(grammar.parse(message.body, side))
        misfits: dict[str, str] = {}
        fill(schema, values, misfits)
        for name, why in misfits.items():
            raise AssertionError(
                f"details of {message.verb!r}: {schema.__name__}.{name} is left out, for its value is not "
                f"of the declared type: {why}"
            )
        if values and schema.__struct_fields__ and not set(values) & {*schema.__struct_fields__}:
            raise AssertionError(
                f"details of {message.verb!r}: values= gives {', '.join(map(str, values))}, none of "
                f"which is a field of {schema.__name__}"
            )


def _declared(spec: ProtocolSpec) -> None:
    """What a spec must say beyond what kshark asks of it: without it, it is of little use."""
    builtin = f"kshark.protocols.{spec.name}" in DEFAULT_PLUGINS
    if builtin and not str(getattr(spec.dissector, "__module__", "")).startswith("kshark."):
        raise AssertionError(
            f"the name {spec.name!r} is that of kshark's own dissector, which keeps it: choose another"
        )
    if (spec.request or spec.response) and spec.details is None:
        raise AssertionError(
            f"{spec.name} declares request= or response= and no details=, which makes them: no field is ever filled"
        )


def _recognised(spec: ProtocolSpec, pieces: Talk) -> None:
    """Without a word about ports, the engine knows the protocol by its first bytes."""
    if not (spec.magic or spec.replies or spec.probe):
        raise AssertionError(
            f"{spec.name} is not recognised by anything: give it magic, replies or a probe, "
            f"or say recognised=False here and tell users to --assume PORT={spec.name}"
        )
    said: list[str] = []
    entries = play(Engine([spec], EngineSettings(), said.append), spec, pieces)
    if said:
        raise AssertionError("; ".join(said))
    missed = [entry for entry in entries if entry.protocol != spec.name]
    whole = hear(spec.dissector(), pieces)
    opaque = whole.switch is not None and bool(whole.switch.opaque)
    if len(missed) < len(entries) and (opaque or whole.inner):  # what nobody can read, or another
        missed = [entry for entry in missed if entry.protocol not in FLOWS]
    if missed or not entries:
        why = missed[0].flow.reason if missed else "no entry"
        raise AssertionError(
            f"the conversation is not recognised by its bytes ({why}): "
            f"mend magic, replies or probe, or say recognised=False here and tell users to --assume"
        )


def assert_harmless(
    spec: ProtocolSpec, conversation: Conversation | Case, *, examples: int = 40
) -> None:
    """Whatever becomes of these bytes: no exception but `DissectError`, in whatever pieces they come.

    For real bytes that the dissector does not understand yet.
    """
    if isinstance(conversation, Case):
        if _cases.UPDATE:
            conversation.write(converse(spec, conversation.pieces))
        conversation = conversation.pieces
    converse(spec, conversation)
    bytes_only = [(side, piece) for side, piece in conversation if isinstance(piece, bytes)]
    whole = joined(bytes_only, spec.transport)
    explore(cut_talk(whole), lambda pieces: _play(spec, pieces), examples)
    for side, data in whole:
        for strategy in (mutations(data), garbage()):
            explore(strategy, partial(_one_side, spec, side), examples)


def _one_side(spec: ProtocolSpec, side: Side, data: bytes) -> None:
    _play(spec, [(side, data)])


def _play(spec: ProtocolSpec, pieces: Conversation) -> None:
    hear(spec.dissector(), pieces)
