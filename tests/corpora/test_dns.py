"""DNS against Arkime, Zeek, DeepFlow, Packetbeat, Kindling and tshark, field by field; and nothing else is DNS."""

from __future__ import annotations

import json
import operator
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import cache
from shutil import which
from typing import Any

import pytest
import yaml
from oracle import CAPTURES, CORPORA, Found, Known, differences, replayed, settle

from kshark._tshark import table_of
from kshark.api import Entry, Message, Side
from kshark.plugins import load
from kshark.protocols.dns import DATAGRAMS, SPEC
from kshark.protocols.dns.details import TSHARK, DnsMessage, DnsRecord, details
from kshark.testing import converse
from kshark.verify import compare, entries_of

pytestmark = [pytest.mark.corpora, pytest.mark.usefixtures("corpora")]


@cache
def entries(name: str) -> tuple[Entry, ...]:
    """The entries of DNS of a capture."""
    _, found = replayed(CORPORA / name)
    return tuple(entry for entry in found if entry.protocol == "dns")


def shown(entry: Entry) -> DnsMessage:
    """Details of the response, or of the request where there is none."""
    half = entry.response or entry.request
    assert half is not None
    return details(half)


def records(message: DnsMessage) -> list[DnsRecord]:
    return [*message.answers, *message.authority, *message.additional]


# ---------------------------------------------------------------- Arkime

ARKIME = sorted(name for name in CAPTURES if name.startswith("arkime/dns-"))
LOCAL = ("arkime/v6-http.pcap", "arkime/curl-enabled-tls13.pcap")
KNOWN_ARKIME = (
    Known("its name of the code; IANA and RFC 2136 have NOTIMP", ("status",), ("arkime/dns-update.pcap 51031",)),
    Known(
        "it shows internationalised names decoded; we show what was sent", ("answers", "queryHost"),
        ("arkime/dns-punycode.pcap 48297",),
    ),
)  # fmt: skip


