"""``kshark new-plugin``: a package that passes its own tests, seeded with real bytes where there are some."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import click

from kshark import scaffold, scaffold_enricher, talk
from kshark._spec_checks import NAME, OWN
from kshark.api import PluginError, ProtocolSpec, Side
from kshark.cli import DONE, common, registry
from kshark.guess import Guess, Lengths, Lines, guess
from kshark.limits import SEEDED
from kshark.stderr import say
from kshark.talk import Piece

if TYPE_CHECKING:
    from kshark.streams import Stream
    from kshark.testing._cases import Case

DEFAULT: Final = Lengths(0, 2, "big", 2)
STYLES: Final[dict[str, Guess]] = {"binary": DEFAULT, "line": Lines(b"\r\n"), "construct": DEFAULT}
EXAMPLES: Final = 10
"""Random examples a law, by which the first case is judged; its own test tries more."""
INTEGERS: Final = {1: "Int8u", 2: "Int16u", 3: "Int24u", 4: "Int32u"}


@click.command()
@click.argument("name")
@click.option(
    "--from", "capture", metavar="FILE", default="", help="Real bytes for the first case."
)
@click.option("--flow", default="", metavar="N|ID", help="Of this flow (kshark flows lists them).")
@click.option("--binary", "style", flag_value="binary", help="Lengths in front of messages.")
@click.option("--line", "style", flag_value="line", help="Lines of text.")
@click.option("--construct", "style", flag_value="construct", help="A grammar: a construct struct.")
@click.option(
    "--enricher", "style", flag_value="enricher", help="No protocol: what rides in HTTP's messages."
)
@click.option("--into", metavar="FOLDER", default="", help="Where to [default: kshark-NAME].")
@common
def new_plugin(
    name: str,
    capture: str,
    flow: str,
    style: str | None,
    into: str,
    plugins: Sequence[str],
    config: str,
) -> int:
    """Write a package for a new protocol; its tests pass at once.

    \b
    kshark new-plugin mqtt
    kshark new-plugin mqtt --from capture.pcap --flow 3    guesses the framing, too
    kshark new-plugin mqtt --construct
    kshark new-plugin soap --enricher
    """
    known = registry(plugins, config)
    check(name, {**known.protocols, **known.enrichers})
    folder = Path(into or f"kshark-{name}")
    if folder.exists() and any(folder.iterdir()):
        raise PluginError(f"{folder} is there already; --into FOLDER writes somewhere else")
    if style == "enricher":
        if capture:
            raise PluginError(
                "--from FILE is for protocols: an enricher begins with an exchange of HTTP"
            )
        write(folder, enricher_files(name))
        click.echo(f"{folder}: an enricher. Now: cd {folder} && pytest")
        return DONE
    stream = chosen(capture, flow, plugins, config) if capture else None
    plan = Plan.of(name, style, stream, capture)
    write(folder, plan.files())
    settle(folder, plan)
    click.echo(f"{folder}: {plan.told}. Now: cd {folder} && pytest")
    return DONE


def write(folder: Path, files: dict[str, str]) -> None:
    """A package."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def enricher_files(name: str) -> dict[str, str]:
    """Path and text of each file of an enricher."""
    own = name.replace("-", "_")
    words = {
        "NAME": name, "MODULE": f"kshark_{own}", "CLASS": class_name(name), "FIELD": own, "EXTRA": "",
    }  # fmt: skip
    pyproject = scaffold.PYPROJECT.replace(
        '[tool.pytest.ini_options]\naddopts = "-p kshark.testing.pytest_plugin"\n',
        "[tool.pytest.ini_options]\n",
    )
    files = {
        "pyproject.toml": pyproject,
        "README.md": scaffold_enricher.README,
        ".gitignore": scaffold.IGNORE,
        ".github/workflows/test.yml": scaffold.WORKFLOW,
        f"kshark_{own}.py": scaffold_enricher.MODULE,
        f"tests/test_{own}.py": scaffold_enricher.TESTS,
    }
    return {path: replaced(text, words) for path, text in files.items()}


