"""The sink console: what people see, on terminals of any width and in pipes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kshark.api import Endpoint, Entry, Flow, Message, Outcome
from kshark.sinks import _lines, console
from kshark.sinks._lines import Layout, Palette, cells, visible
from kshark.sinks.console import Console, ConsoleOptions


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def run(context: Any, *batches: list[Entry], **options: Any) -> None:
    async def go() -> None:
        sink = Console(ConsoleOptions(**options), context)
        await sink.open()
        for batch in batches:
            await sink.write(batch)
        await sink.close()

    asyncio.run(go())


Terminal = Callable[..., str]
END = b"(the end)"


def read_until(fd: int, end: bytes, count: int = 1) -> str:
    """What a terminal shows, until it has shown `end` so many times."""
    got = b""
    while got.count(end) < count:
        got += os.read(fd, 1 << 16)
    return got.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(context: Any) -> Iterator[Terminal]:
    """Runs the sink on a pseudo-terminal of so many columns; gives what it shows."""
    ours, theirs = os.openpty()

    def show(*batches: list[Entry], columns: int = 80, **options: Any) -> str:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with ThreadPoolExecutor(1) as pool:
            shown = pool.submit(read_until, ours, END)
            try:
                run(context, *batches, target=os.ttyname(theirs), **options)
            finally:
                os.write(theirs, END)
            return shown.result().removesuffix(END.decode())

    yield show
    os.close(ours)
    os.close(theirs)


def plain(text: str) -> str:
    for code in ("0", "1", "2", "31", "32", "33", "35"):
        text = text.replace(f"\x1b[{code}m", "")
    return text


def piped(context: Any, tmp_path: Path, *batches: list[Entry], **options: Any) -> str:
    out = tmp_path / "out.txt"
    run(context, *batches, target=str(out), **options)
    return out.read_text()


def samples(make_entry: Any) -> list[Entry]:
    lost = make_entry(2, request=None, outcome=Outcome.ORPHAN)
    failed = make_entry(1, outcome=Outcome.ERROR)
    failed.protocol = "redis"
    failed.request.verb, failed.request.target = "LPUSH", "k"
    failed.response.status, failed.response.target = 0, "WRONGTYPE of value"
    failed.response.ok = False
    silent = make_entry(3, response=None, outcome=Outcome.UNANSWERED)
    return [make_entry(0), failed, lost, silent, make_entry(4, outcome=Outcome.CUT, gap_bytes=7)]


GOLDEN_80 = """\
TIME     PROTO SOURCE -> DESTINATION    REQUEST            STATUS LATENCY   SIZE
03:04:05 http  10.0.0.1 -> 10.0.0.2:80  GET /r             200     1.23ms   165B
03:04:05 redis 10.0.0.1 -> 10.0.0.2:80  LPUSH k  WRONGTYP… error   1.23ms   165B
03:04:05 http  10.0.0.1 -> 10.0.0.2:80  (request not seen) 200              165B
03:04:05 http  10.0.0.1 -> 10.0.0.2:80  GET /r             silent            80B
03:04:05 http  10.0.0.1 -> 10.0.0.2:80  GET /r             cut     1.23ms  ~165B
"""

GOLDEN_PIPE = """\
TIME         PROTO    SOURCE -> DESTINATION                REQUEST                              \
    STATUS LATENCY   SIZE
03:04:05.000 http     10.0.0.1 -> 10.0.0.2:80              GET /r                               \
    200     1.23ms   165B
03:04:05.000 redis    10.0.0.1 -> 10.0.0.2:80              LPUSH k  WRONGTYPE of value          \
    error   1.23ms   165B
