"""Does a declared secret stay hidden? Planted where it is declared, and looked for in what sinks write.

Of a grammar: every field of its `redact`, built into the messages that have it. Of any dissector: the values of the
fields whose class hides all of them, replaced in the bytes by others of the same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

import msgspec

from kshark.api import DissectError, ProtocolSpec, Redact, Side
from kshark.redact import Redactor, redact_targets
from kshark.render import Renderer
from kshark.testing._case import Talk
from kshark.testing.play import converse, hear

PLANTED: Final = "kshark-planted-7Qz9xK"
SHORTEST: Final = 4
"""Characters of a value that is looked for by its text; a shorter one may stand anywhere."""


def assert_hidden(spec: ProtocolSpec, talk: Talk) -> None:
    """Fail where a declared secret is in the JSON of an entry."""
    for where, secret, pieces in (*_of_grammar(spec, talk), *_of_details(spec, talk)):
        try:
            entries = converse(spec, pieces)
        except AssertionError:
            continue  # such a message there cannot be
        specs = {spec.name: spec}
        shown = Renderer(specs).encode(redact_targets(entries, specs), full=True)
        if secret.encode() in shown:
            raise AssertionError(
                f"{where} is declared secret ({spec.name}), and a value planted there is in the JSON of "
                f"the entry: {_around(shown, secret.encode())}"
            )


def _around(shown: bytes, secret: bytes) -> str:
    at = shown.find(secret)
    return shown[max(at - 60, 0) : at + len(secret) + 10].decode("utf-8", "replace")


# ---------------------------------------------------------------- grammars


def _of_grammar(spec: ProtocolSpec, talk: Talk) -> Iterator[tuple[str, str, Talk]]:
    """Each secret field with what is planted there, and the conversation with it."""
    grammar: Any = getattr(spec.dissector, "__self__", None)
    wholly = [p for p, kind in getattr(grammar, "redact", {}).items() if kind is Redact.VALUE]
    done: set[str] = set()
    for number, (side, data) in enumerate(talk) if wholly else ():
        for start, raw in _messages(grammar, data):
            for path in wholly:
                if path in done or (made := _planted(grammar, side, raw, path)) is None:
                    continue
                done.add(path)
                built, secret = made
                rest = data[start + len(raw) :]
                piece = (side, data[:start] + built + rest)
                yield f"the field {path}", secret, [*talk[:number], piece, *talk[number + 1 :]]


def _messages(grammar: Any, data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        size = grammar.frame.size(data, at)
        if size <= 0 or at + size > len(data):
            return
        yield at, data[at : at + size]
        at += size


def _planted(grammar: Any, side: Side, raw: bytes, path: str) -> tuple[bytes, str] | None:
    """The message with a secret in a field, and the secret; None where it has none or cannot be built so."""
    for same_size in (False, True):
        if (made := _built(grammar, side, raw, path, same_size)) is not None:
            return made
    return None


def _built(
    grammar: Any, side: Side, raw: bytes, path: str, same_size: bool
) -> tuple[bytes, str] | None:
    try:
        fields = _values(grammar.parse(raw, side))
        owner: Any = fields
        *outer, last = path.split(".")
        for name in outer:
            owner = owner[name]
        value = owner[last]
        if not isinstance(value, str | bytes) or (same_size and len(value) < SHORTEST):
            return None
        secret = _sized(len(value)) if same_size else PLANTED
        owner[last] = secret.encode() if isinstance(value, bytes) else secret
        made: bytes = grammar.build(side, **fields)
        again = _values(grammar.parse(made, side))
        for name in path.split("."):
            again = again[name]
        return (made, secret) if again == owner[last] else None
    except Exception:  # lengths that are not computed, checks, lists: whatever hinders construct
        return None


def _sized(size: int) -> str:
    """A secret of so many characters."""
    return (PLANTED * (size // len(PLANTED) + 1))[-size:]


def _values(parsed: Any) -> Any:
    if isinstance(parsed, Mapping):
        return {k: _values(v) for k, v in parsed.items() if not str(k).startswith("_")}
    return deepcopy(parsed)


# ---------------------------------------------------------------- any dissector


def _of_details(spec: ProtocolSpec, talk: Talk) -> Iterator[tuple[str, str, Talk]]:
    """Values that redaction hides wholly, each replaced by another in all of the bytes."""
    if spec.details is None:
        return
    redactor = Redactor()
    done: set[str] = set()
    try:
        found = hear(spec.dissector(), talk).messages
    except DissectError:
        return
    for _, message in found:
        open_, hidden = spec.details(message), None
        hidden = redactor.apply(open_)
        for where, value in _hidden(msgspec.to_builtins(open_), msgspec.to_builtins(hidden), ""):
            size = len(value.encode())
            if where in done or size < SHORTEST:
                continue
            done.add(where)
            secret = _sized(size)
            old, new = value.encode(), secret.encode()
            pieces = [(side, data.replace(old, new)) for side, data in talk]
            if pieces != talk:
                yield f"the field {where}", secret, pieces


def _hidden(open_: Any, hidden: Any, path: str) -> Iterator[tuple[str, str]]:
    """The texts that are there before redaction, and wholly gone behind it."""
    if isinstance(open_, dict) and isinstance(hidden, dict):
        for name, value in open_.items():
            yield from _hidden(value, hidden.get(name), f"{path}.{name}" if path else str(name))
    elif isinstance(open_, str) and hidden == "REDACTED":
        yield path, open_
