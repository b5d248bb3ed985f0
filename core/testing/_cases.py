"""Case files: a conversation and the entries that must come of it, as text (`kshark.talk`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from kshark import talk
from kshark.api import Entry
from kshark.talk import Piece
from kshark.testing.play import rows

UPDATE = False
"""Set by ``pytest --kshark-update``: expectations are written, not compared."""


@dataclass(slots=True)
class Case(Sequence[Piece]):
    """One case: a conversation, as it stands. `rows` are empty where nothing is expected of it yet."""

    path: Path
    pieces: list[Piece]
    rows: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.path.stem

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, at: Any) -> Any:
        return self.pieces[at]

    def write(self, entries: Iterable[Entry]) -> None:
        """Take these entries for the expected ones; comments and bytes stay as they are."""
        self.rows = [talk.one_line(row) for row in rows(entries)]
        lines = self.path.read_text().split("\n")
        kept = "\n".join(line for line in lines if not line.lstrip().startswith("="))
        expected = "".join(f"= {row}\n" for row in self.rows)
        self.path.write_text(kept.rstrip("\n") + "\n" + expected)


def case(path: str | PathLike[str]) -> Case:
    """Read a case file.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "ping.txt"
    >>> _ = file.write_text('> "PING\\\\r\\\\n"\\n< "+PONG\\\\r\\\\n"\\n= PING -> PONG [ok]\\n')
    >>> case(file).pieces[1], case(file).rows
    ((<Side.SERVER: 1>, b'+PONG\\r\\n'), ['PING -> PONG [ok]'])
    """
    path = Path(path)
    try:
        script = talk.parse(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Case(path, script.pieces, script.rows)


def cases(folder: str | PathLike[str]) -> list[Case]:
    """The case files (``*.txt``) of a folder, by name; there must be one."""
    found = [case(path) for path in sorted(Path(folder).glob("*.txt"))]
    if not found:
        raise FileNotFoundError(f"no case (*.txt) in {folder}")
    return found