def as_arkime(entry: Entry) -> dict[str, Any]:
    """An entry in its words."""
    said = shown(entry)
    assert said.flags is not None
    names = ("aa", "tc", "rd", "ra", "ad", "cd")
    flags = sorted(n.upper() for n in names if getattr(said.flags, n)) if entry.response else []
    found = {
        "queryHost": root(said.name.lower()),
        "qt": said.type,
        "qc": said.rclass,
        "opcode": said.opcode,
        "status": said.rcode or None,
        "headerFlags": flags,
        "answers": sorted(json.dumps(answer(r), sort_keys=True) for r in records(said)),
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def answer(record: DnsRecord) -> dict[str, Any]:
    """A record in its words."""
    found: dict[str, Any] = {
        "class": record.rclass,
        "name": root(record.name),
        "ttl": record.ttl,
        "type": record.type,
    }
    one = record.data
    if record.type in ("A", "AAAA"):
        found["ip"] = one
    elif record.type == "CNAME":
        found["cname"] = one
    elif record.type == "NS":
        found["nameserver"] = one
    elif record.type == "MX":
        found["priority"], found["mx"] = int(one.split()[0]), one.split()[1]
    elif record.type in ("CAA", "HTTPS"):
        found[record.type.lower()] = f"{record.type} {one.replace(chr(34), '')}"
    return found


def root(name: str) -> str:
    return "<root>" if name == "." else name


@pytest.mark.parametrize("name", ARKIME)
def test_arkime(name: str) -> None:
    ours = {}
    for entry in entries(name):
        for end in (entry.flow.client, entry.flow.server):
            if entry.response or end.port not in ours:
                ours[end.port] = as_arkime(entry)
    found: Found = {}
    sessions = json.loads((CORPORA / name).with_suffix(".test").read_text())["sessions3"]
    for session in sessions:
        body = session["body"]
        port = body["source"]["port"]
        [theirs] = body["dns"]
        wanted = {
            k: v
            for k, v in theirs.items()
            if k in ("queryHost", "qt", "qc", "opcode", "status", "headerFlags")
        }
        if theirs.get("answers"):
            wanted["answers"] = sorted(json.dumps(one, sort_keys=True) for one in theirs["answers"])
        wanted["headerFlags"] = sorted(wanted.get("headerFlags", [])) or None
        wanted = {key: value for key, value in wanted.items() if value}
        found |= differences(f"{name} {port}", wanted, ours[port])
    settle(found, [k for k in KNOWN_ARKIME if k.where[0].startswith(name)])  # type: ignore[attr-defined]


# ---------------------------------------------------------------- Zeek


def zeek_rows(name: str) -> list[dict[str, str]]:
    fields: list[str] = []
    rows = []
    for line in (CORPORA / "zeek" / "Baseline" / name).read_text().splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            rows.append({k: v for k, v in zip(fields, line.split("\t"), strict=True) if v != "-"})
    return rows


@pytest.mark.parametrize(
    ("log", "capture"),
    [
        (
            "scripts.base.protocols.dns.dynamic-update/dns.log",
            "zeek/Traces/dns/dynamic-update.pcap",
        ),
        ("scripts.base.protocols.dns.tkey/dns.log", "zeek/Traces/dns/tkey.pcap"),
    ],
)
def test_zeek(log: str, capture: str) -> None:
    found: Found = {}
    for row, entry in zip(zeek_rows(log), entries(capture), strict=True):
        said = shown(entry)
        update = said.opcode == "UPDATE"  # it shows the first prerequisite, and no question
        ours = {
            "trans_id": str(said.id),
            "proto": entry.flow.transport,
            "id.orig_p": str(entry.src.port),
            "id.resp_h": entry.dst.ip,
            "query": said.answers[0].name.lower() if update and said.answers else said.name,
            "rcode_name": said.rcode,
        }
        if not update:
            ours |= {"qtype_name": said.type}
        elif entry.request is not None:
            asked = details(entry.request)
            ours["query"] = asked.answers[0].name.lower()
            ours["answers"] = ",".join(map(changed, [*asked.answers, *asked.authority]))
        theirs = {key: value for key, value in row.items() if key in ours}
        found |= differences(f"{capture} {said.id}", theirs, ours)
    settle(found, [])


def changed(record: DnsRecord) -> str:
    """A prerequisite or a change of an update in its words."""
    if record.rclass == "NONE" and not record.data:
        return f"pre: NoRRSet {record.type} {record.name.lower()}"
    if record.rclass == "ANY":
        return f"del: RRSet {record.type}"
    return f"add: {record.type} {record.name.lower()} {record.data}"


def test_zeek_naptr_and_extended_code() -> None:
    [entry] = entries("zeek/Traces/dns/naptr.pcap")
    assert [r.data.replace('"', "") for r in shown(entry).answers] == [
        "100 100 s SIPS+D2T  _sips._tcp.fp-de-carrier-vodafone.rcs.telephony.goog"
    ]
    [entry] = entries("zeek/Traces/dns/dns_extended_rcode.pcap")
    assert (shown(entry).rcode, entry.response and entry.response.status) == ("BADVERS", 16)


# ---------------------------------------------------------------- DeepFlow

DEEPFLOW = sorted(name for name in CAPTURES if name.startswith("deepflow/dns/"))


@pytest.mark.parametrize("name", DEEPFLOW)
def test_deepflow(name: str) -> None:
    """Each message: id, type, name, code, and whether it is an error."""
    theirs: list[tuple[Any, ...]] = []
    for line in (CORPORA / name).with_suffix(".result").read_text().splitlines():
        said, _ = json.JSONDecoder().raw_decode(line)
        code = said.get("response_code", 0) if said["msg_type"] == "Response" else None
        theirs.append((said["request_id"], said["request_type"], said["request_resource"], code))
    ours: list[tuple[Any, ...]] = []
    for entry in entries(name):
        for half in (entry.request, entry.response):
            if half is not None:
                one = details(half)
                code = half.status if half is entry.response else None
                ours.append((one.id, one.type, one.name, code))
    assert sorted(ours, key=str) == sorted(theirs, key=str)


# ---------------------------------------------------------------- Packetbeat

PACKETBEAT = sorted(name for name in CAPTURES if name.startswith("packetbeat/pcaps/dns_"))
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "contains": lambda have, value: value in have,
}
NOT_OURS = re.compile(
    r"type$|network\.(bytes|community_id|protocol|type)|event\.|related|(source|client|server|destination|method|query"
    r"|resource|request|response)\b|\.(etld|registered|subdomain|top_level)|status$"
)
"""What says nothing of the message, or is asked of the entry above."""


