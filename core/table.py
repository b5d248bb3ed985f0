"""Rows for people: a rich table on a terminal, aligned plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows to standard output; the last column takes what room is left."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich(columns, cells)
    else:
        print(plain(columns, cells))


def plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned by blanks, two between columns, nothing cut.

    >>> print(plain(["name", "doc"], [["http", "HTTP/1"]]))
    name  doc
    http  HTTP/1
    """
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "field"))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
