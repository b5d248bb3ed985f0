"""HTTP against Zeek: every line of its logs, and every file that it extracted, by hash and by byte."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracle import (
    CORPORA,
    Exchange,
    Found,
    Known,
    differences,
    exchanges,
    plain,
    plain_size,
    replayed,
    settle,
    shown_body,
)

pytestmark = pytest.mark.corpora

BASE = CORPORA / "zeek" / "Baseline"
HTTP = "scripts.base.protocols.http."
FILES = "scripts.base.frameworks.file-analysis."
GET = "http/get.pcap"
LOGS = {
    f"{HTTP}100-continue/http.log": "http/100-continue.pcap",
    f"{HTTP}101-switching-protocols/http.log": "http/websocket.pcap",
    f"{HTTP}http-09/http.log": "http/http_09.pcap",
    f"{HTTP}http-methods/http.log": "http/methods.pcap",
    f"{HTTP}http-pipelining/http.log": "http/pipelined-requests.pcap",
    f"{HTTP}multipart-extract/http.log": "http/multipart.pcap",
    f"{HTTP}multipart-file-limit/http.log": "http/multipart.pcap",
    f"{HTTP}multipart-file-limit/http-limited.log": "http/multipart.pcap",
    f"{HTTP}multipart-file-limit/http-limit-ignored.log": "http/multipart.pcap",
    f"{HTTP}upgrade-to-tcp/http.log.cut": "http/docker-http-upgrade.pcap",
    f"{HTTP}x-gzip/http.log": "http/x-gzip.pcap",
    "core.tcp.reassembly-known-ports/http.log": GET,
    "core.tunnels.analyzer-confirmation/http.log": "tunnels/vxlan-encapsulated-http.pcap",
    "javascript.http-uri-sha256/http.log": GET,
}
NOT_COMPARED = {"javascript.log-delay/http.log.cut": "a field of its own script beside addresses"}
UIDS = ("CHhAvVGS1DHFjwGM9", "ClEkJM2Vm5giqnMf4h", "C4J4Th3PJpwUYZZ6gc")
"""What Zeek's tests call the flows of a capture, in order."""
OURS = (
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "method",
    "host",
    "uri",
    "referrer",
    "version",
    "user_agent",
    "origin",
    "request_body_len",
    "response_body_len",
    "status_code",
    "status_msg",
    "info_code",
)
ONE = tuple((port, 1) for port in range(46567, 46608, 5))
NINE = tuple((port, 1) for port in range(46568, 46609, 5))
ORPHAN = ("method", "host", "uri")
DIFFERENCES = {
    "http/http_09.pcap": (
        Known(
            "HTTP/0.9 cannot be told from any line of text: the flow is shown as tcp",
            ("missing",),
            ((42960, 1), (42960, 2), (42964, 1), (42964, 2)),
        ),
    ),
    "http/methods.pcap": (
        Known(
            'the start line ends in "HTTP/1.", which is no version (RFC 9112 section 2.3)',
            ORPHAN,
            tuple(where for where in ONE if where != (46572, 1)),
        ),
        Known(
            "a start line without target is no request (RFC 9112 section 3)", ORPHAN, ((46563, 1),)
        ),
        Known(
            "Zeek takes a request without version for HTTP/0.9, so the whole answer for its body",
            (*ORPHAN, "version", "response_body_len", "status_code", "status_msg"),
            tuple(where for where in NINE if where != (46573, 1)),
        ),
    ),
}


def rows(log: str) -> Iterator[dict[str, str]]:
    """The lines of a log, tab-separated with a header, or JSON."""
    names: list[str] = []
    for line in (BASE / log).read_text().splitlines():
        if line.startswith("{"):
            yield {k: str(v) for k, v in json.loads(re.sub(r":X[X.]+", ":0", line)).items()}
        elif line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif not line.startswith("#"):
            cells = line.split("\t")
            if names:
                yield dict(zip(names, cells, strict=True))
            else:
                names = cells