def class_name(name: str) -> str:
    """my-own -> MyOwn"""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))


def replaced(text: str, words: dict[str, str]) -> str:
    """A template with its names."""
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def check(name: str, taken: object) -> None:
    """Refuse what kshark or Python would refuse."""
    if not NAME.match(name) or name in OWN or keyword.iskeyword(name):
        raise PluginError(f"{name!r} is no name for a protocol (a-z, 0-9, - and _, from a letter)")
    if name in taken:  # type: ignore[operator]
        raise PluginError(f"there is a protocol {name!r} already (kshark protocols)")


def chosen(capture: str, flow: str, plugins: Sequence[str], config: str) -> Stream:
    """The flow to begin with; where none is said, the list of them is the error."""
    from kshark.streams import look

    seen, stream, _ = look(capture, registry(plugins, config), flow=flow)
    if stream is not None:
        return stream
    lines = [f"{s.number}: {s.client} -> {s.server}, {sum(s.bytes)} bytes" for s in seen[:8]]
    more = f"; {len(seen) - 8} more: kshark flows {capture}" if len(seen) > 8 else ""
    raise PluginError(f"say which flow with --flow N: {'; '.join(lines)}{more}")


@dataclass(slots=True)
class Plan:
    """What is written: names, style, framing, and the first case."""

    name: str
    style: str
    framing: Guess
    pieces: list[Piece]
    case: str
    comment: str
    told: str
    ports: tuple[int, ...] = ()

    @classmethod
    def of(cls, name: str, style: str | None, stream: Stream | None, capture: str) -> Plan:
        """Decide, by what was said and what the bytes tell."""
        if stream is None:
            style = style or "binary"
            framing = STYLES[style]
            return cls(
                name, style, framing, example(framing), "example", "", f"a {style} dissector"
            )
        chunks = [(side, piece) for side, piece in stream.pieces if isinstance(piece, bytes)]
        if not chunks:
            raise PluginError(f"flow {stream.seen.number} carries no bytes")
        found = guess(whole(stream.pieces))
        if found is None or ((style == "line") != isinstance(found, Lines) and style is not None):
            framing = STYLES[style or "binary"]
            told = f"a {style or 'binary'} dissector; how flow {stream.seen.number} is framed is yours to find out"
        else:
            framing = found
            told = f"guessed {found}: so end {found.hits} of {len(chunks)} chunks"
        from kshark.cli_flows import describe

        number = stream.seen.number
        comment = describe(stream, capture)
        port = int(stream.seen.server.rpartition(":")[2])
        own = style or ("line" if isinstance(framing, Lines) else "binary")
        return cls(
            name,
            own,
            framing,
            seed(stream, framing, found),
            f"flow-{number}",
            comment,
            told,
            (port,),
        )

    def files(self) -> dict[str, str]:
        """Path and text of each file."""
        module = f"kshark_{self.name.replace('-', '_')}"
        body = {"line": scaffold.LINE, "binary": scaffold.BINARY, "construct": scaffold.CONSTRUCT}
        files = {
            "pyproject.toml": scaffold.PYPROJECT,
            "README.md": scaffold.README,
            ".gitignore": scaffold.IGNORE,
            ".github/workflows/test.yml": scaffold.WORKFLOW,
            f"{module}.py": body[self.style],
            f"tests/test_{module.removeprefix('kshark_')}.py": scaffold.TESTS,
        }
        files = {path: self.filled(text, module) for path, text in files.items()}
        files[f"tests/cases/{self.case}.txt"] = talk.show(self.pieces, comment=self.comment)
        return files

    def filled(self, text: str, module: str) -> str:
        """A template with its names."""
        frame = self.framing if isinstance(self.framing, Lengths) else DEFAULT
        ends = self.framing.ends if isinstance(self.framing, Lines) else b"\n"
        integer = INTEGERS[frame.width] + (
            "b" if frame.endian == "big" or frame.width == 1 else "l"
        )
        port = self.ports[0] if self.ports else "PORT"
        words = {
            "NAME": self.name,
            "MODULE": module,
            "CLASS": class_name(self.name),
            "EXTRA": "[construct]" if self.style == "construct" else "",
            "ASSUME": f" --assume {port}={self.name}",
            "CASE": self.case,
            "STATE": f"\nTo begin with: {self.told}.\n" if self.told else "",
            "END": repr(ends).replace("'", '"'),
            "HEAD": str(frame.head),
            "AT": str(frame.at),
            "WIDTH": str(frame.width),
            "ENDIAN": frame.endian,
            "ADJUST": str(frame.adjust),
            "INT": integer,
            "BEFORE": f'    "head" / Bytes({frame.at}) * "What comes before the length",\n'
            if frame.at
            else "",
            "PORTS": repr(self.ports),
        }
        text = replaced(text, words)
        if not frame.at:
            text = text.replace("import Bytes, GreedyBytes", "import GreedyBytes")
        return text.replace("import GreedyBytes, Int8ub, Int8ub,", "import GreedyBytes, Int8ub,")


