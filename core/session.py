"""A run in this process: the event loop, signals, and what the user is told on standard error.

uvloop for live backends, where it can be imported: it is for sockets, and a file is read sooner
without the time that its import takes. The first Ctrl-C (or SIGTERM) stops and drains, the second drains no
longer, the third leaves at once, whatever hangs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import Any, Final

from kshark import breaker, wire
from kshark.app import FAILED, Capture
from kshark.engine import FLOWS
from kshark.flow import EMPTY, NOBODY
from kshark.interrupts import EARLY, Interrupts
from kshark.loop import Loop, running
from kshark.plan import Chosen, Plan
from kshark.renewal import renew
from kshark.stderr import say
from kshark.units import show_size

Say = Callable[[str], None]
PURE_COST: Final = "six to nine times the CPU time"
"""What running without the compiled core costs. *Measured*, CPU seconds beyond those of the start, captures of
100,000 exchanges to JSON lines, median of four: HTTP 8.6, Redis 5.9."""

GARBAGE: Final = 50_000
"""Containers made since the last search for cycles until the next; CPython's is 700."""


def execute(
    plan: Plan,
    tell: Say,
    watcher: Callable[[Capture], Any] | None = None,
    announce: Callable[[], None] = lambda: None,
) -> Capture:
    """Run a plan to its end, in this thread; what became of it is in the capture.

    `watcher` is a coroutine function that runs beside it (the progress of a file); `announce` is called
    once all is open.
    """
    calm_collector()
    if plan.workers > 1:
        return _execute_shared(plan, tell, announce)
    capture = Capture(plan, say)
    capture.announce = announce
    with (
        running(loop_factory(plan), say) as loop,
        _signals(loop, capture, tell),
        sampling(capture, loop.once),
    ):
        loop.run(_beside(capture, watcher))
    if loop.said:
        capture.code = max(capture.code, FAILED)
    return capture


def calm_collector() -> None:
    """Cyclic garbage is rare here (messages and entries hold none), and each search for it walks all that
    lives: a fifth of a run's time at CPython's thresholds. What start-up made lives to the end."""
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def _execute_shared(plan: Plan, tell: Say, announce: Callable[[], None]) -> Capture:
    """The same with worker processes, which are forked before there is a loop."""
    from kshark import workers

    capture = workers.Shared(plan, say, workers.spawn(plan))
    capture.announce = announce
    try:
        with (
            running(loop_factory(plan), say) as loop,
            _signals(loop, capture, tell),
            sampling(capture, loop.once),
        ):
            loop.run(_beside(capture, None))
        if loop.said:
            capture.code = max(capture.code, FAILED)
    finally:
        capture.reap()
    return capture


async def _beside(capture: Capture, watcher: Callable[[Capture], Any] | None) -> None:
    beside = asyncio.create_task(watcher(capture)) if watcher is not None else None
    try:
        await capture.run()
    finally:
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)


def loop_factory(plan: Plan) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop for live backends, where there is one."""
    if not any(chosen.spec.rank > 0 for chosen in plan.backends):
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def renewing(
    loop: asyncio.AbstractEventLoop, capture: Capture, tell: Say
) -> Callable[[], None] | None:
    """Reads the configuration again, in the loop; None where the run has no file, or several processes."""
    read = capture.plan.again
    if read is None or capture.plan.workers > 1:
        return None

    def soon() -> None:
        loop.call_soon_threadsafe(lambda: tell(renew(capture.plan, capture.sources, read)))

    return soon


@contextmanager
def _signals(running: Loop, capture: Capture, tell: Say) -> Iterator[None]:
    """Stop, then hurry, then leave (`kshark.interrupts`)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = running.loop

    def on_signal(count: int) -> None:
        if count == 1:
            tell("stopping; once more to leave without waiting for sinks")
        loop.call_soon_threadsafe(capture.interrupt if count == 1 else capture.hurry)

    heard = EARLY if EARLY.installed else Interrupts()
    if heard is not EARLY:
        heard.install()
    heard.attach(on_signal, renewing(loop, capture, tell))
    try:
        yield
    finally:
        heard.detach()
        if heard is not EARLY:
            heard.remove()