def theirs(row: dict[str, str]) -> dict[str, object]:
    """A row with our types: numbers, None for what is unset."""
    found: dict[str, object] = {}
    for name in OURS:
        if name not in row:
            continue
        cell = row[name]
        number = name.endswith(("_len", "_code", "_p")) and cell.isdigit()
        found[name] = int(cell) if number else None if cell == "-" else cell
    return found


def ours(x: Exchange) -> dict[str, object]:
    """Our exchange by Zeek's names. Zeek takes the version from the answer, and the port off the host."""
    entry, asked, answered = x.entry, x.request, x.response
    interim = [n for n in (asked.notes if asked else []) if n.startswith("interim-")]
    status = answered.status if answered else None
    return {
        "id.orig_h": entry.src.ip,
        "id.orig_p": entry.src.port,
        "id.resp_h": entry.dst.ip,
        "id.resp_p": entry.dst.port,
        "method": asked and asked.method,
        "host": asked and asked.host and re.sub(r":\d+$", "", asked.host),
        "uri": x.uri,
        "referrer": x.header("referer"),
        "version": (answered or asked).version,  # type: ignore[union-attr]
        "user_agent": x.header("user-agent"),
        "origin": x.header("origin"),
        "request_body_len": plain_size(entry.request) if entry.request else 0,
        "response_body_len": plain_size(entry.response) if entry.response else 0,
        "status_code": status,
        "status_msg": answered and answered.reason,
        "info_code": int(interim[-1][8:]) if interim else 101 if status == 101 else None,
    }


def numbered(trace: str) -> dict[tuple[int, int], Exchange]:
    """Our exchanges by client port and their number in the flow, from 1."""
    found: dict[tuple[int, int], Exchange] = {}
    counts: dict[int, int] = {}
    for x in exchanges(f"zeek/Traces/{trace}"):
        port = x.entry.flow.client.port
        counts[port] = counts.get(port, 0) + 1
        found[port, counts[port]] = x
    return found


def compare(log: str, trace: str) -> Found:
    """All differences between a log and us, missing exchanges and new ones included."""
    mine = numbered(trace)
    ports = sorted({port for port, _ in mine})
    counts: dict[int, int] = {}
    found: Found = {}
    seen = set()
    for row in rows(log):
        port = int(row.get("id.orig_p") or ports[UIDS.index(row["uid"])])
        counts[port] = counts.get(port, 0) + 1
        where = (port, counts[port])
        seen.add(where)
        if where not in mine:
            found[where, "missing"] = (row, None)
            continue
        found |= differences(where, theirs(row), ours(mine[where]))
    for where in mine.keys() - seen:
        found[where, "new"] = (None, mine[where])
    return found


@pytest.mark.parametrize("log", LOGS)
def test_every_line_of_the_logs(corpora: Path, log: str) -> None:
    settle(compare(log, LOGS[log]), DIFFERENCES.get(LOGS[log], ()))


def test_no_log_is_forgotten(corpora: Path) -> None:
    there = {p.relative_to(BASE).as_posix() for p in BASE.rglob("http*.log*")}
    assert there == LOGS.keys() | NOT_COMPARED.keys()


# ---------------------------------------------------------------- bodies


def bodies(trace: str) -> list[bytes]:
    """Every body of a trace, decoded, in the order of exchanges, request first."""
    halves = [half for x in exchanges(f"zeek/Traces/{trace}") for half in x.entry_halves()]
    return [plain(half) for half in halves if half.body]


def extracted(test: str, name: str) -> bytes:
    """A file that Zeek extracted, without the line that its test suite puts in front."""
    data = (BASE / f"{FILES}{test}" / name).read_bytes()
    return data.partition(b"\n")[2] if data.startswith(b"### BTest") else data


