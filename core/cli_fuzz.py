"""``kshark fuzz``: damage for a dissector, until it breaks or the time is over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import click

from kshark import talk
from kshark.api import PluginError, ProtocolSpec
from kshark.cli import DONE, FAILED, common, registry
from kshark.limits import MIB, SEEDED
from kshark.stderr import say
from kshark.talk import Piece
from kshark.units import seconds as read_seconds
from kshark.units import show_size
from kshark.units import size as read_size

if TYPE_CHECKING:
    from kshark.plugins import Registry
    from kshark.testing.fuzz import Finding, Report

SECONDS: Final = "10"
SEED_FLOWS: Final = 32
"""Flows of a capture file that become seeds."""
SPACE: Final = 512 * MIB
"""Bytes of address space that a run may take beside what the program has at its start."""


@click.command()
@click.option("--protocol", required=True, metavar="NAME", help="Whose dissector.")
@click.option(
    "--seeds",
    multiple=True,
    metavar="PATH",
    help="Cases (*.txt, or a folder of them) and captures.",
)
@click.option(
    "--bytes", "size", metavar="SIZE", default="", help="End after so many bytes, such as 24M."
)
@click.option(
    "--seconds", metavar="TIME", default="", help=f"End after this time [default: {SECONDS}s]."
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(["gaps", "pairs"]),
    help="A law that does not hold for this protocol.",
)
@click.option("--seed", "number", type=int, default=0, help="Another number, other damage.")
@click.option(
    "--out", metavar="FOLDER", default="kshark-crashes", help="Where findings are written."
)
@click.option("--atheris", "guided", is_flag=True, help="Guided by coverage (pip install atheris).")
@common
def fuzz(
    protocol: str,
    seeds: Sequence[str],
    size: str,
    seconds: str,
    skip: Sequence[str],
    number: int,
    out: str,
    guided: bool,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Feed a dissector what no peer should send; every finding becomes a file that replays it.

    \b
    kshark fuzz --protocol http --seeds capture.pcap --seconds 60
    kshark fuzz --plugin mine.py --protocol mine --seeds tests/cases --bytes 24M

    Checked: no exception but DissectError, bounds of time and memory, messages and details that sinks can
    render, the same messages however the bytes are cut, sizes that add up, and for seeds that are whole
    conversations: after a loss nothing is invented, and no wrong pair is made.

    Exit codes: 0 nothing was found; 1 something was; 2 what you typed was wrong.
    """
    found = registry(plugins, config)
    spec: ProtocolSpec = found.find("protocols", protocol, "--protocol")
    limits = bounds(size, seconds)
    corpus = [pieces for path in seeds for pieces in seeds_of(path, spec, found)]
    if guided:
        from kshark.testing import _atheris

        if _atheris.compiled(spec) and not os.environ.get("KSHARK_PURE"):
            return plainly()
        options: dict[str, Any] = {"number": number, "out": Path(out), "skip": skip}
        run = _atheris.Guided(spec, corpus, size=limits[0], seconds=limits[1], **options)
        return run.run()
    bound_memory()
    from kshark.testing.fuzz import Fuzzer

    fuzzer = Fuzzer(spec, corpus, seed=number, skip=skip)
    report = fuzzer.run(size=limits[0], seconds=limits[1], progress=_Line(protocol))
    for finding in report.findings:
        path = keep(Path(out), protocol, finding)
        say(f"{path}: {finding.kind}: {finding.text[:300]}")
    click.echo(told(report))
    return FAILED if report.findings else DONE


def plainly() -> int:
    """The same once more, where the built-in dissectors are plain Python: compiled code has no coverage to go by."""
    command = click.get_current_context()
    arguments = ["--atheris"]
    for option in command.command.params:
        value = command.params.get(str(option.name))
        for one in value if isinstance(value, tuple) else (value,):
            if one not in (None, "") and not isinstance(one, bool):
                arguments += [option.opts[-1], str(one)]
    environment = {**os.environ, "KSHARK_PURE": "kshark.protocols"}
    program = [sys.executable, "-m", "kshark", "fuzz", *arguments]
    return subprocess.run(program, env=environment).returncode


def bounds(size: str, seconds: str) -> tuple[int, float]:
    """(bytes, seconds), 0 for none of them."""
    try:
        many = read_size(size) if size else 0
        long = read_seconds(seconds or ("0" if size else SECONDS))
    except ValueError as error:
        raise PluginError(f"--bytes or --seconds: {error}") from None
    if not many and not long:
        raise PluginError("--seconds 0 would never end: give --bytes, too")
    return many, long


def seeds_of(path: str, spec: ProtocolSpec, found: Registry) -> Iterator[list[Piece]]:
    """The conversations of a case file, a folder of them, or a capture file."""
    place = Path(path)
    if place.is_dir():
        inside = sorted(place.glob("*.txt"))
        if not inside:
            raise PluginError(f"--seeds {path}: no case (*.txt) in this folder")
        for one in inside:
            yield from seeds_of(str(one), spec, found)
    elif place.suffix == ".txt":
        try:
            yield talk.parse(place.read_text()).pieces
        except (OSError, ValueError) as error:
            raise PluginError(f"--seeds {path}: {error}") from None
    else:
        yield from _flows(path, spec, found)


def _flows(path: str, spec: ProtocolSpec, found: Registry) -> Iterator[list[Piece]]:
    """The flows of a capture that are this protocol's; else, all of them."""
    from kshark.streams import look

    seen, _, _ = look(path, found)
    own = [one for one in seen if one.protocol == spec.name] or seen
    for one in own[:SEED_FLOWS]:
        _, stream, _ = look(path, found, flow=one.id)
        if stream is not None and stream.pieces:
            yield _beginning(stream.pieces)


def _beginning(pieces: list[Piece]) -> list[Piece]:
    room, kept = 2 * SEEDED, []
    for side, piece in pieces:
        if room <= 0:
            break
        kept.append((side, piece[:room] if isinstance(piece, bytes) else piece))
        room -= len(piece) if isinstance(piece, bytes) else 0
    return kept


def bound_memory() -> None:
    """From now on this process gets no more than SPACE: a leak is a MemoryError, not a dead machine."""
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or used + SPACE < hard:
        resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, hard))


def keep(folder: Path, protocol: str, finding: Finding) -> Path:
    """Write a finding as a case that replays it."""
    comment = f"{finding.kind}: {finding.text[:1000]}\nkshark dissect --protocol {protocol} --hex < this file"
    text = talk.show(finding.pieces, comment=comment)
    name = blake2b(text.encode(), digest_size=4).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{protocol}-{finding.kind}-{name}.txt"
    path.write_text(text)
    return path


def told(report: Report) -> str:
    """A run in a line."""
    rate = report.bytes / report.seconds if report.seconds else 0.0
    return (
        f"{report.inputs:,} inputs, {show_size(report.bytes)} in {report.seconds:.1f} s "
        f"({show_size(int(rate))}/s), {report.corpus} kinds of behaviour, {len(report.findings)} findings"
    )


class _Line:
    """Progress on a terminal, twice a second."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shows = sys.stderr.isatty()
        self.next = monotonic() + 0.5

    def __call__(self, report: Report) -> None:
        if self.shows and monotonic() >= self.next:
            self.next = monotonic() + 0.5
            print(f"\r\x1b[K{self.name}: {told(report)}", end="\r", file=sys.stderr, flush=True)
