"""What tshark makes of a capture, as rows to compare with: one subprocess, chosen fields, all occurrences."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shutil import which
from typing import Any, Final

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
    """Requests or responses: in frames that have the field `present`, our names by tshark's."""

    present: str
    fields: dict[str, str] = {}  # verb, target, status: a field, or "field[0]" within a group
    group: str = ""  # a field whose values say how many of the others' make one message
    bytes: bool = False  # values are hex digits


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """How a protocol is compared: ``[name]`` of a file for ``--map``, or ``TSHARK`` of a plugin's module."""

    filter: str
    decode_as: str = ""  # tshark's name, for ports that it does not know; of the filter by default
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
    for one in (*BASE, *wanted):
        command += ["-e", one]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "Running as user" not in line]
        raise PluginError(f"tshark ({name}): {' '.join(words)[:300]}")
    seen = Seen()
    for line in filter(None, done.stdout.split("\n")):
        cells = dict(zip((*BASE, *wanted), line.split(FIELD), strict=False))
        _take(cells, halves, seen)
    return seen


def _names(half: Half) -> Iterator[str]:
    yield half.present
    if half.group:
        yield half.group
    for one in half.fields.values():
        yield one.partition("[")[0]


def _take(cells: Mapping[str, str], halves: Mapping[str, Half], seen: Seen) -> None:
    """The messages of one frame."""

    def place(end: str) -> str:
        host = (cells[f"ip.{end}"] or cells[f"ipv6.{end}"]).split(VALUE)[-1]
        port = cells[f"tcp.{end}port"] or cells[f"udp.{end}port"]
        return f"{host} {port.split(VALUE)[-1]}"

    source, target = place("src"), place("dst")
    frame = int(cells["frame.number"])
    for sign in BASE[9:]:
        if cells[sign]:
            seen.doubts.setdefault(frozenset((source, target)), f"{sign} in frame {frame}")
    for name, half in halves.items():
        if cells[half.present]:
            for values in _messages(cells, half):
                seen.messages.append(Theirs(frame, source, target, name, values))


def _messages(cells: Mapping[str, str], half: Half) -> Iterator[dict[str, str]]:
    """The values of each message in a frame."""
    lists = {
        n: _values(cells[n], half) for n in {one.partition("[")[0] for one in half.fields.values()}
    }
    if not half.group:
        for at in range(len(cells[half.present].split(VALUE))):
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
