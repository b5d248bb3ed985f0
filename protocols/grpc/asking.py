"""Types of the servers that are seen: ``--proto reflect`` lets kshark ask each, once, while the capture goes on.

An enricher sees the calls. A server is asked in a thread, one after the other, REFLECTION for each round of questions
and REFLECTED_SERVERS of them in all; what it answers is taken over with a later batch, so that types never change
while a body is read. Types that are known already stay. Without ``--proto reflect`` nobody is asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from kshark import limits
from kshark.api import Context, EnricherSpec, Entry, Flow, Options, PluginError
from kshark.protocols.grpc.reflection import descriptors_of
from kshark.protocols.grpc.schema import Pool
from kshark.protocols.grpc.wire import BadMessage

Ask = Callable[[str], list[bytes]]
FULL = f"--proto reflect: over {limits.REFLECTED_SERVERS} servers; no further ones are asked"


class OpenPool(Pool):
    """Types that may grow while a capture goes on: the user allows to ask for them."""


class Asker:
    """A `kshark.api.Enricher` that changes nothing."""

    def __init__(
        self, pool: Pool | None, say: Callable[[str], None], ask: Ask = descriptors_of
    ) -> None:
        self.pool = pool if isinstance(pool, OpenPool) else None
        self.say = say
        self.ask = ask
        self.seen: set[str] = set()
        self.waiting: deque[str] = deque()
        self.answers: deque[tuple[str, list[bytes] | str]] = deque()
        self.thread: threading.Thread | None = None
        self.room = limits.PROTO_SCHEMA
        self.full = False

    def enrich(self, batch: list[Entry]) -> list[Entry]:
        """The same entries; servers among them that are new will be asked."""
        if self.pool is None:
            return batch
        while self.answers:
            self.take(self.pool, *self.answers.popleft())
        for entry in batch:
            if entry.response is not None and not entry.swapped:
                self.look(entry.flow)
        if self.waiting and (self.thread is None or not self.thread.is_alive()):
            self.thread = threading.Thread(target=self.work, name="grpc-reflect", daemon=True)
            self.thread.start()
        return batch

    def look(self, flow: Flow) -> None:
        """A server that answered a call in clear."""
        address = f"[{flow.server.ip}]" if ":" in flow.server.ip else flow.server.ip
        address = f"{address}:{flow.server.port}"
        if address in self.seen or flow.reason.startswith(
            "in "
        ):  # within TLS: it would not hear us
            return
        if len(self.seen) < limits.REFLECTED_SERVERS:
            self.seen.add(address)
            self.waiting.append(address)
        elif not self.full:
            self.full = True
            self.say(FULL)

    def work(self) -> None:
        """In the thread: ask whoever waits."""
        while self.waiting:
            address = self.waiting.popleft()
            try:
                self.answers.append((address, self.ask(address)))
            except PluginError as error:
                self.answers.append((address, str(error)))
            except Exception as error:  # whatever a library makes of a stranger's answer
                what = type(error).__name__
                self.answers.append((address, f"--proto reflect:{address}: {what}"))

    def take(self, pool: Pool, address: str, answer: list[bytes] | str) -> None:
        """What a server said."""
        if isinstance(answer, str):
            self.say(answer)
            return
        self.room -= sum(map(len, answer))
        if self.room < 0:
            self.say(
                f"--proto reflect:{address}: over {limits.PROTO_SCHEMA >> 20} MiB of descriptors"
            )
            return
        found = Pool()
        try:
            for data in answer:
                found.add_file(data)
        except BadMessage:
            self.say(f"--proto reflect:{address}: its answer is no descriptor")
            return
        pool.messages = {**found.messages, **pool.messages}
        pool.enums = {**found.enums, **pool.enums}
        pool.methods = {**found.methods, **pool.methods}


def make(options: Options, context: Context) -> Asker:
    spec = context.protocols.get("grpc")
    known = getattr(spec.details, "keywords", {}) if spec is not None else {}
    return Asker(known.get("pool"), context.say)


ASKER = EnricherSpec(
    name="grpc-types",
    make=make,
    doc="Types of gRPC bodies from the servers that are seen, with `--proto reflect` alone",
    protocols=("grpc",),
)