def example(framing: Guess) -> list[Piece]:
    """A conversation for who has none."""
    if isinstance(framing, Lines):
        asks, answers = (b"PING one", b"GET two"), (b"PONG one", b"ERROR no two")
        both = [
            (ask + framing.ends, answer + framing.ends)
            for ask, answer in zip(asks, answers, strict=True)
        ]
    else:
        both = [
            (_frame(framing, a), _frame(framing, b))
            for a, b in ((b"\1one", b"\1yes"), (b"\2two", b"\2maybe"))
        ]
    return [piece for ask, answer in both for piece in ((Side.CLIENT, ask), (Side.SERVER, answer))]


def _frame(framing: Lengths, payload: bytes) -> bytes:
    size = framing.head + len(payload) - framing.adjust
    return bytes(framing.at) + size.to_bytes(framing.width, framing.endian) + payload


def whole(pieces: Sequence[Piece]) -> list[tuple[Side, bytes]]:
    """What comes before the first hole."""
    found: list[tuple[Side, bytes]] = []
    for side, piece in pieces:
        if isinstance(piece, int):
            break
        found.append((side, piece))
    return found


def seed(stream: Stream, framing: Guess, found: Guess | None) -> list[Piece]:
    """The first bytes of each side, up to a message's end where that is known."""
    chunks = whole(stream.pieces)
    room = [SEEDED, SEEDED]
    if found is not None:
        for side in Side:
            data = b"".join(piece for who, piece in chunks if who == side)
            ends = framing.cuts(data)
            room[side] = max((end for end in ends if end <= SEEDED), default=ends[0] if ends else 0)
    kept: list[Piece] = []
    for side, piece in chunks:
        part = piece[: room[side]]
        room[side] -= len(part)
        if part:
            kept.append((side, part))
    return kept


def settle(folder: Path, plan: Plan) -> None:
    """Write what the new dissector makes of its case as what is expected, if it keeps the laws."""
    from kshark.plugins import load
    from kshark.testing._cases import case

    module = next(path for path in plan.files() if path.startswith("kshark_"))
    found = load([str(folder / module)])
    for plugin in found.refused():
        if plugin.source == str(folder / module):
            raise PluginError(plugin.line())
    try:
        understood(
            found.protocols[plan.name], case(folder / "tests" / "cases" / f"{plan.case}.txt")
        )
    except AssertionError as error:
        say(f"nothing is expected of {plan.case} yet: {str(error)[:200]}")


def understood(spec: ProtocolSpec, one: Case) -> None:
    """Fill in the rows of a case that holds."""
    from kshark.testing import check_laws, converse

    with homeless():
        check_laws(spec, one.pieces, examples=EXAMPLES, skip=("memory", "time"))
    one.write(converse(spec, one.pieces))


@contextmanager
def homeless() -> Iterator[None]:
    """hypothesis keeps what it finds in ``.hypothesis``: not here, where nobody runs a test."""
    from hypothesis import configuration

    with TemporaryDirectory(prefix="kshark-") as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(None)  # its own default
