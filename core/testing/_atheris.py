"""``kshark fuzz --atheris``: libFuzzer guided by the coverage of the plugin's Python code.

It takes over the process, so it runs in a child. An input is a sequence of pieces, each with a byte of
control: the side in the lowest bit, the length in the others.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from time import monotonic
from types import FunctionType, ModuleType
from typing import Any, Final

from kshark.api import PluginError, ProtocolSpec, Side
from kshark.talk import Piece
from kshark.testing.fuzz import INPUT, Fuzzer, Report

LONGEST: Final = 127
"""Bytes of a piece; longer ones of a seed are several."""
CODES: Final = (0, 1)
"""Exit codes of a child that ended as it should: nothing was found, something was."""


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


class Guided:
    """A run. `size` and `seconds` end it, 0 is no bound; findings are written to `out`."""

    def __init__(
        self,
        spec: ProtocolSpec,
        seeds: Sequence[list[Piece]],
        *,
        size: int,
        seconds: float,
        number: int,
        out: Path,
        skip: Collection[str] = (),
    ) -> None:
        try:
            import atheris
        except ImportError:
            raise PluginError("--atheris needs it: pip install atheris") from None
        self.atheris: Any = atheris
        self.fuzzer = Fuzzer(spec, seeds, seed=number, skip=skip)
        self.size, self.seconds, self.number, self.out = size, seconds, number, out
        self.ends = 0.0

    def run(self) -> int:
        """Fuzz in a child process; 0 where nothing was found, else 1."""
        with tempfile.TemporaryDirectory() as folder:
            corpus, words, noise = (
                Path(folder, "seeds"),
                Path(folder, "words"),
                Path(folder, "said"),
            )
            corpus.mkdir()
            for at, pieces in enumerate(self.fuzzer.corpus):
                (corpus / f"{at}").write_bytes(pack(pieces)[:INPUT])
            words.write_text("".join(f'"{_escaped(word)}"\n' for word in self.fuzzer.words if word))
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                self._child(corpus, words, noise)
            try:
                _, status = os.waitpid(child, 0)
            except BaseException:  # Ctrl-C
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise
            code = os.waitstatus_to_exitcode(status)
            if code not in CODES:
                tail = noise.read_text(errors="replace")[-2000:] if noise.exists() else ""
                raise PluginError(f"atheris ended with {code}\n{tail}".rstrip())
        return code

    def _child(self, corpus: Path, words: Path, noise: Path) -> None:
        """It never returns: libFuzzer ends the process."""
        self.stderr = os.dup(2)
        said = os.open(noise, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(said, 2)  # libFuzzer's own words
        try:
            for function in functions(self.fuzzer.spec):
                self.atheris.instrument_func(function)
            self.ends = monotonic() + self.seconds
            arguments = [f"-seed={self.number + 1}", f"-max_len={INPUT}", f"-dict={words}"]
            self.atheris.Setup(["kshark", str(corpus), "-verbosity=0", *arguments], self.one)
            self.atheris.Fuzz()
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        os._exit(2)

    def one(self, data: bytes) -> None:
        """One input, and the end of the run."""
        began = self.ends - self.seconds
        self.fuzzer.look(unpack(data))
        report: Report = self.fuzzer.report
        report.seconds, report.corpus = monotonic() - began, len(self.fuzzer.corpus)
        late = self.seconds and report.seconds >= self.seconds
        if not (report.findings or late or (self.size and report.bytes >= self.size)):
            return
        from kshark.cli_fuzz import keep, told

        for finding in report.findings:
            path = keep(self.out, self.fuzzer.spec.name, finding)
            text = f"kshark: {path}: {finding.kind}: {finding.text[:300]}\n"
            os.write(self.stderr, text.encode(errors="replace"))
        print(told(report), flush=True)
        os._exit(1 if report.findings else 0)


def compiled(spec: ProtocolSpec) -> bool:
    """Whether the dissector is no Python, whose coverage could be followed."""
    home = sys.modules.get(getattr(spec.dissector, "__module__", ""))
    return not str(getattr(home, "__file__", "")).endswith(".py")


def functions(spec: ProtocolSpec) -> list[FunctionType]:
    """The Python functions of the package that has the dissector, and what else the spec calls."""
    home = sys.modules.get(getattr(spec.dissector, "__module__", ""))
    found = {id(f): f for module in _modules(home) for f in _inside(module)}
    for thing in (spec.dissector, spec.probe, spec.details):
        found |= {id(f): f for f in _unwrapped(thing)}
    return list(found.values())


def _modules(home: ModuleType | None) -> Iterator[ModuleType]:
    """A module, and those beside and below it: of the package that it is in, unless that is kshark itself."""
    if home is None:
        return
    yield home
    package = home.__package__ or home.__name__
    if package == "kshark":
        return
    for name, module in list(sys.modules.items()):
        if module is not home and (name == package or name.startswith(f"{package}.")):
            yield module


def _inside(module: ModuleType) -> Iterator[FunctionType]:
    for thing in list(vars(module).values()):
        if getattr(thing, "__module__", None) == module.__name__:
            yield from _unwrapped(thing)
            if isinstance(thing, type):
                for part in list(vars(thing).values()):
                    yield from _unwrapped(part)


def _unwrapped(thing: object) -> Iterator[FunctionType]:
    """The functions in what may be one, a method of some kind, or a property."""
    for part in (thing, *(getattr(thing, n, None) for n in ("__func__", "fget", "__wrapped__"))):
        if isinstance(part, FunctionType):
            yield part


def _escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word[:64])