@contextmanager
def sampling(capture: Capture, tell: Say) -> Iterator[None]:
    """The timer of the breakers: one for all that runs in this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watches: list[breaker.Watch] = []
    strays = breaker.Strays(capture.plan.registry.packages(), tell)
    known = -1

    def on_alarm(number: int, frame: FrameType | None) -> None:
        nonlocal known
        if known != len(capture.sources):
            known = len(capture.sources)
            watches[:] = capture.watches()
        for watch in watches:
            watch.sample(frame)
            if watch.deaf:
                say(f"{watch.deaf} cannot be interrupted: it catches every exception; left at once")
                os._exit(FAILED)
        strays.sample(None if any(watch.ages for watch in watches) else frame)

    before = breaker.ring(on_alarm)
    try:
        yield
    finally:
        breaker.silence(before)


# ---------------------------------------------------------------- what the user is told


def compiled() -> bool:
    """Whether the compiled wire is in use, or its plain twin."""
    return wire.load().__module__.endswith(".fast")


def start_line(plan: Plan) -> str:
    """What runs, in one line."""
    sources = ", ".join(_source(chosen) for chosen in plan.backends)
    known = plan.run.protocol or sorted(set(plan.only or plan.registry.protocols) - FLOWS)
    sinks = ", ".join(chosen.label for chosen in plan.sinks)
    text = f"{sources}; protocols {', '.join(known) or 'none'}; sinks {sinks}"
    if plan.workers > 1:
        text += f"; {plan.workers} workers"
    if not compiled():
        text += f"; plain Python, without the compiled core: {PURE_COST}"
    return text


def _source(chosen: Chosen) -> str:
    target = getattr(chosen.options, "target", "")
    shown = "+".join(target) if isinstance(target, list | tuple) else str(target)
    if not shown and chosen.spec.rank > 0 and hasattr(chosen.options, "target"):
        return f"{chosen.label} on all interfaces"
    return chosen.label if shown in chosen.label else f"{chosen.label} {shown}"


def summary(snapshot: Mapping[str, Any], seconds: float) -> str:
    """The ledger in one line."""
    packets, entries = snapshot["packets"], snapshot["entries"]
    parts = [f"{packets['received']:,} packets" + _brackets(snapshot["backends"])]
    outcomes = ", ".join(f"{n:,} {name}" for name, n in entries.items() if n)
    parts.append(f"{sum(entries.values()):,} entries" + (f" ({outcomes})" if outcomes else ""))
    if filtered := snapshot["delivery"]["filtered"]:
        parts.append(f"{filtered:,} filtered out")
    for name, sink in snapshot["sinks"].items():
        lost = ", ".join(_lost(reason, n) for reason, n in sink["dropped"].items())
        refused = f", {sink['filtered']:,} filtered out" if sink["filtered"] else ""
        parts.append(f"{name} {sink['delivered']:,}{refused}" + (f", {lost}" if lost else ""))
    parts += _unread(packets["opaque"])
    if errors := sum(snapshot["errors"].values()):
        word = "error" if errors == 1 else "errors"
        parts.append(f"{errors:,} dissect {word}: kshark doctor shows which")
    return "; ".join(parts) + f"; {seconds:.1f} s"


def _unread(opaque: Mapping[str, int]) -> list[str]:
    """Packets that no dissector took, or that it gave up on, by what a user can do about it."""
    parts, rest = [], {reason: n for reason, n in opaque.items() if n and reason != EMPTY}
    if unknown := rest.pop(NOBODY, 0):
        parts.append(f"{unknown:,} packets of unknown protocols")
    if encrypted := rest.pop("encrypted", 0):
        parts.append(f"{encrypted:,} encrypted packets")
    if rest:
        most = max(rest, key=lambda reason: rest[reason])
        parts.append(
            f"{sum(rest.values()):,} packets not read ({most}{', …' if rest.keys() > {most} else ''})"
        )
    return parts


def _lost(reason: str, count: int) -> str:
    return f"{count:,} unread" if reason == "unread" else f"{count:,} lost ({reason})"


def _brackets(backends: Mapping[str, Any]) -> str:
    lost = [
        f"{n:,} lost ({name}: {reason})"
        for name, stats in backends.items()
        for reason, n in stats["dropped"].items()
        if n
    ]
    return f", {', '.join(lost)}" if lost else ""


async def progress(capture: Capture) -> None:
    """A line that shows how far a file is, on a terminal; nothing for what takes under a second."""
    started = perf_counter()
    await asyncio.sleep(1.0)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        while True:
            done, total = _progress(capture)
            packets = sum(source.packets for source in capture.sources)
            rate = packets / (perf_counter() - started)
            text = f"{show_size(done)}, {packets:,} packets, {rate:,.0f}/s"
            bar.update(task, completed=done, total=total or None, description=text)
            await asyncio.sleep(0.2)


def _progress(capture: Capture) -> tuple[int, int]:
    """Bytes read, and in total, 0 where a backend cannot say."""
    done, total = 0, 0
    for source in capture.sources:
        ask = getattr(source.backend, "progress", None)
        if ask is None:
            return sum(s.bytes for s in capture.sources), 0
        read, size = ask()
        done, total = done + read, total + max(size, read)
    return done, total
