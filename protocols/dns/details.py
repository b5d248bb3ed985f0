"""The typed schema of DNS, made from the bytes of a message when somebody asks."""

from __future__ import annotations

from typing import Annotated, Final

from kshark import limits
from kshark.api import Details, DissectError, Message, Redact, doc

from .codes import OPCODES, OPT, class_name, rcode_name, type_name
from .edns import DnsEdns, edns
from .names import Names
from .rdata import rdata
from .records import SHORTEST, Header, Part, header, parts
from .second_opinion import TSHARK as TSHARK

RECORDS: Final = limits.DNS_RECORDS
UNICAST: Final = 0x8000
ADDRESSES: Final = (1, 28)


class DnsQuestion(Details):
    """What is asked."""

    name: Annotated[str, doc("Domain name; \\. and \\000 where a label has odd bytes")] = ""
    type: Annotated[str, doc("A, AAAA ...; TYPE1234 where it has no name")] = ""
    rclass: Annotated[str, doc("Class: IN, as a rule")] = ""
    unicast: Annotated[bool, doc("Multicast DNS: the answer is wanted by unicast (QU)")] = False


class DnsRecord(Details):
    """A resource record."""

    name: Annotated[str, doc("Whose it is")] = ""
    type: Annotated[str, doc("A, AAAA ...; TYPE1234 where it has no name")] = ""
    rclass: Annotated[str, doc("Class: IN, as a rule")] = ""
    ttl: Annotated[int, doc("Seconds for which it may be kept")] = 0
    data: Annotated[
        str,
        doc("As zone files write it; \\# and hex digits where that is unknown", redact=Redact.BODY),
    ] = ""
    flush: Annotated[bool, doc("Multicast DNS: older records are void")] = False


class DnsFlags(Details):
    """The bits of the header."""

    aa: Annotated[bool, doc("The server is an authority")] = False
    tc: Annotated[bool, doc("The message did not fit")] = False
    rd: Annotated[bool, doc("Recursion is desired")] = False
    ra: Annotated[bool, doc("The server does recursion")] = False
    ad: Annotated[bool, doc("The server has verified the signatures")] = False
    cd: Annotated[bool, doc("The client verifies signatures itself")] = False


class DnsMessage(Details):
    """A query or a response: their fields are the same."""

    id: Annotated[int, doc("What joins a response to its query")] = 0
    opcode: Annotated[str, doc("QUERY, NOTIFY, UPDATE ...")] = ""
    rcode: Annotated[
        str, doc("Of a response: NOERROR, NXDOMAIN, SERVFAIL ... (those of EDNS, too)")
    ] = ""
    name: Annotated[str, doc("Name of the first question", otel="dns.question.name")] = ""
    type: Annotated[str, doc("Type of the first question")] = ""
    rclass: Annotated[str, doc("Class of the first question")] = ""
    flags: Annotated[DnsFlags | None, doc("The bits of the header")] = None
    addresses: Annotated[
        list[str], doc("Addresses among the answers (A and AAAA)", otel="dns.answers")
    ] = []
    questions: Annotated[list[DnsQuestion], doc("All questions; nearly always one")] = []
    answers: Annotated[list[DnsRecord], doc("Answers; in an update, what must be so")] = []
    authority: Annotated[list[DnsRecord], doc("Who knows better; in an update, the changes")] = []
    additional: Annotated[list[DnsRecord], doc("What may be of use, without EDNS")] = []
    edns: Annotated[DnsEdns | None, doc("What the sender can do beyond RFC 1035")] = None
    notes: Annotated[list[str], doc("What is odd or was cut")] = []


def details(message: Message) -> DnsMessage:
    """The typed details of one message."""
    found = described(message.head)
    found.notes = [*message.notes, *found.notes]
    return found


def described(data: bytes) -> DnsMessage:
    """Everything that these bytes say."""
    try:
        head = header(data)
    except DissectError as error:
        return DnsMessage(notes=[str(error)])
    found = begun(head)
    names = Names(data)
    sections = (found.answers, found.authority, found.additional)
    number, end, rcode = 0, SHORTEST, head.rcode
    try:
        for number, part in enumerate(parts(data)):
            if number >= RECORDS:
                found.notes.append(f"more than {RECORDS} records")
                break
            end = part.end
            if not part.section:
                found.questions.append(question(names, part))
            elif part.type == OPT and part.section == 3:
                found.edns = edns(data, part)
                rcode |= part.ttl >> 24 << 4
            else:
                sections[part.section - 1].append(record(names, part))
                if part.section == 1 and part.type in ADDRESSES and head.response:
                    found.addresses.append(found.answers[-1].data)
        else:
            if end < len(data):
                found.notes.append(f"{len(data) - end} bytes after the last record")
    except DissectError as error:
        found.notes.append(str(error))
    if found.questions:
        first = found.questions[0]
        found.name, found.type, found.rclass = first.name, first.type, first.rclass
    if head.response:
        found.rcode = rcode_name(rcode)
    return found


def begun(head: Header) -> DnsMessage:
    """What the header says."""
    bits = [bool(head.flags >> shift & 1) for shift in (10, 9, 8, 7, 5, 4)]
    flags = DnsFlags(aa=bits[0], tc=bits[1], rd=bits[2], ra=bits[3], ad=bits[4], cd=bits[5])
    return DnsMessage(
        id=head.id,
        opcode=OPCODES.get(head.opcode, f"OPCODE{head.opcode}"),
        flags=flags,
        questions=[],
        answers=[],
        authority=[],
        additional=[],
        addresses=[],
        notes=[],
    )


def question(names: Names, part: Part) -> DnsQuestion:
    """One question."""
    local = bool(part.cls & UNICAST) and not names.data[0] | names.data[1]
    return DnsQuestion(
        name=names.read(part.at)[0],
        type=type_name(part.type),
        rclass=class_name(part.cls & ~UNICAST if local else part.cls),
        unicast=local,
    )


def record(names: Names, part: Part) -> DnsRecord:
    """One record."""
    local = bool(part.cls & UNICAST) and not names.data[0] | names.data[1]
    return DnsRecord(
        name=names.read(part.at)[0],
        type=type_name(part.type),
        rclass=class_name(part.cls & ~UNICAST if local else part.cls),
        ttl=part.ttl,
        data=rdata(names, part.type, part.start, part.end),
        flush=local,
    )
