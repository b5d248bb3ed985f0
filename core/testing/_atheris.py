"""``kshark fuzz --atheris``: libFuzzer guided by the coverage of the plugin's Python code.

It takes over the process, so it runs in a child. An input is a sequence of pieces, each with a byte of
control: the side in the lowest bit, the length in the others.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from kshark.api import PluginError, ProtocolSpec, Side
from kshark.talk import Piece
from kshark.testing.fuzz import Fuzzer

LONGEST: Final = 127
"""Bytes of a piece; longer ones of a seed are several."""


def unpack(data: bytes) -> list[Piece]:
    """The pieces of an input."""
    pieces: list[Piece] = []
    at = 0
    while at < len(data):
        size = max(1, data[at] >> 1)
        piece = data[at + 1 : at + 1 + size]
        if piece:
            pieces.append((Side(data[at] & 1), piece))
        at += 1 + size
    return pieces


def pack(pieces: Sequence[Piece]) -> bytes:
    """An input that has these pieces, holes left out."""
    return b"".join(
        bytes((len(part) << 1 | side,)) + part
        for side, piece in pieces
        if isinstance(piece, bytes)
        for part in (piece[at : at + LONGEST] for at in range(0, len(piece), LONGEST))
    )


def run(
    spec: ProtocolSpec, seeds: Sequence[list[Piece]], seconds: float, out: Path, number: int
) -> int:
    """Fuzz in a child process; 0 where nothing was found, else 1, and the finding is in `out`."""
    try:
        import atheris
    except ImportError:
        raise PluginError("--atheris needs it: pip install atheris") from None
    with tempfile.TemporaryDirectory() as folder:
        for at, pieces in enumerate(seeds):
            Path(folder, f"seed-{at}").write_bytes(pack(pieces))
        child = os.fork()
        if child == 0:
            _child(atheris, spec, folder, seconds, out, number)
        _, status = os.waitpid(child, 0)
    return 1 if status else 0


def _child(
    atheris: Any, spec: ProtocolSpec, folder: str, seconds: float, out: Path, number: int
) -> None:
    from kshark.cli_fuzz import keep

    for function in _functions(spec):
        atheris.instrument_func(function)
    fuzzer = Fuzzer(spec)

    def one(data: bytes) -> None:
        fuzzer.look(unpack(data))
        if fuzzer.report.findings:
            finding = fuzzer.report.findings[0]
            path = keep(out, spec.name, finding)
            print(f"kshark: {path}: {finding.kind}: {finding.text[:300]}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)

    span = f"-max_total_time={max(1, round(seconds))}"
    arguments = ["kshark", folder, span, f"-seed={number + 1}", "-max_len=16384", "-verbosity=0"]
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    os._exit(0)


def _functions(spec: ProtocolSpec) -> Iterator[FunctionType]:
    """The Python functions of the module that has the dissector."""
    module = sys.modules.get(getattr(spec.dissector, "__module__", ""))
    for thing in vars(module).values() if module is not None else ():
        if getattr(thing, "__module__", None) != getattr(module, "__name__", None):
            continue
        inner = vars(thing).values() if isinstance(thing, type) else (thing,)
        yield from (f for f in inner if isinstance(f, FunctionType))