WHOLE = {
    "http.get/1-file": (GET, 0),
    "http.get/2-file": ("http/get-gzip.pcap", 0),
    "http.pipeline/1-file": ("http/pipelined-requests.pcap", 0),
    "http.pipeline/2-file": ("http/pipelined-requests.pcap", 1),
    "http.pipeline/3-file": ("http/pipelined-requests.pcap", 2),
    "http.pipeline/4-file": ("http/pipelined-requests.pcap", 3),
    "http.pipeline/5-file": ("http/pipelined-requests.pcap", 4),
    "http.post/1-file": ("http/post.pcap", 0),
    "http.post/2-file": ("http/post.pcap", 1),
    "http.multipart/4-file": ("http/multipart.pcap", 1),
}


@pytest.mark.parametrize("file", WHOLE)
def test_extracted_files(corpora: Path, file: str) -> None:
    trace, number = WHOLE[file]
    assert bodies(trace)[number] == extracted(*file.split("/"))


@pytest.mark.parametrize("trace", sorted({trace for trace, _ in WHOLE.values()}))
def test_details_show_the_decoded_bodies(corpora: Path, trace: str) -> None:
    shown = [
        shown_body(half)
        for x in exchanges(f"zeek/Traces/{trace}")
        for half in (x.request, x.response)
        if half is not None and half.body
    ]
    assert shown == bodies(trace)


def test_the_parts_of_a_form_are_in_its_body(corpora: Path) -> None:
    form = bodies("http/multipart.pcap")[0]
    for number in (1, 2, 3):
        part = extracted("http.multipart", f"{number}-file")
        assert b"\r\n\r\n" + part + b"\r\n" in form


HASHED = {
    "bifs.register_mime_type/files.log": GET,
    "big-bof-buffer/files.log": GET,
    "logging/files.log": GET,
}


@pytest.mark.parametrize("log", HASHED)
def test_hashes_of_bodies(corpora: Path, log: str) -> None:
    (row,) = rows(FILES + log)
    (body,) = bodies(HASHED[log])
    assert int(row["seen_bytes"]) == int(row["total_bytes"]) == len(body)
    checked = [name for name in ("md5", "sha1", "sha256") if row[name] != "-"]
    assert "md5" in checked
    for name in checked:
        assert hashlib.new(name, body).hexdigest() == row[name]


def test_a_hole_in_a_body_has_its_size_and_place(corpora: Path) -> None:
    """Zeek: 1448 bytes missing; the file has what is before the hole, and what is after it."""
    (x,) = exchanges("zeek/Traces/http/entity_gap.pcap")
    data = (BASE / f"{HTTP}entity-gap/entity_data").read_text()
    missing = int(re.search(r"<(\d+) byte gap>", data)[1])  # type: ignore[index]
    assert x.entry.gap_bytes == missing
    assert x.entry.truncated
    assert x.entry.outcome == "ok"
    whole = (BASE / f"{HTTP}entity-gap/extract_files.file0").read_bytes().partition(b"\n")[2]
    assert x.response is not None
    assert x.response.body_size == len(whole)
    assert x.entry.response is not None
    kept = x.entry.response.body
    assert whole.startswith(kept)
    assert whole[len(kept) : len(kept) + missing] == bytes(missing)


