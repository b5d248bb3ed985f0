"""A run: backends -> engines -> enrichers and redaction -> fan-out -> sinks.

One asyncio task a backend and one a sink. A backend's task feeds its own engine directly: a block's
memory is borrowed until ``engine.feed`` returns, and that takes a few milliseconds, so there is no
queue between them. When the engine is too slow for a live backend, its ring fills and the kernel
drops and counts: every loss is one of the backend's own, in its `CaptureStats`.

Files are read one after another, live backends at once. Whoever fails says one line; the others go
on. The end (of the files, by Ctrl-C, ``--duration``, ``--count``) stops the backends, lets the
engines finish, and drains the sinks: within a bounded time, at once if the user hurries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from kshark import ledger as books
from kshark import limits
from kshark.api import Block, CaptureStats, Entry, PluginError
from kshark.breaker import Charge, Post, Watch, interrupted, ours
from kshark.context import RunContext
from kshark.drain import DRAIN, Haste
from kshark.engine import Engine, EngineSettings
from kshark.enrich import Enriching
from kshark.errors import explain
from kshark.fanout import CLOSE_WAIT, Fanout
from kshark.faults import Faults, others
from kshark.plan import Chosen, Plan
from kshark.redact import redact_targets
from kshark.render import Renderer
from kshark.source import Source
from kshark.steps import Guest
from kshark.wanted import wanted_by

STOP: Final = 1.0
"""Seconds that a backend has to stop before it is cancelled."""
OPENING: Final = 0.25
"""Seconds without a failure after which a backend that has given nothing yet counts as open."""
TICK: Final = 1.0
"""Seconds between two looks at the clock for live backends."""

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done; something was lost or failed at run time; the user's input was wrong."""

Say = Callable[[str], None]


class Capture:
    """One run of a `Plan`. `run` is the whole life; `stop` and `hurry` end it early."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.say = say
        self.announce: Callable[[], None] = lambda: None
        self.announced = False  # it was said what runs: not before the backends are open
        self.post = Post()  # who works, outside of the engines
        self.faults = Faults(say)
        self.renderer = Renderer(plan.registry.protocols, plan.run.redact)
        self.fanout = Fanout(say)
        self.sources: list[Source] = []
        self.pumps: list[asyncio.Task[None]] = []
        self.enrichers: list[Enriching] = []
        self.code = DONE
        self.stopping = False
        self.stopped = asyncio.Event()
        self.haste = Haste.NONE
        self.entries = 0  # that the engines made
        self.passed = 0  # that came through the filter
        self.filtered = 0  # that did not
        self.beyond = 0  # after --count
        self.taking = asyncio.Lock()  # of files, one is read at a time

    # ------------------------------------------------------------ life

    async def run(self) -> int:
        """Everything, from opening the sinks to closing them; gives the exit code."""
        self.make()
        await self.fanout.open()
        try:
            await self._capture()
        finally:
            for source in self.sources:
                await self._close(source)
            await self.fanout.drain(lambda: self.haste)
        self._judge()
        return self.code

    def stop(self) -> None:
        """Stop the backends; what they have given is finished and delivered."""
        self.stopping = True
        self.haste = max(self.haste, Haste.BOUND)
        self.stopped.set()
        self.fanout.release()

    def interrupt(self) -> None:
        """Stop, and wait for sinks only while they take something."""
        self.stop()
        self.haste = max(self.haste, Haste.SIGNAL)

    def hurry(self) -> None:
        """Do not wait for sinks any more."""
        self.interrupt()
        self.haste = Haste.NOW
        for pump in self.pumps:
            pump.cancel()

    def make(self) -> None:
        """Make backends with their engines, enrichers and sinks; nothing is opened yet."""
        plan = self.plan
        self.renderer.report_to(self.post, self.faults)
        for one in (plan.filter, *(chosen.filter for chosen in plan.sinks)):
            if one is not None:
                one.renderer.report_to(self.post, self.faults)
        self.sources = self.make_sources()
        for chosen in plan.enrichers:
            what = f"enricher {chosen.label}"
            enricher = made(self.post, what, chosen.spec.make, chosen.options, self._context(what))
            arguments = (chosen.label, enricher, self.post, self.say, chosen.spec.make)
            self.enrichers.append(Enriching(*arguments, wanted_by(chosen.spec)))
        live = any(source.live for source in self.sources)
        for chosen in plan.sinks:
            self._make_sink(chosen, live)

    def _context(self, owner: str) -> RunContext:
        return RunContext(owner, self.renderer, self.faults, self.say, self.snapshot)

    def _make_sink(self, chosen: Chosen, live: bool) -> None:
        what = f"sink {chosen.label}"
        context = self._context(what)
        sink = made(self.post, what, chosen.spec.make, chosen.options, context)
        if not ours(chosen.spec.make):
            sink = Guest(sink, self.post, Charge(what, limits.BREAKER_CALL))
        select = chosen.filter.select if chosen.filter is not None else None
        missed = context.take_missed
        self.fanout.add(chosen.label, sink, chosen.lane, live=live, select=select, missed=missed)

    def make_sources(self) -> list[Source]:
        """The backends, each with an engine."""
        sources = []
        for chosen in self.plan.backends:
            what, make = f"backend {chosen.label}", chosen.spec.make
            backend = made(self.post, what, make, chosen.options)
            if check := getattr(backend, "check", None):
                made(self.post, what, check)
            engine = make_engine(self.plan, chosen.label, self.say)
            arguments = (chosen.label, backend, engine, self.faults, False, make, self.post)
            sources.append(made(self.post, what, Source, *arguments))
        return sources

    def watches(self) -> list[Watch]:
        """The breakers' samplers: of each engine, and of what runs beside them."""
        engines = [source.engine.watch_dissectors() for source in self.sources if not source.remote]
        return [*engines, Watch(self.post, lambda charge: self.say(charge.tripped))]

    async def _capture(self) -> None:
        self.pumps = [asyncio.create_task(self._pump(source)) for source in self.sources]
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._tick())]
        loop = asyncio.get_running_loop()
        timers = []
        if not any(source.remote for source in self.sources):  # which tell when they are open
            timers.append(loop.call_later(OPENING, self.opened))
        if self.plan.run.duration:
            timers.append(loop.call_later(self.plan.run.duration, self.stop))
        try:
            ended = asyncio.ensure_future(asyncio.wait(self.pumps))
            await asyncio.wait({ended, beside[0]}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
        finally:
            for timer in timers:
                timer.cancel()
            for task in (*beside, *self.pumps):
                task.cancel()
            await asyncio.wait((*beside, *self.pumps), timeout=STOP)
        for task in beside:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self._failed(explain(task.exception()), FAILED)
        for source, pump in zip(self.sources, self.pumps, strict=True):
            if not pump.done():
                source.left = True
                self._failed(f"backend {source.label} does not stop; left as it is", FAILED)
            if source.drains:
                self._look(source)  # its books have moved since it was closed
            for batch in source.ending():
                self.fanout.offer(self.accept(batch))
                await asyncio.sleep(0)  # a sink that keeps up takes it at once
        if not self.mistaken():
            self.opened()

    def mistaken(self) -> bool:
        """Whether a backend could not begin, by the user's mistake."""
        return self.code == WRONG

    def opened(self) -> None:
        """The backends are open: what fails from now on fails in a run that has begun."""
        if not self.announced:
            self.announced = True
            self.announce()

    @property
    def begun(self) -> bool:
        """Whether every backend is open, or has failed to open."""
        return bool(self.pumps) and all(s.begun or s.closed for s in self.sources)

    async def _watch(self) -> None:
        """Wait for a reason to stop; then see that every backend does."""
        stopped = asyncio.create_task(self.stopped.wait())
        dead = asyncio.create_task(self.fanout.dead.wait())
        try:
            await asyncio.wait({stopped, dead}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            dead.cancel()
        self.stop()
        for source in self.sources:
            if source.waiting or source.drains:
                await self._close(source)
        drains = any(source.drains for source in self.sources)
        await asyncio.wait(self.pumps, timeout=DRAIN if drains else STOP)
        for source, pump in zip(self.sources, self.pumps, strict=True):
            if source.waiting:
                pump.cancel()
        await asyncio.wait(self.pumps, timeout=DRAIN)
        for pump in self.pumps:
            pump.cancel()

    async def _tick(self) -> None:
        """Once a second: time passes where packets come as they are captured; backends' news are told."""
        while True:
            await asyncio.sleep(TICK)
            for source in self.sources:
                self._look(source)
                if not source.closed and (found := source.tick()):
                    await self.fanout.put(self.accept(found))
            self.fanout.notice_stalls()
            self.fanout.notice_losses()

    # ------------------------------------------------------------ packets to entries

    async def _pump(self, source: Source) -> None:
        """Feed one backend's blocks to its engine until it ends, fails or is stopped."""
        try:
            if source.live or self.plan.run.follow:
                await self._blocks(source)
            else:
                async with self.taking:
                    await self._blocks(source)
        except PluginError as error:
            self._failed(str(error), FAILED if source.blocks or source.remote else WRONG)
        except Exception as error:  # a backend may be a stranger's
            self._failed(f"backend {source.label} failed: {explain(error)}", FAILED)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # the backend's own
                self._failed(f"backend {source.label} failed: {explain(error)}", FAILED)
        finally:
            await self._close(source)

    async def _blocks(self, source: Source) -> None:
        blocks = source.opened()
        try:
            while not self.stopping or (source.drains and (source.begun or source.remote)):
                block = await source.next(blocks)
                if block is None or source.left:
                    return
                found = self.feed(source, block)
                del block  # its memory goes back to the backend
                if found:
                    await self.fanout.put(self.accept(found))
                await asyncio.sleep(0)  # sinks, signals and the clock have their turn
        finally:
            await source.end(blocks)

    def feed(self, source: Source, block: Block) -> list[Entry]:
        """Packets of one block into the source's engine."""
        if not self.announced and not source.remote:
            self.opened()
        return source.feed(block)

    def accept(self, batch: list[Entry]) -> list[Entry]:
        """Entries of an engine: counted, enriched, redacted, filtered."""
        self.entries += len(batch)
        for enriching in self.enrichers:
            batch = enriching.apply(batch)
        if self.plan.run.redact and batch:
            batch = redact_targets(batch, self.plan.registry.protocols)
        if self.plan.filter is not None:
            wanted = self.plan.filter.select(batch)
            self.filtered += len(batch) - len(wanted)
            batch = wanted
        return self._up_to(self.plan.run.count, batch)

    def _up_to(self, limit: int, batch: list[Entry]) -> list[Entry]:
        """What --count leaves of a batch; the run ends with the last of them."""
        self.passed += len(batch)
        if not limit or self.passed < limit:
            return batch
        self.stop()
        surplus = min(self.passed - limit, len(batch))
        self.beyond += surplus
        return batch[: len(batch) - surplus]

    # ------------------------------------------------------------ ends and books

    def _failed(self, text: str, code: int) -> None:
        self.say(text)
        self.code = max(self.code, code)

    async def _close(self, source: Source) -> None:
        if source.closed:
            return
        source.closed = True
        self._look(source)
        closing = asyncio.ensure_future(source.close())
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_WAIT)
        if not done:
            closing.cancel()
            text = f"did not close within {CLOSE_WAIT:g} s"
            self._failed(f"backend {source.label} {text}", FAILED)
        elif closing.cancelled() or closing.exception() is not None:
            why = "cancelled" if closing.cancelled() else explain(closing.exception())
            self._failed(f"backend {source.label} failed to close: {why}", FAILED)

    def _look(self, source: Source) -> None:
        """Read a backend's books; say what it noted since the last look."""
        try:
            notes = source.read_books()
        except BaseException as error:  # a backend may be a stranger's
            if others(error, source.charge):
                raise
            if not source.unreadable:
                self._failed(f"backend {source.label}: no stats: {explain(error)}", FAILED)
            source.unreadable = True
            return
        for note in notes:
            self.say(f"{source.label}: {note}")

    def _judge(self) -> None:
        """The exit code of a run that got so far."""
        for source in self.sources:
            self._look(source)
        wrong = self.check()
        for text in wrong:
            self.say(f"the books do not balance: {text}")
        lost = self.fanout.lost or any(sum(s.books.dropped.values()) for s in self.sources)
        broken = any(getattr(source.engine, "broken", False) for source in self.sources)
        broken = broken or any(enriching.errors for enriching in self.enrichers)
        if lost or wrong or broken or self.fanout.failed or self.faults.counts:
            self.code = max(self.code, FAILED)

    def snapshot(self) -> dict[str, Any]:
        """The ledger of the whole run, as nested dictionaries of integers."""
        total = books.merge([source.engine.ledger.snapshot() for source in self.sources])
        total["backends"] = {s.label: backend_books(s.books) for s in self.sources}
        total["delivery"] = {
            "made": self.entries,
            "filtered": self.filtered,
            "beyond_count": self.beyond,
            "dropped_by_enrichers": sum(one.dropped for one in self.enrichers),
            "spoilt_by_enrichers": sum(one.spoilt for one in self.enrichers),
            "lost_between": self.lost_between(),
            "enricher_errors": {one.name: one.errors for one in self.enrichers if one.errors},
        }
        for name, count in self.faults.counts.items():
            total["errors"][name] = total["errors"].get(name, 0) + count
        total["sinks"] = self.fanout.snapshot()
        return total

    def lost_between(self) -> dict[str, int]:
        """Entries that engines made and that have not come here: none where all is one process."""
        return {}

    def check(self) -> list[str]:
        """What does not balance."""
        return check(self.snapshot())


# ---------------------------------------------------------------- pieces


def make_engine(plan: Plan, backend: str, say: Say) -> Engine:
    """An engine as the plan wants it."""
    settings = EngineSettings(
        backend=backend,
        assume=plan.assume,
        only=plan.only,
        dedupe=plan.run.dedupe,
        keep_packets=any(chosen.spec.packets for chosen in plan.sinks),
    )
    return Engine(list(plan.registry.protocols.values()), settings, say)


def made(post: Post, what: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """What a plugin makes; whatever it raises is one line."""
    try:
        return post.call(Charge(what, limits.PLUGIN_LOAD), make, *arguments)
    except PluginError:
        raise
    except BaseException as error:  # a plugin's own code
        if interrupted(error):
            raise
        raise PluginError(f"{what}: {explain(error)}") from error


def backend_books(stats: CaptureStats) -> dict[str, Any]:
    books: dict[str, Any] = {"received": stats.received, "dropped": dict(stats.dropped)}
    if stats.spared:
        books["spared"] = dict(stats.spared)
    if stats.facts:
        books["facts"] = dict(stats.facts)
    if stats.coverage:
        books["tls"] = msgspec.to_builtins(stats.coverage)
    return books


def check(snapshot: Mapping[str, Any]) -> list[str]:
    """The laws of a run's ledger: the engine's, and those of delivery and of each sink."""
    found = books.balance(dict(snapshot))
    delivery = snapshot["delivery"]
    ends = ("dropped_by_enrichers", "spoilt_by_enrichers", "filtered", "beyond_count")
    given = delivery["made"] - sum(delivery[end] for end in ends)
    made_by_engine = sum(snapshot["entries"].values())
    taken = delivery["made"] + sum(delivery["lost_between"].values())
    if taken != made_by_engine:
        found.append(f"entries: {made_by_engine} made, {taken} taken")
    for name, sink in snapshot["sinks"].items():
        ended = sink["delivered"] + sum(sink["dropped"].values()) + sink["queued"]
        ended += sink["filtered"]
        if sink["entries"] != ended:
            found.append(f"sink {name}: {sink['entries']} entries, {ended} accounted for")
        if sink["entries"] != given:
            found.append(f"sink {name}: {given} entries passed on, {sink['entries']} came")
    return found
