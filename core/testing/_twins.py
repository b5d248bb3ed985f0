"""Of a grammar: the compiled struct and the interpreted one must agree on everything that may come."""

from __future__ import annotations

from typing import Any

from kshark.api import ProtocolSpec
from kshark.talk import Piece

LONGEST = 2048
"""Bytes of a message that is parsed both ways: interpreted, a long list takes its time."""


def disagreement(spec: ProtocolSpec, pieces: list[Piece]) -> str:
    """ "" or on which bytes the two parsers of a grammar disagree; messages are those at piece beginnings."""
    grammar: Any = getattr(spec.dissector, "__self__", None)
    if not hasattr(grammar, "twins_differ"):
        return ""
    for side, piece in pieces:
        at = 0
        while isinstance(piece, bytes) and at < len(piece):
            size = grammar.frame.size(piece, at)
            if size <= 0 or at + size > len(piece):
                break
            raw = piece[at : at + size]
            at += size
            if size <= LONGEST and (text := grammar.twins_differ(raw, side)):
                return f"the compiled struct and the interpreted one disagree: {text}, of {raw[:40].hex(' ')}"
    return ""
