"""What tshark makes of a capture, as rows to compare with: one subprocess, chosen fields, all occurrences."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shutil import which
from typing import Any, Final, Literal

import msgspec

from kshark.api import PluginError

FIELD, VALUE = "\x1f", "\x1e"  # between fields, and between the values of one
BASE: Final = (
    "frame.number", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "tcp.srcport", "udp.srcport", "tcp.dstport",
    "udp.dstport", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment", "_ws.malformed",
)  # fmt: skip
PORTS: Final = 20
"""Ports that tshark is told of: those where kshark found the protocol."""


class Half(msgspec.Struct, forbid_unknown_fields=True):
    """Requests or responses: in frames that have the field `present`, our names by tshark's.

    `values` translates: ``{"verb": {"3": "READ"}}``. A message with a value that is not listed is none of this half,
    unless "*" is listed: ``{"target": {"<Root>": ".", "*": ""}}`` leaves the others as they are.
    """

    present: str
    fields: dict[str, str] = {}  # verb, target, status: a field, or "field[0]" within a group
    group: str = ""  # a field whose values say how many of the others' make one message
    only: dict[str, str] = {}  # tshark's fields: a message with another value is none of this half
    bytes: bool = False  # values are hex digits
    sent_by: Literal["", "client", "server"] = (
        ""  # only what this side sent, where both have the field
    )
    values: dict[str, dict[str, str]] = {}  # by our names: tshark's value to ours


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """How a protocol is compared: ``[name]`` of a file for ``--map``, or ``TSHARK`` of a plugin's module."""

    filter: str
    decode_as: str = ""  # tshark's name, for ports that it does not know; of the filter by default
    port_preference: str = ""  # tshark's, where it tells the sides apart by it: "mbtcp.tcp.port"
    request: Half | None = None
    response: Half | None = None


BUILT_IN: Final[Mapping[str, Table]] = {
    "http": Table(
        filter="http",
        request=Half(
            "http.request.method", {"verb": "http.request.method", "target": "http.request.uri"}
        ),
        response=Half("http.response.code", {"status": "http.response.code"}),
    ),
    "redis": Table(
        filter="resp",
        request=Half(
            "resp.array.length",
            {"verb": "resp.bulk_string.value[0]"},
            "resp.array.length",
            bytes=True,
        ),
    ),
}


@dataclass(slots=True)
class Theirs:
    """One message as tshark sees it."""

    frame: int
    source: str
    target: str
    half: str
    values: dict[str, str]


@dataclass(slots=True)
class Seen:
    """Everything that tshark said."""

    messages: list[Theirs] = field(default_factory=list)
    doubts: dict[frozenset[str], str] = field(default_factory=dict)  # flows where it lost bytes


def table_of(given: Any, where: str) -> Table:
    """A table from plain values; what is wrong with it is one line."""
    try:
        return msgspec.convert(given, Table)
    except msgspec.ValidationError as error:
        raise PluginError(f"{where}: {error}") from None


def read(path: str, name: str, table: Table, ports: Sequence[int], transport: str) -> Seen:
    """Run tshark over a file."""
    program = which("tshark")
    if program is None:
        raise PluginError("tshark is not installed: apt install tshark")
    halves = {k: h for k, h in (("request", table.request), ("response", table.response)) if h}
    wanted = list(dict.fromkeys(n for half in halves.values() for n in _names(half)))
    command = [program, "-n", "-r", path, "-Y", table.filter, "-T", "fields"]
    command += ["-E", f"separator={FIELD}", "-E", f"aggregator={VALUE}", "-E", "occurrence=a"]
    for port in ports[:PORTS]:
        command += ["-d", f"{transport}.port=={port},{table.decode_as or table.filter.split()[0]}"]
    if table.port_preference and ports:
        command += ["-o", f"{table.port_preference}:{','.join(map(str, ports[:PORTS]))}"]
    for one in (*BASE, *wanted):
        command += ["-e", one]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "Running as user" not in line]
        raise PluginError(f"tshark ({name}): {' '.join(words)[:300]}")
    seen = Seen()
    for line in filter(None, done.stdout.split("\n")):
        cells = dict(zip((*BASE, *wanted), line.split(FIELD), strict=False))
        _take(cells, halves, seen, frozenset(map(str, ports)))
    return seen


def _names(half: Half) -> Iterator[str]:
    yield half.present
    if half.group:
        yield half.group
    yield from half.only
    for one in half.fields.values():
        yield one.partition("[")[0]


def _take(
    cells: Mapping[str, str], halves: Mapping[str, Half], seen: Seen, servers: frozenset[str]
) -> None:
    """The messages of one frame; `servers` are the ports at which kshark found the protocol."""

    def place(end: str) -> str:
        host = (cells[f"ip.{end}"] or cells[f"ipv6.{end}"]).split(VALUE)[-1]
        port = cells[f"tcp.{end}port"] or cells[f"udp.{end}port"]
        return f"{host} {port.split(VALUE)[-1]}"

    source, target = place("src"), place("dst")
    frame = int(cells["frame.number"])
    for sign in BASE[9:]:
        if cells[sign]:
            seen.doubts.setdefault(frozenset((source, target)), f"{sign} in frame {frame}")
    ends = {"client": target, "server": source}  # which of them is the server, by who sent it
    for name, half in halves.items():
        if cells[half.present] and _sent(half, ends, servers):
            for found in _messages(cells, half):
                if (values := _translated(half, found)) is not None:
                    seen.messages.append(Theirs(frame, source, target, name, values))


def _sent(half: Half, ends: Mapping[str, str], servers: frozenset[str]) -> bool:
    """Whether the side that this half asks for sent the frame; yes, where that cannot be told."""
    ports = {side: place.rpartition(" ")[2] in servers for side, place in ends.items()}
    return not half.sent_by or ports["client"] == ports["server"] or ports[half.sent_by]


def _translated(half: Half, found: dict[str, str]) -> dict[str, str] | None:
    """The values as ours; None where one of them is not of this half."""
    for name, words in half.values.items():
        if name in found:
            if found[name] in words:
                found[name] = words[found[name]]
            elif "*" not in words:
                return None
    return found


def _messages(cells: Mapping[str, str], half: Half) -> Iterator[dict[str, str]]:
    """The values of each message in a frame."""
    lists = {
        n: _values(cells[n], half) for n in {one.partition("[")[0] for one in half.fields.values()}
    }
    if not half.group:
        wanted = [(cells[field].split(VALUE), value) for field, value in half.only.items()]
        for at in range(len(cells[half.present].split(VALUE))):
            if any(found[at : at + 1] != [value] for found, value in wanted):
                continue
            yield {ours: lists[n][at] for ours, n in half.fields.items() if at < len(lists[n])}
        return
    start = 0
    for size in (int(text) for text in cells[half.group].split(VALUE) if text.isdigit()):
        found = {}
        for ours, one in half.fields.items():
            base, _, rest = one.partition("[")
            at = start + (int(rest.rstrip("]")) if rest else 0)
            if at < min(start + size, len(lists[base])):
                found[ours] = lists[base][at]
        yield found
        start += size


def _values(text: str, half: Half) -> list[str]:
    values = text.split(VALUE)
    if not half.bytes:
        return values
    return [_unhex(value) for value in values]


def _unhex(value: str) -> str:
    digits = re.sub(r"[:\s]", "", value)
    try:
        return bytes.fromhex(digits).decode("utf-8", "replace")
    except ValueError:
        return value
