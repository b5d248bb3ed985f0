"""The packets of entries as pcapng; the first packet of each has a comment that names the entry.

Packets are stored as they were captured: what rows redact is in them. The file is whole after every
batch, so other tools may read it while it grows. A packet that several entries share (pipelined
answers in one segment) is stored once, with the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Final

from kshark.api import Context, Entry, Options, Packet, PluginError, SinkSpec, hookimpl, option
from kshark.limits import PCAPNG_IFACES
from kshark.sinks import _pcapng
from kshark.sinks._lines import question, visible
from kshark.sinks._store import Store, StoreOptions

PRIVATE: Final = 0o600
"""Mode of a new file: it holds what nobody redacted."""
ASKED_CHARS: Final = 1_000
"""Characters of verb and target that a comment quotes."""


class PcapOptions(Options):
    """Options of the sink ``pcap``."""

    target: Annotated[
        str, option('A file, begun anew; "-" is standard output, for a pipe', unit="file")
    ] = "-"
    rotate_bytes: Annotated[
        int, option("Begin a new file before this one is larger; 0 = never", unit="bytes")
    ] = 0
    keep: Annotated[int, option("Rotated files to keep, the oldest go; 0 = all")] = 0


class Pcap:
    """The sink; an entry's packets are never divided between two files."""

    def __init__(self, options: PcapOptions, context: Context) -> None:
        self._say = context.say
        self._unshown = context.unshown
        self._target = options.target
        self._numbers: dict[tuple[str, int], int] = {}
        self._todo: Sequence[Entry] = ()
        self._at = 0  # how many of them are with the store
        self._store = Store(
            StoreOptions(
                target=options.target,
                rotate_bytes=options.rotate_bytes,
                keep=options.keep,
                truncate=True,
                mode=PRIVATE,
            ),
            context.say,
        )

    async def open(self) -> None:
        if self._target == "-" and os.isatty(1):
            raise PluginError("pcap: a terminal cannot show packets; use pcap:FILE or a pipe")
        self._store.open()
        self._say("pcap: packets are stored as captured, secrets in them are not redacted")
        await self._store.put(self._section())
        await self._store.flush()

    async def write(self, batch: Sequence[Entry]) -> None:
        if not self._store.resumes(batch):
            self._todo, self._at = batch, 0
        await self._store.flush()
        if self._store.room is None:
            blocks = b"".join(map(self._blocks, self._todo[self._at :]))
            self._at = len(self._todo)
            await self._store.put(blocks)
        else:
            await self._rotating()
        await self._store.flush()
        await self._store.done()
        self._todo = ()

    async def _rotating(self) -> None:
        """Entry by entry, since the file may end between any two."""
        store = self._store
        while self._at < len(self._todo):
            entry, room = self._todo[self._at], store.room
            if room is not None and self._size(entry) > room and self._numbers:
                await store.flush()
                await store.rotate()
                await store.put(self._section())
            self._at += 1
            await store.put(self._blocks(entry))

    @property
    def waits_for_reader(self) -> bool:
        return self._store.unread

    async def close(self) -> None:
        await self._store.close()

    # -- blocks

    def _section(self) -> bytes:
        self._numbers.clear()
        return _pcapng.section()

    def _blocks(self, entry: Entry) -> bytes:
        """An entry's packets, after the descriptions of interfaces that are new."""
        blocks: list[bytes] = []
        try:
            self._add(entry, blocks)
        except Exception as error:  # what came before stays: other packets may refer to it
            self._unshown(entry, error)
        return b"".join(blocks)

    def _add(self, entry: Entry, blocks: list[bytes]) -> None:
        comment = _comment(entry) if entry.packets else ""
        for packet in entry.packets:
            if (packet.iface, packet.linktype) not in self._numbers:
                blocks.append(self._interface(packet))
            number = self._numbers[packet.iface, packet.linktype]
            blocks.append(
                _pcapng.packet(number, packet.time_ns, packet.data, packet.wire_len, comment)
            )
            comment = ""

    def _size(self, entry: Entry) -> int:
        """Bytes that an entry's blocks may take, at most."""
        if not entry.packets:
            return 0
        try:
            packets = sum(len(p.data) + 100 + 4 * len(p.iface) for p in entry.packets)
            return 4 * len(_comment(entry)) + packets
        except Exception:
            return 0  # it cannot be stored either

    def _interface(self, packet: Packet) -> bytes:
        """Describe an interface; with too many of them a new section is begun."""
        described = _pcapng.interface(packet.iface, packet.linktype)
        begun = self._section() if len(self._numbers) >= PCAPNG_IFACES else b""
        self._numbers[packet.iface, packet.linktype] = len(self._numbers)
        return begun + described


def _comment(entry: Entry) -> str:
    """``f1-3 http GET /r -> 200 ok``"""
    request, response = entry.request, entry.response
    asked = "?" if request is None else question(request)[:ASKED_CHARS]
    status = f"{response.status} " if response is not None and response.status else ""
    return visible(f"{entry.id} {entry.protocol} {asked} -> {status}{entry.outcome.value}")


@hookimpl
def register_sinks() -> list[SinkSpec]:
    return [
        SinkSpec(
            name="pcap",
            make=Pcap,
            options=PcapOptions,
            doc="The packets of entries as pcapng, with a comment that names the entry",
            packets=True,
        )
    ]
