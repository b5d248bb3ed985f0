"""The event loop of a run, to its end: whatever plugins leave behind in it.

A task of a plugin that raises SystemExit ends neither the loop nor the run, one that does not let itself be
cancelled is left behind, and none of them prints a traceback.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from kshark.breaker import Overrun
from kshark.faults import told

END: Final = 1.0
"""Seconds that what is left has to end."""

Say = Callable[[str], None]


@contextmanager
def running(make: Callable[[], asyncio.AbstractEventLoop] | None, say: Say) -> Iterator[Loop]:
    """A loop, closed at the end; what fails in it beside the run is said in one line."""
    loop = Loop((make or asyncio.new_event_loop)(), say)
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook = loop.of_a_thread
    sys.unraisablehook = loop.unraisable
    try:
        yield loop
    finally:
        try:
            loop.end()
        finally:
            threading.excepthook, sys.unraisablehook = hooks


def stuck() -> list[str]:
    """Names of the threads that would keep this process from ending."""
    mine = threading.current_thread()
    until = time.monotonic() + END
    others = [t for t in threading.enumerate() if t is not mine and not t.daemon]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    return [f"the thread {thread.name}" for thread in others if thread.is_alive()]


class Loop:
    """See `running`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Say) -> None:
        self.loop = loop
        self.say = say
        self.said: set[str] = set()
        self.ended = False
        self.threads = ThreadPoolExecutor(thread_name_prefix="kshark")
        loop.set_default_executor(self.threads)
        loop.set_exception_handler(self.failed)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this to its end."""
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(work)
        while True:
            try:
                return self.loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                self.once(f"a plugin's task raised {type(error).__name__}; the run goes on")

    def end(self) -> None:
        """Cancel what is left, wait for it a moment, and close."""
        loop = self.loop
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                self.run(self._until(left))
            self.run(self._until({loop.create_task(loop.shutdown_asyncgens())}))
        finally:
            self.ended = True
            self.threads.shutdown(wait=False, cancel_futures=True)
            asyncio.set_event_loop(None)
            loop.close()

    async def _until(self, tasks: set[asyncio.Task[Any]]) -> None:
        done, late = await asyncio.wait(tasks, timeout=END)
        for task in done:
            if not task.cancelled():
                task.exception()  # it is looked at: nobody need hear of it any more
        if late:
            self.once(f"{len(late)} tasks of plugins do not end; left as they are")

    # ------------------------------------------------------------ what would be tracebacks

    def once(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.say(text)

    def failed(self, loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        """A task or callback of nobody's failed."""
        if self.ended:
            return
        error = facts.get("exception")
        if isinstance(error, Overrun | SystemExit | KeyboardInterrupt):  # that was said
            return
        what = told(error) if error is not None else facts.get("message", "it failed")
        self.once(f"a plugin's task failed: {what}")

    def of_a_thread(self, facts: threading.ExceptHookArgs) -> None:
        if facts.exc_type is not SystemExit:  # which ends a thread quietly
            self.once(f"a plugin's thread failed: {told(facts.exc_value)}")

    def unraisable(self, facts: sys.UnraisableHookArgs) -> None:
        """An exception where nobody can be told of it: a destructor."""
        if isinstance(facts.exc_value, Warning):
            sys.__unraisablehook__(facts)
        else:
            self.once(f"a destructor failed: {told(facts.exc_value)}")
