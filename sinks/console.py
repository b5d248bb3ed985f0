"""A calm live list on a terminal, and plain aligned text in a pipe.

One line an entry: time, protocol, source -> destination, what was asked, status, latency, size. On a
terminal a line is cut to the width (wide characters count two), coloured by outcome, and no more than
`rate` lines a second are shown; the rest is counted. In a pipe every line is whole and without escape
codes. Whatever peers sent is shown with its control characters escaped: a path cannot move the cursor.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from kshark.api import Context, Entry, Options, SinkSpec, hookimpl, option
from kshark.sinks._lines import Layout, Palette
from kshark.sinks._output import Held, Output, open_target

NARROW: Final = 80
"""Columns of a terminal that does not say."""
WINDOW: Final = 1.0
"""Seconds over which `rate` is counted."""


class ConsoleOptions(Options):
    """Options of the sink ``console``."""

    target: Annotated[str, option('Where to write: "-" is standard output', unit="file")] = "-"
    columns: Annotated[int, option("Width of a line; 0 = the terminal's, unlimited in a pipe")] = 0
    color: Annotated[
        Literal["auto", "always", "never"],
        option("Colour by outcome; auto = on a terminal, unless NO_COLOR is set"),
    ] = "auto"
    rate: Annotated[int, option("Lines a second on a terminal, the rest is counted; 0 = all")] = 50


class Console:
    """The sink; see the module."""

    def __init__(self, options: ConsoleOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._rate = 0
        self._shown = 0
        self._hidden = 0
        self._window = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._headed = False
        self._held = Held()

    async def open(self) -> None:
        options = self._options
        self._output = Output(open_target(options.target), options.target)
        self._terminal = os.isatty(self._output.fd)
        self._rate = options.rate if self._terminal else 0
        self._layout = Layout(Palette(_colored(options.color, self._terminal)))

    async def write(self, batch: Sequence[Entry]) -> None:
        if not self._held.resumes(batch):
            self._layout.width = self._width()
            self._output.put(self._text(batch))
        await self._output.flush()
        self._held.done()

    @property
    def waits_for_reader(self) -> bool:
        return self._output.unread

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._output.put(self._more())
        await self._output.close()

    def _width(self) -> int:
        """Columns now: a window may have been resized since the last batch."""
        if self._options.columns or not self._terminal:
            return self._options.columns
        try:
            return os.get_terminal_size(self._output.fd).columns or NARROW
        except OSError:
            return NARROW

    def _text(self, batch: Sequence[Entry]) -> bytes:
        lines: list[str] = []
        if not self._headed:
            self._headed = True
            lines.append(self._layout.header())
        shown = self._allowed(batch)
        for entry in shown:
            try:
                lines.append(self._layout.line(entry))
            except Exception as error:
                self._context.unshown(entry, error)
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")

    # -- the rate on a terminal

    def _allowed(self, batch: Sequence[Entry]) -> Iterable[Entry]:
        """The entries that this second has room for; the others are counted."""
        if not self._rate:
            return batch
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._window >= WINDOW:
            self._output.put(self._more())
            self._window, self._shown = now, 0
        room = self._rate - self._shown
        shown = batch[: max(room, 0)]
        self._shown += len(shown)
        self._hidden += len(batch) - len(shown)
        if self._hidden and self._timer is None:
            self._timer = loop.call_at(self._window + WINDOW, self._report)
        return shown

    def _report(self) -> None:
        """The second is over: say how many lines it hid."""
        self._timer = None
        self._output.put(self._more())
        self._output.flush_now()

    def _more(self) -> bytes:
        if not self._hidden:
            return b""
        text = self._layout.note(f"… {self._hidden:,} more")
        self._hidden = 0
        return f"{text}\n".encode()


def _colored(color: str, terminal: bool) -> bool:
    """https://no-color.org: NO_COLOR, when not empty, wins over "auto"; so does a dumb terminal."""
    if color != "auto":
        return color == "always"
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="console",
            make=Console,
            options=ConsoleOptions,
            doc="A live list on the terminal, plain text in a pipe",
        )
    ]
