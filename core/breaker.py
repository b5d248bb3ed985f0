"""A plugin that takes too long is interrupted, and switched off when it does so again; the capture goes on.

Nothing is measured per call. Who calls into a plugin says whose code runs at this moment (`Tally.current` of an
engine, `Post` of a run); a timer looks. What it sees are each plugin's shares of time, and a call that is still the
same after several looks is too long, even if it would never return: the timer then raises `Overrun` inside it, since a
Python signal handler runs in the main thread between two of its bytecodes. Code that turns without any (a loop in
C) cannot be interrupted by anybody but the system.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Protocol, TypeVar

from kshark import limits
from kshark.api import ProtocolSpec

T = TypeVar("T")
PERIOD: Final = 0.05  # s between samples: 20 wake-ups a second
PERIOD_NS: Final = int(PERIOD * limits.SECOND)
CALLERS: Final = frozenset(
    {
        f"kshark.{m}"
        for m in (
            "alarm",
            "breaker",
            "engine",
            "feeder",
            "flow",
            "given",
            "identify",
            "layers",
            "quick",
        )
    }
)
"""Modules that call into plugins. Nothing is raised within their own code, but at the next look in the plugin's."""


class Overrun(BaseException):
    """Raised inside a call that takes too long; nobody who catches `Exception` swallows it."""

    def __init__(self, charge: Charge) -> None:
        super().__init__(f"it took over {charge.patience / limits.SECOND:g} s")
        self.charge = charge


class Charge:
    """What a plugin's code is charged to: what it may take and has taken, and whether it is switched off."""

    def __init__(self, name: str, patience: int = limits.BREAKER_FEED) -> None:
        self.name = name
        self.patience = patience  # ns that one call may take
        self.tripped = ""  # why it is not called any more
        self.errors = 0  # unexpected exceptions
        self.bytes = 0
        self.spent = 0  # ns, as far as the samples know
        self.offences = 0
        self.window_bytes = 0  # `bytes` when the window began, and so on
        self.window_spent = 0
        self.window_offences = 0


class ProtocolState(Charge):
    """What one engine knows of one protocol: its counters and whether its breaker has tripped."""

    def __init__(self, spec: ProtocolSpec, strict: bool) -> None:
        super().__init__(spec.name)
        self.spec = spec
        self.strict = strict  # a stranger's messages are checked
        self.flows = 0


class AtWork(Protocol):
    """Who says whose code runs: `feeds` is another number for each call."""

    current: object
    feeds: int