def test_parts_of_a_file_over_two_flows(corpora: Path) -> None:
    """206: the ranges of both flows are the file, whose size Zeek gives."""
    size = int(extracted("http.partial-content", "a.size").split()[0])
    found = exchanges("zeek/Traces/http/206_example_a.pcap")
    assert [x.response and x.response.status for x in found] == [206, 206]
    sizes = [x.response.body_size for x in found if x.response]
    assert sum(sizes) == size
    ranges = [dict(x.response.headers)["content-range"] for x in found if x.response]
    spans = [re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", text) for text in ranges]
    assert [int(s[2]) - int(s[1]) + 1 for s in spans if s] == sizes


def test_ranges_of_one_answer(corpora: Path) -> None:
    """Zeek counts the bytes of the parts: ours are those and the lines between them."""
    (row,) = rows(f"{FILES}byteranges/files.log")
    (x,) = exchanges("zeek/Traces/http/byteranges.pcap")
    assert x.response is not None
    assert x.response.status == 206
    boundary = dict(x.response.headers)["content-type"].partition("boundary=")[2].encode()
    body = x.entry.response.body  # type: ignore[union-attr]
    assert len(body) == x.response.body_size
    parts = [p.partition(b"\r\n\r\n")[2] for p in body.split(b"\r\n--" + boundary)[1:]]
    assert sum(map(len, parts)) == int(row["seen_bytes"])


# ---------------------------------------------------------------- headers, flows


def test_headers_in_order(corpora: Path) -> None:
    """Zeek prints a table: number, original name and value of each header."""
    text = (BASE / f"{HTTP}all-headers-event/out").read_text()
    (x,) = exchanges(f"zeek/Traces/{GET}")
    blocks = text.split("http_all_headers\n")[1:]
    assert len(blocks) == 2
    for block, half in zip(blocks, (x.request, x.response), strict=True):
        found = re.findall(r"\[(\d+)\] = \[original_name=(.*?), name=.*?, value=(.*)\]", block)
        wanted = [(name.lower(), value) for _, name, value in sorted(found, key=by_number)]
        assert half is not None
        assert half.headers == wanted


def by_number(found: tuple[str, str, str]) -> int:
    return int(found[0])


@pytest.mark.parametrize(
    ("log", "trace"),
    [("core.tcp.missing-syn", "tcp/missing-syn"), ("core.history-flip", "tcp/missing-syn")],
)
def test_bytes_of_each_side(corpora: Path, log: str, trace: str) -> None:
    """conn.log: who is the client, and how much each side said; messages add up to the stream."""
    (row,) = rows(f"{log}/conn.log")
    (x,) = exchanges(f"zeek/Traces/{trace}.pcap")
    assert (row["id.orig_h"], int(row["id.orig_p"])) == (x.entry.src.ip, x.entry.src.port)
    assert row["service"] == "http"
    assert x.entry.request is not None
    assert x.entry.response is not None
    assert (x.entry.request.size, x.entry.response.size) == (98, 9417)
    assert (int(row["orig_bytes"]), int(row["resp_bytes"])) == (98, 9417)


@pytest.mark.parametrize("trace", ["http/get_nosyn.pcap", "tcp/handshake-reorder.pcap"])
def test_the_same_exchange_without_a_tidy_handshake(corpora: Path, trace: str) -> None:
    """get.pcap again, without its SYN, and with the handshake in the wrong order (Zeek flips it back)."""
    (clean,) = exchanges(f"zeek/Traces/{GET}")
    (x,) = exchanges(f"zeek/Traces/{trace}")
    assert differences(trace, ours(clean), ours(x)) == {}
    assert x.entry.midstream == (trace == "http/get_nosyn.pcap")


def test_pipelined_requests_in_order(corpora: Path) -> None:
    """Five answers, each between its question and the next one."""
    found = exchanges("zeek/Traces/http/pipelined-requests.pcap")
    times = [half.last_ns for x in found for half in x.entry_halves()]
    assert len(times) == 10
    assert times == sorted(times)
    assert all(x.entry.latency_ns for x in found)


def test_other_protocols_take_nothing_of_it(corpora: Path) -> None:
    """With every protocol looked for, the flows are HTTP's, even where a line looks like ``GET key``."""
    taken = {}
    for path in sorted((corpora / "zeek/Traces/http").glob("*.pcap")):
        _, entries = replayed(path)
        for entry in entries:
            if entry.protocol not in ("http", "tcp"):
                taken[path.name, entry.flow.client.port] = entry.protocol
    assert taken == {("websocket.pcap", 50798): "websocket"}  # after its upgrade