def as_packetbeat(entry: Entry) -> dict[str, Any]:
    said = shown(entry)
    edns = said.edns
    return {
        "network.transport": entry.flow.transport,
        "dns.question.type": said.type,
        "dns.question.name": said.name,
        "dns.response_code": said.rcode,
        "dns.answers_count": len(said.answers),
        "dns.authorities_count": len(said.authority),
        "dns.additionals_count": len(said.additional),
        "dns.answers": [{"data": r.data, "type": r.type, "name": r.name} for r in said.answers],
        "dns.additionals": [{"data": r.data} for r in said.additional],
        "dns.id": said.id,
        "dns.opt.do": edns and edns.dnssec,
        "dns.opt.version": edns and str(edns.version),
        "dns.opt.udp_size": edns and edns.size,
        "status": "OK" if entry.outcome == "ok" else "Error",
        "query": f"class {said.rclass}, type {said.type}, {said.name}",
        "method": said.opcode,
    }


@pytest.mark.parametrize("name", PACKETBEAT)
def test_packetbeat(name: str) -> None:
    compared = 0
    [entry] = entries(name)
    ours = as_packetbeat(entry)
    expected = json.loads((CORPORA / "packetbeat" / "expected.json").read_text())
    for one in expected[name.rpartition("/")[2]]:
        for asked in one["expect"]:
            field = (asked.get("field") or asked.get("len_of") or [""])[0]
            if field not in ours or asked["op"] not in OPERATORS:
                continue
            have = len(ours[field]) if "len_of" in asked else ours[field]
            if field == "dns.additionals_count" and entry.response and not asked.get("value"):
                continue
            assert OPERATORS[asked["op"]](have, asked["value"]), (field, have, asked)
            compared += 1
    assert compared


# ---------------------------------------------------------------- Kindling


def test_kindling() -> None:
    trace = yaml.safe_load((CORPORA / "kindling/dns/client-trace-dns3.yml").read_text())["trace"]
    [wanted] = [one["Labels"] for one in trace["expects"]]

    def data(half: str) -> bytes:
        [raw] = trace[half][0]["user_attributes"]["data"]
        return bytes.fromhex(raw.removeprefix("hex|"))

    asked = data("requests")[4:]  # sendmmsg: its own length in front
    [entry] = converse(DATAGRAMS, [(Side.CLIENT, asked), (Side.SERVER, data("responses"))])
    said = shown(entry)
    assert entry.response is not None
    assert entry.response.status == wanted["dns_rcode"]
    assert (said.id, f"{said.name}.") == (wanted["dns_id"], wanted["dns_domain"])
    assert said.addresses[0] == wanted["dns_ip"]
    assert (
        entry.outcome == "error"
    )  # it says is_error: false of an NXDOMAIN; the issue wants an error


# ---------------------------------------------------------------- tshark, over every capture

FIELDS = (
    "dns.id", "dns.flags.response", "dns.qry.name", "dns.flags.rcode", "dns.count.answers", "dns.count.auth_rr",
    "dns.count.add_rr", "dns.a", "dns.aaaa", "dns.count.prerequisites", "dns.count.updates",
)  # fmt: skip
SHOWN = "(dns or mdns or llmnr) and not http2"
"""What is inside HTTP/2 (DNS over HTTPS) is a body of that protocol to us."""