class Post:
    """Whose code runs outside of the engines: in renderers, enrichers, sinks and backends. Calls may nest."""

    def __init__(self) -> None:
        self.calls: list[tuple[Charge, int]] = []  # the innermost last
        self.count = 0

    def call(self, charge: Charge, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plugin's function, charged to it."""
        self.count += 1
        self.calls.append((charge, self.count))
        try:
            return function(*arguments)
        finally:
            self.calls.pop()

    def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call into an engine, which says itself whose code runs."""
        return function(*arguments)


def spent_ns() -> int:
    """A clock that stands while this thread waits for a processor: nobody is blamed for a busy machine."""
    return time.monotonic_ns() - queued()


def queued() -> int:
    """ns for which this thread was ready to run and did not (the second field of schedstat); 0 if not known."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(file, 64).split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    finally:
        os.close(file)


def ring(handler: Callable[[int, FrameType | None], None], first: float = PERIOD) -> Any:
    """Have SIGALRM ask `handler`, first after so many seconds; gives who was asked before. Main thread only."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, first, PERIOD)
    return before


def silence(before: Any = signal.SIG_DFL) -> None:
    """Do so no more. One signal may be on its way: by default it would end the process."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # takes it back
    signal.signal(signal.SIGALRM, before)


class Watch:
    """Samples one engine's tally, or a run's `Post`. `sample` is what the timer calls; tests call it themselves."""

    def __init__(
        self,
        work: AtWork | Post,
        tripped: Callable[[Charge], None],
        clock: Callable[[], int] = spent_ns,
    ) -> None:
        self.work = work
        self.tripped = tripped
        self.clock = clock
        self.last = clock()
        self.window = 0  # ns since the window began
        self.ages: dict[
            int, int
        ] = {}  # ns that the calls at hand have been seen for, by their numbers
        self.stopped: set[int] = set()  # those that were interrupted
        self.seen: set[Charge] = set()
        self.deaf = ""  # who does not let itself be interrupted

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.sample(frame)

    def calls(self) -> list[tuple[Charge, int]]:
        """What runs: whose it is, and the number of the call; the innermost last."""
        if isinstance(self.work, Post):
            return self.work.calls[:]
        current = self.work.current
        return [(current, self.work.feeds)] if isinstance(current, Charge) else []

    def sample(self, frame: FrameType | None = None) -> None:
        """One look; raises `Overrun` where a call takes too long."""
        now = self.clock()
        passed = min(now - self.last, 2 * PERIOD_NS)  # a machine that slept did not work
        self.last = now
        self.window += passed
        if self.window >= limits.BREAKER_WINDOW:
            self.close_window()
        calls = self.calls()
        self.ages = {number: self.ages.get(number, -passed) + passed for _, number in calls}
        self.stopped &= self.ages.keys()
        if not calls:
            return
        innermost, _ = calls[len(calls) - 1]
        innermost.spent += passed
        self.seen.add(innermost)
        if frame is not None and frame.f_globals.get("__name__") in CALLERS:
            return
        for charge, number in calls:
            if self.ages[number] >= charge.patience:
                self.interrupt(charge, number)

    def interrupt(self, charge: Charge, number: int) -> None:
        """Raise within the call: again at every look while it goes on in spite of that."""
        self.seen.add(charge)
        if number not in self.stopped:
            self.stopped.add(number)
            charge.offences += 1
            if charge.offences >= limits.BREAKER_OFFENCES and not charge.tripped:
                seconds = f"{charge.patience / limits.SECOND:g} s"
                self.trip(charge, f"a call took over {seconds}, {charge.offences} times")
        if self.ages[number] >= charge.patience + limits.BREAKER_DEAF:
            self.deaf = charge.name
        raise Overrun(charge)

    def close_window(self) -> None:
        """Judge shares of the window that ends, begin the next."""
        for charge in self.seen:
            spent = charge.spent - charge.window_spent
            fed = max(1, charge.bytes - charge.window_bytes)
            slow = spent >= limits.BREAKER_SHARE and spent / fed > limits.BREAKER_RATE
            if slow and isinstance(charge, ProtocolState) and not charge.tripped:
                self.trip(charge, f"too slow, {spent / limits.SECOND:.1f} s for {fed} bytes")
            if charge.offences == charge.window_offences:
                charge.offences = 0
            charge.window_spent, charge.window_bytes = charge.spent, charge.bytes
            charge.window_offences = charge.offences
        self.window = 0

    def trip(self, charge: Charge, reason: str) -> None:
        charge.tripped = f"{charge.name} is switched off: {reason}"
        self.tripped(charge)


class Strays:
    """Plugins' code that runs though nobody called it: tasks, callbacks and destructors of theirs."""

    def __init__(
        self,
        packages: frozenset[str],
        say: Callable[[str], None],
        clock: Callable[[], int] = spent_ns,
    ) -> None:
        self.packages = packages
        self.say = say
        self.clock = clock
        self.last = clock()
        self.frame: FrameType | None = None  # the outermost of theirs, at the last look
        self.age = 0  # ns that it has been there
        self.charge = Charge("a plugin's task", limits.BREAKER_CALL)
        self.interrupted = 0

    def sample(self, frame: FrameType | None) -> None:
        """One look at what was interrupted, where no call is known; raises `Overrun` in what holds everything up."""
        now = self.clock()
        passed = min(now - self.last, 2 * PERIOD_NS)
        self.last = now
        found = self.outermost(frame) if self.packages else None
        self.age = self.age + passed if found is not None and found is self.frame else 0
        self.frame = found
        if found is not None and self.age >= self.charge.patience:
            self.interrupted += 1
            place = f"{found.f_code.co_filename}:{found.f_lineno}"
            if self.interrupted == 1:
                held = f"held everything up for {self.age / limits.SECOND:.1f} s"
                self.say(f"a plugin's own task {held}, and is interrupted: {place}")
            raise Overrun(self.charge)

    def outermost(self, frame: FrameType | None) -> FrameType | None:
        found = None
        while frame is not None:
            name = frame.f_globals.get("__name__")
            if isinstance(name, str) and name.partition(".")[0] in self.packages:
                found = frame
            frame = frame.f_back
        return found


class Interrupt(KeyboardInterrupt):
    """The user's Ctrl-C while plugins are loaded: a KeyboardInterrupt is then a plugin's own."""


@contextmanager
def within(patience: int) -> Iterator[None]:
    """Interrupt what takes longer than so many ns (SIGALRM); in the main thread, while no other watch runs."""
    if threading.current_thread() is not threading.main_thread() or any(
        signal.getitimer(signal.ITIMER_REAL)
    ):
        yield
        return
    charge = Charge("", patience)

    def on_alarm(number: int, frame: FrameType | None) -> None:
        # Not on the way out, through ours and through what leaves a `with`: the next one may be due at once.
        module = str(frame.f_globals.get("__name__")) if frame is not None else "kshark."
        if not module.startswith("kshark.") and module != "contextlib":
            raise Overrun(charge)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    ctrl_c = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ctrl_c:
        signal.signal(signal.SIGINT, on_interrupt)
    before = ring(on_alarm, patience / limits.SECOND)
    try:
        yield
    finally:
        silence(before)
        if ctrl_c:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def ours(made: Any) -> bool:
    """Whether it is of this package: what strangers make is watched, and what they give is checked."""
    module = getattr(made, "__module__", None)
    if not isinstance(module, str) or not module.startswith("kshark."):
        return False
    return getattr(sys.modules.get(module), getattr(made, "__name__", ""), None) is made


def interrupted(error: BaseException) -> bool:
    """Whether this may be the user's Ctrl-C, rather than what a plugin raised: it must get through.

    A run has a handler of its own for it, which raises nothing.
    """
    if not isinstance(error, KeyboardInterrupt) or isinstance(error, Interrupt):
        return isinstance(error, Interrupt)
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler
