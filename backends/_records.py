"""Walk the records of a capture file in a buffer: one index record (`kshark.api.INDEX_FORMAT`) a packet.

The plain twin of ``_records.pyx``, which takes this module's place where it is compiled. Both take only
what is whole and sound and stop at the first record that is not; the caller says why (`_classic`,
`_pcapng`). Nothing is read outside ``data[start:end]``, no more is written than the index holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

from kshark.api import INDEX_FORMAT
from kshark.limits import PACKET_BYTES

COMPILED: Final = False
INDEX: Final = Struct(INDEX_FORMAT)
ROW: Final = 5
"""Numbers an interface has in the table of `walk_pcapng`: linktype, snaplen, times, over, offset."""

SECTION, INTERFACE, OBSOLETE, SIMPLE, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 5, 6
SECRETS = 10
"""pcapng block types, draft-ietf-opsawg-pcapng section 10.1 (obsolete packet block: appendix A)."""

_PLACE = Struct("<qIII4x")  # an index record of the first interface, without flags
_NEWEST, _OLDEST = 2**63 - 1, -(2**63)
_RECORD = {big: Struct((">" if big else "<") + "IIII") for big in (False, True)}
_ENHANCED = {big: Struct((">" if big else "<") + "8xIIIII") for big in (False, True)}
_PAIR = {big: Struct((">" if big else "<") + "II") for big in (False, True)}
_WORD = {big: Struct((">" if big else "<") + "I") for big in (False, True)}


def walk_pcap(
    data: Any, start: int, end: int, index: Any, head: int, big: bool, scale: int
) -> tuple[int, int]:
    """Index the classic records of ``data[start:end]``; give their count and where the walk stopped.

    `head` is the size of a record's header (16, or 24 with Kuznetzov's magic), `scale` the ns of one
    unit of its second word (1000 or 1).
    """
    unpack, pack, longest = _RECORD[big].unpack_from, _PLACE.pack_into, PACKET_BYTES
    at, last, second, base = start, end - head, 0, 0
    slots = range(0, len(index) - INDEX.size + 1, INDEX.size)
    for slot in slots:
        if at > last:
            break
        seconds, parts, captured, wire = unpack(data, at)
        body = at + head
        after = body + captured
        if captured > longest or after > end:
            break
        if seconds != second:
            second, base = seconds, seconds * 1_000_000_000
        pack(index, slot, base + parts * scale, body, captured, wire)
        at = after
    else:
        return len(slots), at
    return slot // INDEX.size, at


def walk_pcapng(
    data: Any,
    start: int,
    end: int,
    index: Any,
    table: Sequence[int],
    big: bool,
    count: int,
    last: int,
) -> tuple[int, int]:
    """Index the packet blocks of ``data[start:end]`` after the `count` that are there; skip unknown ones.

    Stops at a section header, interface, statistics or secrets block, at an unsound or incomplete one, and at
    a packet of another linktype than those before it. `table` has `ROW` numbers an interface; a
    timestamp becomes ``stamp * times // over + offset``, held within 63 bits. A simple packet block
    has no time and gets its predecessor's; `last` is that of the one before the first.
    """
    pair, word, rows = _PAIR[big].unpack_from, _WORD[big].unpack_from, len(table) // ROW
    packet, pack, most = _ENHANCED[big].unpack_from, INDEX.pack_into, len(index) - INDEX.size
    at, slot, linktype, known = start, count * INDEX.size, -1, -1
    if count:
        last, _, _, _, iface, _ = INDEX.unpack_from(index, slot - INDEX.size)
        linktype = table[iface * ROW]
    while at + 12 <= end:
        kind, total = pair(data, at)
        if (
            kind in (SECTION, INTERFACE, STATISTICS, SECRETS)
            or total < 12
            or total & 3
            or at + total > end
        ):
            break
        if word(data, at + total - 4)[0] != total:
            break
        if kind in (ENHANCED, SIMPLE, OBSOLETE):
            # `left` is what is left for the packet after the block's fixed part and its trailer.
            left = total - (16 if kind == SIMPLE else 32)
            if left < 0 or slot > most:
                break
            if kind == SIMPLE:
                iface, body = 0, at + 12
                wire = captured = word(data, at + 8)[0]
            else:
                iface, high, low, captured, wire = packet(data, at)
                body = at + 28
            if kind == OBSOLETE:  # two 16-bit numbers in the file's order: interface, drops
                iface = iface >> 16 if big else iface & 0xFFFF
            if iface >= rows:
                break
            if iface != known:
                known = iface
                this, snaplen, times, over, offset = table[iface * ROW : iface * ROW + ROW]
            if kind == SIMPLE:
                captured = min(captured, left, snaplen or captured)
            if captured > left or captured > PACKET_BYTES or linktype not in (-1, this):
                break
            linktype = this
            if kind != SIMPLE:
                last = (high << 32 | low) * times // over
                last = (last if last < _NEWEST else _NEWEST) + offset
                if not _OLDEST <= last <= _NEWEST:
                    last = _NEWEST if last > 0 else _OLDEST
            pack(index, slot, last, body, captured, wire, iface, 0)
            slot += INDEX.size
        at += total
    return slot // INDEX.size, at