def halves(found: tuple[Entry, ...]) -> list[Message]:
    return [half for e in found for half in (e.request, e.response) if half is not None]


def ours_as_rows(found: tuple[Entry, ...]) -> Counter[tuple[str, ...]]:
    rows: Counter[tuple[str, ...]] = Counter()
    for half in halves(found):
        said = details(half)
        response = bool(said.rcode)
        extra = len(said.additional) + (said.edns is not None)
        addresses = [
            sorted(r.data for r in records(said) if r.type == kind and r.data)
            for kind in ("A", "AAAA")
        ]
        code = half.status & 15 if response else ""
        name = "<Root>" if said.name == "." else said.name
        rows[
            (
                str(said.id), str(int(response)), name, str(code), str(len(said.answers)),
                str(len(said.authority)), str(extra), *map(",".join, addresses),
            )
        ] += 1  # fmt: skip
    return rows


def tshark_rows(name: str) -> Counter[tuple[str, ...]]:
    command = [
        "tshark",
        "-n",
        "-r",
        str(CORPORA / name),
        "-Y",
        SHOWN,
        "-T",
        "fields",
    ]
    command += ["-E", "separator=/t", "-E", "aggregator=,", *(f"-e{field}" for field in FIELDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows: Counter[tuple[str, ...]] = Counter()
    for line in done.stdout.splitlines():
        cells = line.split("\t")
        flat = [int(cells[0].split(",")[0], 16), *cells[1:]]
        if "," in cells[0]:
            continue  # two messages in a segment: compared by DeepFlow's result
        addresses = [",".join(sorted(filter(None, cell.split(",")))) for cell in cells[7:9]]
        names = cells[2].split(",")[0]
        counts = [
            cells[4] or cells[9],
            cells[5] or cells[10],
            cells[6],
        ]  # an update has names of its own
        rows[(str(flat[0]), cells[1], names, cells[3], *counts, *addresses)] += 1
    return rows


@pytest.mark.skipif(which("tshark") is None, reason="tshark is not installed: make tools")
def test_tshark() -> None:
    """Every message that tshark finds in any capture is one of ours with the same facts, and the other way round."""
    compared, wrong = 0, []
    for name in CAPTURES:
        ours = ours_as_rows(entries(name))
        if not ours and not re.search("dns|v6|curl", name):
            continue
        theirs = tshark_rows(name)
        compared += sum(theirs.values())
        wrong += [f"{name}: tshark alone: {row}" for row in theirs - ours]
        if "multi" not in name:
            wrong += [f"{name}: ours alone: {row}" for row in ours - theirs]
    assert wrong == []
    assert compared > 60


@pytest.mark.skipif(which("tshark") is None, reason="tshark is not installed: make tools")
@pytest.mark.parametrize("name", [*ARKIME, *DEEPFLOW])
def test_verify(name: str) -> None:
    """``kshark verify`` knows which of tshark's fields are ours."""
    path = str(CORPORA / name)
    result = compare(path, SPEC, table_of(TSHARK, "dns"), entries_of(path, load(), {}))
    assert (result.differences, result.same > 0) == ([], True)


# ---------------------------------------------------------------- nothing else is DNS

PORTS = {53, 5353, 5355}


def test_nothing_else_is_taken_for_dns() -> None:
    """No port was asked for the verdict, and yet all of DNS is on its ports; and all there is DNS."""
    strange, missed = [], []
    for name in CAPTURES:
        _, found = replayed(CORPORA / name)
        for entry in found:
            at_port = bool(PORTS & {entry.flow.client.port, entry.flow.server.port})
            if entry.protocol == "dns" and not at_port:
                strange.append((name, entry.flow))
            if entry.protocol in ("udp", "tcp") and at_port and entry.flow.reason != "no payload":
                missed.append((name, entry.flow))
    assert strange == []
    assert missed == []