"""


def test_eighty_columns(terminal: Any, make_entry: Any) -> None:
    shown = terminal(samples(make_entry))
    assert plain(shown) == GOLDEN_80
    assert all(len(line) == 80 for line in GOLDEN_80.splitlines())


def test_plain_in_a_pipe(context: Any, tmp_path: Path, make_entry: Any) -> None:
    assert piped(context, tmp_path, samples(make_entry)[:2]) == GOLDEN_PIPE


def test_a_pipe_gets_long_targets_whole(context: Any, tmp_path: Path, make_entry: Any) -> None:
    target = "/" + "x" * 3000
    assert f"GET {target} 200 " in piped(context, tmp_path, [make_entry(target=target)])


def test_colour_by_outcome(terminal: Any, make_entry: Any) -> None:
    lines = terminal(samples(make_entry)).splitlines()[1:]
    for line, code in zip(lines, ["32", "31", "35", "33", "33"], strict=True):
        assert f"\x1b[{code}m" in line
        assert line.startswith("\x1b[2m03:04:05\x1b[0m")


@pytest.mark.parametrize(
    ("color", "variable", "value", "colored"),
    [
        ("auto", "NO_COLOR", "1", False),
        ("auto", "NO_COLOR", "", True),
        ("auto", "TERM", "dumb", False),
        ("always", "NO_COLOR", "1", True),
        ("never", "TERM", "xterm", False),
    ],
)
def test_who_decides_on_colour(
    terminal: Any,
    make_entry: Any,
    monkeypatch: pytest.MonkeyPatch,
    color: Any,
    variable: Any,
    value: Any,
    colored: Any,
) -> None:
    monkeypatch.setenv(variable, value)
    assert ("\x1b[" in terminal([make_entry()], color=color)) is colored


def test_a_pipe_has_no_colour_unless_asked(context: Any, tmp_path: Path, make_entry: Any) -> None:
    assert "\x1b" not in piped(context, tmp_path, [make_entry()])
    assert "\x1b[32m200" in piped(context, tmp_path, [make_entry()], color="always")


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\nGET /forged",
    "\x9b31m",
    "\u202eevil",
    "\u2028",
    "\x00\x08\x7f",
    "\udcff",
    "\u200b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_peers_cannot_draw(terminal: Any, make_entry: Any, text: Any) -> None:
    made = make_entry(target=text)
    made.protocol = text
    made.response.target = text
    made.flow = Flow("f", "tcp", Endpoint(text, 1), Endpoint("h", 2, name=text, comm=text))
    shown = terminal([made], columns=200, color="never")
    assert shown.count("\n") == 2
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_escapes_are_readable() -> None:
    assert visible("\x1b[2J\x9b\u202e\udcff\t") == r"\x1b[2J\x9b\u202e\udcff\t"


@pytest.mark.parametrize("columns", [1, 20, 40, 59, 60, 80, 99, 100, 120, 250])
def test_no_line_is_wider_than_the_terminal(terminal: Any, make_entry: Any, columns: Any) -> None:
    wide = make_entry(target="/日本語" * 100)
    marks = make_entry(target="e\u0301" * 5000)
    wide.flow = Flow("f", "tcp", Endpoint("fe80::1", 1, name="n" * 99), Endpoint("::1", 6379))
    shown = terminal([*samples(make_entry), wide, marks], columns=columns, color="never")
    assert shown.count("\n") == 8
    for line in shown.splitlines():
        assert cells(line) <= columns
        assert len(line) <= columns * _lines.CELLS_TO_CHARS
    if columns >= 60:
        assert all(line.endswith(("B", "K", "SIZE")) for line in shown.splitlines())


def test_wide_characters_are_counted() -> None:
    line = Layout(Palette(False), 80)
    made = Entry(
        Flow("f", "tcp", Endpoint("a", 1), Endpoint("b", 2)),
        0,
        "http",
        Message(1, verb="GET", target="/日本語日本語日本語"),
        None,
        Outcome.UNANSWERED,
    )
    assert "GET /日本語日本語… " in line.line(made)
    assert cells(line.line(made)) == 80


def test_names_and_processes_are_shown_before_addresses(
    context: Any, tmp_path: Path, make_entry: Any
) -> None:
    made = make_entry()
    made.flow = Flow(
        "f", "tcp", Endpoint("10.0.0.1", 5, pid=7, comm="curl"), Endpoint("::1", 80, name="web")
    )
    unnamed = make_entry()
    unnamed.flow = Flow("g", "tcp", Endpoint("::2", 5), Endpoint("::1", 80))
    asked_for = make_entry()
    asked_for.flow = Flow(
        "h", "tcp", Endpoint("::2", 5), Endpoint("::1", 443, comm="x", dns="a.example")
    )
    both = make_entry()
    both.flow = Flow(
        "i", "tcp", Endpoint("::2", 5), Endpoint("::1", 80, name="web", dns="a.example")
    )
    shown = piped(context, tmp_path, [made, unnamed, asked_for, both])
    assert " curl[7] -> web:80 " in shown
    assert " ::2 -> [::1]:80 " in shown
    assert " ::2 -> a.example:443 " in shown
    assert " ::2 -> web:80 " in shown


def test_the_width_may_be_given(context: Any, tmp_path: Path, make_entry: Any) -> None:
    shown = piped(context, tmp_path, [make_entry(target="/" * 500)], columns=70)
    assert {len(line) for line in shown.splitlines()} == {70}


def test_the_window_may_be_resized(context: Any, make_entry: Any) -> None:
    ours, theirs = os.openpty()

    async def go() -> list[int]:
        sink = Console(ConsoleOptions(target=os.ttyname(theirs), color="never"), context)
        await sink.open()
        widths: list[int] = []
        for columns in (80, 120):
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
            await sink.write([make_entry(target="/" * 500)])
            lines = 1 if widths else 2
            widths.append(len(read_until(ours, b"\n", lines).splitlines()[-1]))
        await sink.close()
        return widths

    assert asyncio.run(go()) == [80, 120]
    os.close(ours)
    os.close(theirs)


# ---------------------------------------------------------------- the rate


def test_a_flood_is_counted_on_a_terminal(terminal: Any, make_entry: Any) -> None:
    shown = terminal([make_entry(n) for n in range(2000)], [make_entry(9)], color="never")
    lines = shown.splitlines()
    assert len(lines) == 1 + 50 + 1
    assert lines[-1] == "… 1,951 more"


def test_the_rate_may_be_another_or_none(terminal: Any, make_entry: Any) -> None:
    batch = [make_entry(n) for n in range(60)]
    assert terminal(batch, rate=5).count("\n") == 1 + 5 + 1
    assert terminal(batch, rate=0).count("\n") == 1 + 60


def test_an_entry_that_cannot_be_shown_costs_that_entry(
    context: Any, tmp_path: Path, make_entry: Any
) -> None:
    batch = [make_entry(n, target=f"/{n}") for n in range(3)]
    batch[1].request.first_ns = "noon"
    run(context, batch, target=str(tmp_path / "out"))
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line.split()[6] for line in lines if "GET" in line] == ["/0", "/2"]
    assert context.lost == [batch[1]]


def test_a_pipe_gets_all(context: Any, tmp_path: Path, make_entry: Any) -> None:
    shown = piped(context, tmp_path, [make_entry(n) for n in range(2000)])
    assert shown.count("\n") == 2001


def test_what_was_hidden_is_told_when_its_second_is_over(
    context: Any, make_entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing comes any more; and the next second has room again."""
    monkeypatch.setattr(console, "WINDOW", 0.05)
    ours, theirs = os.openpty()

    async def go() -> tuple[str, str]:
        options = ConsoleOptions(target=os.ttyname(theirs), color="never", rate=2, columns=80)
        sink = Console(options, context)
        await sink.open()
        await sink.write([make_entry(n) for n in range(5)])
        first = await asyncio.to_thread(read_until, ours, b"\n", 4)
        await sink.write([make_entry(6)])
        second = read_until(ours, b"\n")
        await sink.close()
        return first, second

    first, second = asyncio.run(go())
    assert first.splitlines()[-1] == "… 3 more"
    assert len(first.splitlines()) == 4
    assert len(second.splitlines()) == 1
    os.close(ours)
    os.close(theirs)
