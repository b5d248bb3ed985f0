"""Messages for the laws: samples with their values varied, as far as the struct can build and parse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kshark.api import DissectError, Side
from kshark.testing.strategies import hypothesis

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from kshark.grammar.grammar import Grammar

LONGEST: Final = 80
"""Characters and bytes of a varied value."""


def messages(
    grammar: Grammar, samples: Sequence[Mapping[str, Any]], side: Side
) -> SearchStrategy[bytes]:
    """Bytes of messages; what the grammar cannot build, or does not read back, is not given."""
    if not samples:
        raise ValueError("messages() varies samples: give at least one")
    for sample in samples:
        grammar.parse(grammar.build(side, **sample), side)
    st = hypothesis().strategies

    def build(fields: Mapping[str, Any]) -> bytes | None:
        try:
            raw = grammar.build(side, **fields)
            grammar.parse(raw, side)
        except _unbuildable():
            return None
        return raw if grammar.frame.size(raw, 0) == len(raw) else None

    made = st.one_of(*(st.just(dict(s)) | varied(s) for s in samples)).map(build)
    return made.filter(lambda raw: raw is not None)  # type: ignore[no-any-return]


def _unbuildable() -> tuple[type[Exception], ...]:
    from construct import ConstructError

    return (
        DissectError,
        ConstructError,
        ArithmeticError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    )


def varied(sample: Mapping[str, Any]) -> SearchStrategy[dict[str, Any]]:
    """The sample with one or two of its values changed, others kept: most still fit each other."""
    st = hypothesis().strategies
    names = sorted(sample)
    if not names:
        return st.just({})  # type: ignore[no-any-return]

    def change(chosen: set[str]) -> SearchStrategy[dict[str, Any]]:
        parts = {k: like(v) if k in chosen else st.just(v) for k, v in sample.items()}
        return st.fixed_dictionaries(parts)  # type: ignore[no-any-return]

    return st.sets(st.sampled_from(names), max_size=2).flatmap(change)  # type: ignore[no-any-return]


def like(value: Any) -> SearchStrategy[Any]:
    """Values of the same kind."""
    st = hypothesis().strategies
    found = _like(st, value)
    return st.just(value) if found is None else st.just(value) | found  # type: ignore[no-any-return]


def _like(st: Any, value: Any) -> Any:
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        bits = max(8, 8 * ((value.bit_length() + 7) // 8))
        return st.integers(0, (1 << bits) - 1)
    if isinstance(value, bytes):
        return st.binary(max_size=LONGEST)
    if type(value) is str:
        return st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=LONGEST)
    if isinstance(value, Mapping):
        return varied(value)
    if isinstance(value, list) and value:
        return st.lists(st.one_of(*map(like, value)), max_size=len(value) + 2)
    return None
